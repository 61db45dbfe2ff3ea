//! Who may have how many calls to the authorizer under way: each connection, each user or address, and the server.
//!
//! ```text
//! connecting             ─ address's share ─────────────────────────────── slots for connecting
//! subscribing, publishing ┬ connection's share ─ user's or address's share ─ slots for commands
//!                         └ user's or address's part of the spare slots ──── spare slots
//! ```
//!
//! A connection beyond its share takes one of the spare slots, which all connections have in common: one that asks much is
//! quick while few do, and costs the others nothing while many do.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::SocketId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::{Caller, Credentials, Peer};
use crate::config::Limits;

/// The slots of one server for calls to the authorizer.
pub(super) struct Shares {
    connecting: Semaphore,
    commands: Semaphore,
    spare: Semaphore,
    peers_connecting: Turns<Peer>,
    peers: Turns<Peer>,
    peers_spare: Turns<Peer>,
    connections: Turns<SocketId>,
}

/// The right to make a call, given back when dropped.
#[must_use]
pub(super) struct Slot<'a> {
    _peer: Option<Turn<'a, Peer>>,
    _connection: Option<Turn<'a, SocketId>>,
    _server: SemaphorePermit<'a>,
}

impl Shares {
    pub(super) fn new(limits: &Limits) -> Self {
        let calls_max = limits.authorizer_calls_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            connecting: Semaphore::new(calls_max),
            commands: Semaphore::new(calls_max),
            spare: Semaphore::new(calls_max.div_ceil(2)),
            peers_connecting: Turns::new(limits.authorizer_calls_per_peer_max),
            peers: Turns::new(limits.authorizer_calls_per_peer_max),
            peers_spare: Turns::new(limits.authorizer_calls_per_peer_max),
            connections: Turns::new(limits.authorizer_calls_per_connection_max),
        }
    }

    /// Waits for a slot to judge credentials. A connection has one such call under way at most. Cancel safe.
    pub(super) async fn connecting(&self, credentials: &Credentials<'_>) -> Option<Slot<'_>> {
        let peer = credentials.address.map(Peer::Address);
        Some(Slot {
            _peer: of(&self.peers_connecting, peer.as_ref()).await?,
            _connection: None,
            _server: self.connecting.acquire().await.ok()?,
        })
    }

    /// Waits for a slot to judge a command of a connection. Cancel safe.
    pub(super) async fn command(&self, caller: &Caller) -> Option<Slot<'_>> {
        let peer = caller.peer();
        let own = async {
            // Its own share first: calls that wait for it hold nothing that the peer's other connections need.
            let connection = self.connections.take(&caller.socket).await?;
            Some(Slot {
                _peer: of(&self.peers, peer.as_ref()).await?,
                _connection: Some(connection),
                _server: self.commands.acquire().await.ok()?,
            })
        };
        let spare = async {
            Some(Slot {
                _peer: of(&self.peers_spare, peer.as_ref()).await?,
                _connection: None,
                _server: self.spare.acquire().await.ok()?,
            })
        };
        tokio::select! {
            biased;
            slot = own => slot,
            slot = spare => slot,
        }
    }

    #[cfg(test)]
    pub(super) fn commands_available(&self) -> usize {
        self.commands.available_permits()
    }

    #[cfg(test)]
    pub(super) fn connecting_available(&self) -> usize {
        self.connecting.available_permits()
    }
}

async fn of<'a>(turns: &'a Turns<Peer>, peer: Option<&Peer>) -> Option<Option<Turn<'a, Peer>>> {
    match peer {
        Some(peer) => turns.take(peer).await.map(Some),
        None => Some(None),
    }
}

/// So many turns for each key. A key that has none under way and none waiting is forgotten.
struct Turns<K> {
    each: usize,
    queues: Mutex<HashMap<K, Arc<Semaphore>>>,
}

/// A turn of one key, waited for or had, given back when dropped.
struct Turn<'a, K: Clone + Eq + Hash> {
    turns: &'a Turns<K>,
    key: K,
    /// Given up under the lock of the map, which sees by it who is the last one.
    queue: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Clone + Eq + Hash> Turns<K> {
    fn new(each: usize) -> Self {
        Self {
            each: each.clamp(1, Semaphore::MAX_PERMITS),
            queues: Mutex::default(),
        }
    }

    async fn take(&self, key: &K) -> Option<Turn<'_, K>> {
        let queue = {
            let mut queues = self.queues();
            let queue = queues
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(self.each)));
            Arc::clone(queue)
        };
        let mut turn = Turn {
            turns: self,
            key: key.clone(),
            queue: Some(Arc::clone(&queue)),
            permit: None,
        };
        turn.permit = Some(queue.acquire_owned().await.ok()?);
        Some(turn)
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<K, Arc<Semaphore>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        self.permit = None;
        let mut queues = self.turns.queues();
        self.queue = None;
        // The map's alone: no turn of this key is had or waited for.
        if let Some(queue) = queues.get(&self.key)
            && Arc::strong_count(queue) == 1
        {
            queues.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use fanfare_protocol::UserId;
    use futures_util::FutureExt as _;

    use super::*;

    fn limits() -> Limits {
        Limits {
            authorizer_calls_max: 8,
            authorizer_calls_per_peer_max: 6,
            authorizer_calls_per_connection_max: 2,
            ..Limits::default()
        }
    }

    fn caller(connection: u128) -> Caller {
        Caller::new(SocketId::from_bits(connection), None)
    }

    #[tokio::test]
    async fn a_connection_has_its_share_however_much_another_asks() {
        let shares = Shares::new(&limits());
        let (greedy, modest) = (caller(1), caller(2));
        // Its share of two and all four spare ones.
        let mut held = Vec::new();
        while let Some(slot) = shares.command(&greedy).now_or_never() {
            held.push(slot.unwrap());
        }
        assert_eq!(held.len(), 6);
        let own = [
            shares.command(&modest).now_or_never(),
            shares.command(&modest).now_or_never(),
        ];
        assert!(own.iter().all(Option::is_some));
        assert!(shares.command(&modest).now_or_never().is_none());
        held.pop();
        assert!(shares.command(&modest).now_or_never().is_some());
        drop((held, own));
        assert_eq!(shares.commands_available(), 8);
        assert!(shares.connections.queues().is_empty());
    }

    #[tokio::test]
    async fn a_user_and_an_address_have_a_share_of_all_their_connections() {
        let shares = Shares::new(&limits());
        let of_user = |connection| {
            let ann = UserId::new("ann").unwrap();
            Caller::new(
                SocketId::from_bits(connection),
                Some(super::super::Identity::new(ann)),
            )
        };
        let of_address = |connection: u128| {
            let address = "192.0.2.1".parse().unwrap();
            caller(connection).at_address(Some(address))
        };
        let (users, addresses): (Vec<Caller>, Vec<Caller>) = (
            (0..7).map(of_user).collect(),
            (10..17).map(of_address).collect(),
        );
        for callers in [&users, &addresses] {
            let slots: Vec<_> = callers
                .iter()
                .filter_map(|caller| shares.command(caller).now_or_never())
                .collect();
            // Six of the eight common ones, and one of the four spare ones.
            assert_eq!(slots.len(), 7);
            assert_eq!(shares.commands_available(), 2);
        }
        assert!(shares.peers.queues().is_empty() && shares.peers_spare.queues().is_empty());
    }

    #[tokio::test]
    async fn connecting_does_not_wait_for_commands() {
        let shares = Shares::new(&limits());
        let callers: Vec<Caller> = (0..20).map(caller).collect();
        let slots: Vec<_> = callers
            .iter()
            .filter_map(|caller| shares.command(caller).now_or_never())
            .collect();
        assert_eq!(slots.len(), 12, "all common and all spare ones");
        let credentials = Credentials::new(None, None, None);
        assert!(shares.connecting(&credentials).now_or_never().is_some());
        let from = Credentials::new(None, None, None).at_address("192.0.2.1".parse().ok());
        let connecting: Vec<_> = (0..20)
            .filter_map(|_| shares.connecting(&from).now_or_never())
            .collect();
        assert_eq!(connecting.len(), 6, "an address has its share");
        assert!(shares.connecting(&credentials).now_or_never().is_some());
    }

    #[test]
    fn turns_given_back_on_many_threads_at_once_leave_nothing() {
        let turns = Turns::new(2);
        for round in 0..2_000_u32 {
            let held = [(); 2].map(|()| turns.take(&round).now_or_never());
            std::thread::scope(|scope| {
                for turn in held {
                    scope.spawn(move || drop(turn));
                }
            });
            assert!(turns.queues().is_empty(), "round {round}");
        }
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing() {
        let shares = Shares::new(&limits());
        let greedy = caller(1);
        let mut held = Vec::new();
        while let Some(slot) = shares.command(&greedy).now_or_never() {
            held.push(slot);
        }
        let mut waiting = Box::pin(shares.command(&greedy));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(waiting);
        drop(held);
        assert!(shares.connections.queues().is_empty());
        assert_eq!(shares.commands_available(), 8);
    }
}
