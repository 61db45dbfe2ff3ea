//! The live sessions of this node, by id and by user.

mod revocations;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::{ChannelName, Code, SocketId, UserId};

pub(crate) use self::revocations::Judged;
use self::revocations::Revocations;
use crate::hub::Outbox;
use crate::tables::shrink_map;

/// What the rest of the server may ask of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    /// Join a channel on the application's word.
    Subscribe(ChannelName),
    /// Leave a channel on the application's word.
    Unsubscribe(ChannelName),
    /// End the connection.
    Disconnect {
        /// Why.
        code: Code,
        /// A sentence for the client.
        reason: String,
    },
}

impl Control {
    /// Ends a connection for good, because the application disconnects its user.
    pub(crate) fn disconnected() -> Self {
        let code = Code::DISCONNECTED;
        Self::Disconnect {
            code,
            reason: code.text().to_owned(),
        }
    }

    /// Sends the client of a server that ends elsewhere, at once: the turns in which the sessions are told are the spread.
    pub(crate) fn shutting_down() -> Self {
        let code = Code::SHUTTING_DOWN;
        Self::Disconnect {
            code,
            reason: code.text().to_owned(),
        }
    }
}

/// A session as others see it: a way out and a letter box.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    outbox: Arc<Outbox>,
    letters: Mutex<VecDeque<Control>>,
}

impl SessionHandle {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            letters: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> SocketId {
        self.outbox.socket()
    }

    /// Leaves a letter; answers whether there was room for it.
    pub(crate) fn ask(&self, control: Control) -> bool {
        let mut letters = lock(&self.letters);
        let is_last = |letter: &Control| matches!(letter, Control::Disconnect { .. });
        if letters.iter().any(is_last) {
            // The connection ends with that one; nothing behind it would be carried out.
            return true;
        }
        if letters.len() >= LETTERS_MAX && !is_last(&control) {
            return false;
        }
        letters.push_back(control);
        drop(letters);
        self.outbox.wake();
        true
    }

    /// Cuts the connection: its driver ends without another word.
    pub(crate) fn cut(&self) {
        self.outbox.cut();
    }

    /// The next letter.
    pub(crate) fn next(&self) -> Option<Control> {
        let mut letters = lock(&self.letters);
        let next = letters.pop_front();
        if letters.is_empty() {
            *letters = VecDeque::new();
        }
        next
    }
}

/// The sessions of this node.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    by_id: HashMap<SocketId, Entry>,
    by_user: HashMap<UserId, Vec<SocketId>>,
    revocations: Revocations,
}

#[derive(Debug)]
struct Entry {
    session: Arc<SessionHandle>,
    user: Option<UserId>,
    /// How many revocations there were when the connection was opened.
    opened_after: u64,
}

/// Why a session does not become a user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unbound {
    /// It is another user's already.
    OtherUser,
    /// The application disconnected the user after the claim was judged.
    Revoked,
    /// It has ended.
    Ended,
}

impl Sessions {
    pub(crate) fn add(&self, session: Arc<SessionHandle>) {
        let mut live = lock(&self.live);
        let entry = Entry {
            session: Arc::clone(&session),
            user: None,
            opened_after: live.revocations.count(),
        };
        live.by_id.insert(session.id(), entry);
    }

    /// The moment before an authorizer is asked: what the application revokes from here on counts against the answer.
    pub(crate) fn judging(&self) -> Judged {
        Judged::After(lock(&self.live).revocations.count())
    }

    /// When a channel token can have been signed for a session, at the earliest: at this time, in milliseconds since the Unix
    /// epoch, where it says one.
    pub(crate) fn signed(&self, socket: SocketId, unix_ms: Option<u64>) -> Judged {
        let live = lock(&self.live);
        let after = live
            .by_id
            .get(&socket)
            .map_or(0, |entry| entry.opened_after);
        match unix_ms {
            Some(unix_ms) => Judged::At { unix_ms, after },
            None => Judged::Since(after),
        }
    }

    /// Makes a session a user's, whom its identity or a channel token names. It stays theirs to its end, and what the
    /// application orders about the user reaches it from here on.
    ///
    /// # Errors
    /// When it is another user's, or the user was disconnected after the claim was judged.
    pub(crate) fn bind(
        &self,
        socket: SocketId,
        user: &UserId,
        judged: Judged,
    ) -> Result<(), Unbound> {
        let mut live = lock(&self.live);
        if live.revocations.is_revoked(user, judged) {
            return Err(Unbound::Revoked);
        }
        let entry = live.by_id.get_mut(&socket).ok_or(Unbound::Ended)?;
        match &entry.user {
            Some(known) if known == user => return Ok(()),
            Some(_) => return Err(Unbound::OtherUser),
            None => entry.user = Some(user.clone()),
        }
        live.by_user.entry(user.clone()).or_default().push(socket);
        Ok(())
    }

    /// The sessions of a user who is disconnected now. Whatever was judged before and is not bound yet will not be.
    pub(crate) fn revoke(&self, user: &UserId, unix_ms: u64) -> Vec<Arc<SessionHandle>> {
        let mut live = lock(&self.live);
        live.revocations.note(user, unix_ms);
        live.of_user(user)
    }

    pub(crate) fn remove(&self, socket: SocketId) {
        let mut live = lock(&self.live);
        let entry = live.by_id.remove(&socket);
        shrink_map(&mut live.by_id);
        let Some(user) = entry.and_then(|entry| entry.user) else {
            return;
        };
        if let Some(sockets) = live.by_user.get_mut(&user) {
            sockets.retain(|other| *other != socket);
            if sockets.is_empty() {
                live.by_user.remove(&user);
                shrink_map(&mut live.by_user);
            }
        }
    }

    pub(crate) fn get(&self, socket: SocketId) -> Option<Arc<SessionHandle>> {
        let live = lock(&self.live);
        let entry = live.by_id.get(&socket)?;
        Some(Arc::clone(&entry.session))
    }

    pub(crate) fn of_user(&self, user: &UserId) -> Vec<Arc<SessionHandle>> {
        lock(&self.live).of_user(user)
    }

    pub(crate) fn all(&self) -> Vec<Arc<SessionHandle>> {
        let live = lock(&self.live);
        let entries = live.by_id.values();
        entries.map(|entry| Arc::clone(&entry.session)).collect()
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.live).by_id.len()
    }
}

impl Live {
    fn of_user(&self, user: &UserId) -> Vec<Arc<SessionHandle>> {
        let sockets = self.by_user.get(user).into_iter().flatten();
        sockets
            .filter_map(|socket| self.by_id.get(socket))
            .map(|entry| Arc::clone(&entry.session))
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 128: more than an application can sensibly ask of one connection at once.
const LETTERS_MAX: usize = 128;
