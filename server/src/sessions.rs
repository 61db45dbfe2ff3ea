//! The live sessions of this node, by id and by user.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::{ChannelName, Code, SocketId, UserId};

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
        /// When the client may come back, in milliseconds.
        after_ms: u64,
    },
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

/// Everybody who is connected to this node.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    by_id: HashMap<SocketId, Arc<SessionHandle>>,
    by_user: HashMap<UserId, Vec<SocketId>>,
}

impl Sessions {
    pub(crate) fn add(&self, session: Arc<SessionHandle>) {
        lock(&self.live).by_id.insert(session.id(), session);
    }

    /// Says who a session belongs to.
    pub(crate) fn identify(&self, socket: SocketId, user: &UserId) {
        let mut live = lock(&self.live);
        let sockets = live.by_user.entry(user.clone()).or_default();
        if !sockets.contains(&socket) {
            sockets.push(socket);
        }
    }

    pub(crate) fn remove(&self, socket: SocketId, user: Option<&UserId>) {
        let mut live = lock(&self.live);
        live.by_id.remove(&socket);
        shrink_map(&mut live.by_id);
        let Some(user) = user else { return };
        if let Some(sockets) = live.by_user.get_mut(user) {
            sockets.retain(|other| *other != socket);
            if sockets.is_empty() {
                live.by_user.remove(user);
                shrink_map(&mut live.by_user);
            }
        }
    }

    pub(crate) fn get(&self, socket: SocketId) -> Option<Arc<SessionHandle>> {
        lock(&self.live).by_id.get(&socket).cloned()
    }

    pub(crate) fn of_user(&self, user: &UserId) -> Vec<Arc<SessionHandle>> {
        let live = lock(&self.live);
        let sockets = live
            .by_user
            .get(user)
            .map(Vec::as_slice)
            .unwrap_or_default();
        sockets
            .iter()
            .filter_map(|socket| live.by_id.get(socket).cloned())
            .collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<SessionHandle>> {
        lock(&self.live).by_id.values().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.live).by_id.len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 128: more than an application can sensibly ask of one connection at once.
const LETTERS_MAX: usize = 128;
