//! What large answers may cost: how many reads are under way, and how many bytes a connection, a user or an address is answered.
//! And how many presence channels a user may join, each of which a store remembers.
//!
//! A command of 60 bytes may be answered with 1 MiB, so it is paid for by what it brings: the connection with further commands,
//! and its user (or address, without a user) with bytes. Both are charged afterwards, as only the answer says how large it is,
//! and refused while they are in debt.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fanfare_protocol::{Code, Member, UserId};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::effects::Setting;
use super::io::Refusal;
use crate::auth::Peer;
use crate::budget::Budgets;
use crate::clock;
use crate::config::Limits;
use crate::delivery::Delivery;

/// What all connections of a node share.
#[derive(Debug)]
pub(crate) struct Reads {
    under_way: Semaphore,
    peers: Budgets<Peer>,
    joins: Budgets<UserId>,
    published: Budgets<Peer>,
    subscribing: Semaphore,
}

/// A read that may be made: its connection has no other large answer under way, and the node has room.
#[must_use]
pub(super) struct Reading<'a> {
    _turn: Option<SemaphorePermit<'a>>,
    _slot: SemaphorePermit<'a>,
}

impl Reads {
    pub(crate) fn new(limits: &Limits) -> Self {
        let semaphore = |most: usize| Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS));
        Self {
            under_way: semaphore(limits.large_reads_max),
            subscribing: semaphore(limits.subscribing_max),
            peers: Budgets::default(),
            joins: Budgets::default(),
            published: Budgets::default(),
        }
    }
}

impl Setting {
    /// Waits until a read may be made whose answer has to be short of nothing: `history` and `presence`.
    ///
    /// # Errors
    /// When its user has read too much, or its connection does not take what it was answered before.
    pub(super) async fn begin_read(&self) -> Result<Reading<'_>, Refusal> {
        self.check_peer()?;
        let deadline = self.services.terms.limits.engine_deadline;
        let Some(turn) = self.outbox.turn(deadline).await else {
            let text = "the answers before this one have not been read yet";
            let refusal = Refusal::new(Code::BUSY).with_text(text);
            return Err(refusal.with_retry_after(LATER));
        };
        self.reading(Some(turn)).await
    }

    /// The same for a subscription. When its outbox does not drain in time it goes on all the same: a reader that is too slow
    /// for its subscriptions is closed and recovers.
    pub(super) async fn begin_recovery(&self) -> Result<Reading<'_>, Refusal> {
        self.check_peer()?;
        let deadline = self.services.terms.limits.engine_deadline;
        let turn = self.outbox.turn(deadline).await;
        self.reading(turn).await
    }

    /// Notes what was read for an answer. The connection pays for it when the answer goes out.
    pub(super) fn answered(&self, bytes: usize) {
        self.answered_bytes.fetch_add(bytes, Ordering::Relaxed);
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(peer) = self.caller.peer() {
            let rate = self.services.terms.limits.peer_answer_rate();
            let now = clock::moment().instant;
            self.services.reads.peers.charge(&peer, cost, rate, now);
        }
    }

    /// Whether its user, or its address, may be answered more.
    ///
    /// # Errors
    /// When that one has read too much.
    pub(super) fn check_peer(&self) -> Result<(), Refusal> {
        let Some(peer) = self.caller.peer() else {
            return Ok(());
        };
        let rate = self.services.terms.limits.peer_answer_rate();
        let now = clock::moment().instant;
        let checked = self.services.reads.peers.take(&peer, 0, rate, now);
        checked.map_err(|wait| {
            let whose = match peer {
                Peer::User(_) => "a user",
                Peer::Address(_) => "an address",
            };
            let text = format!(
                "{whose} reads at most {} bytes per second and {} at once, slow down",
                rate.per_second, rate.burst
            );
            let refusal = Refusal::new(Code::READ_RATE).with_text(text);
            refusal.with_retry_after(wait)
        })
    }

    /// Takes one join from what a user may join: the store of a presence channel remembers it for minutes after its last member,
    /// so that one user with many connections and ever new names would fill it.
    ///
    /// # Errors
    /// When the user has joined too many.
    pub(super) fn charge_join(&self, user: &UserId) -> Result<(), Refusal> {
        let rate = self.services.terms.limits.user_joins_rate();
        let now = clock::moment().instant;
        let taken = self.services.reads.joins.take(user, 1, rate, now);
        taken.map_err(|wait| {
            let text = format!(
                "a user joins at most {} presence channels per second and {} at once, slow down",
                rate.per_second, rate.burst
            );
            let refusal = Refusal::new(Code::RATE_LIMITED).with_text(text);
            refusal.with_retry_after(wait)
        })
    }

    /// Takes what a client publishes from what all connections of its user may publish: a history keeps it for minutes, so that
    /// one user with many connections would fill the store.
    ///
    /// # Errors
    /// When its user, or its address, has published too much.
    pub(super) fn take_peer_bytes(&self, bytes: u32) -> Result<(), Refusal> {
        let Some(peer) = self.caller.peer() else {
            return Ok(());
        };
        let rate = self.services.terms.limits.peer_bytes_rate();
        let now = clock::moment().instant;
        let taken = (self.services.reads.published).take(&peer, bytes, rate, now);
        taken.map_err(|wait| {
            let text = format!(
                "all connections of a user publish at most {} bytes per second and {} at once, {bytes} more are too many now",
                rate.per_second, rate.burst
            );
            let refusal = Refusal::new(Code::PUBLISH_RATE).with_text(text);
            refusal.with_retry_after(wait)
        })
    }

    /// Waits until a subscription may go into the engine. More than an engine confirms before their callers give up would be work
    /// for nothing, and none at all would succeed.
    ///
    /// # Errors
    /// When too many are on their way for too long.
    pub(super) async fn begin_subscribing(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let patience = self.services.terms.limits.engine_deadline / 2;
        let slot = self.services.reads.subscribing.acquire();
        match tokio::time::timeout(patience, slot).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => {
                let text = "the server has too many subscriptions under way, try again later";
                let refusal = Refusal::unavailable().with_text(text);
                Err(refusal.with_retry_after(LATER))
            }
        }
    }

    async fn reading<'a>(
        &'a self,
        turn: Option<SemaphorePermit<'a>>,
    ) -> Result<Reading<'a>, Refusal> {
        // Half of what the read itself may take: a client hears from the server before it gives up.
        let patience = self.services.terms.limits.engine_deadline / 2;
        let slot = self.services.reads.under_way.acquire();
        match tokio::time::timeout(patience, slot).await {
            Ok(Ok(slot)) => Ok(Reading {
                _turn: turn,
                _slot: slot,
            }),
            _ => Err(Refusal::new(Code::READS_BUSY).with_retry_after(LATER)),
        }
    }
}

/// About as many bytes as events have on the wire.
pub(super) fn bytes_of_events(events: &[Delivery]) -> usize {
    let bytes = |event: &Delivery| event.data.len() + event.event.as_str().len() + FRAME_BYTES;
    events.iter().map(bytes).sum()
}

/// About as many bytes as members have on the wire.
pub(super) fn bytes_of_members(members: &[Member]) -> usize {
    let bytes = |member: &Member| member.info.len() + member.id.as_str().len() + FRAME_BYTES;
    members.iter().map(bytes).sum()
}

/// 64: the fields beside a payload and a name.
const FRAME_BYTES: usize = 64;

/// 1 s: longer than a read of a store that is well.
const LATER: Duration = Duration::from_secs(1);
