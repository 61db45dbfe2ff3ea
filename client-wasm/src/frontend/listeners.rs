//! Closures that are called until their guard is dropped. A closure may change the list while it is being called.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use fanfare_client::{ChannelStatus, ConnectionStatus, Gap, Reset};
use fanfare_protocol::{ChannelName, Member, UserId};

use crate::frontend::error::Error;
use crate::frontend::subscription::Meta;
use crate::read::Data;

type OnConnection = dyn Fn(&ConnectionStatus);
type OnError = dyn Fn(&Error);
type OnState = dyn Fn(&ChannelStatus);
type OnMessage = dyn Fn(&Data, &Meta);
type OnMembers = dyn Fn(&[Member<Data>], u64);
type OnMember = dyn Fn(&Member<Data>);
type OnLeft = dyn Fn(&UserId, Option<&str>);
type OnGap = dyn Fn(&Gap);
type OnReset = dyn Fn(&Reset);

/// The listeners of a client.
#[derive(Default)]
pub(crate) struct Listeners {
    pub(crate) connection: List<OnConnection>,
    pub(crate) errors: List<OnError>,
    /// The subscriptions of every channel.
    channels: RefCell<Vec<(ChannelName, Weak<ChannelListeners>)>>,
}

/// The listeners of one subscription.
#[derive(Default)]
pub(crate) struct ChannelListeners {
    pub(crate) state: List<OnState>,
    pub(crate) messages: List<OnMessage>,
    pub(crate) sync: List<OnMembers>,
    pub(crate) joined: List<OnMember>,
    pub(crate) updated: List<OnMember>,
    pub(crate) left: List<OnLeft>,
    pub(crate) gaps: List<OnGap>,
    pub(crate) resets: List<OnReset>,
}

impl Listeners {
    /// Adds a subscription. Whether it is the first of its channel.
    pub(crate) fn open(&self, channel: &ChannelName, listeners: &Rc<ChannelListeners>) -> bool {
        let is_first = !self.has(channel);
        let entry = (channel.clone(), Rc::downgrade(listeners));
        self.channels.borrow_mut().push(entry);
        is_first
    }

    /// Takes a subscription away. Whether it was the last of its channel.
    pub(crate) fn close(&self, channel: &ChannelName, listeners: &Rc<ChannelListeners>) -> bool {
        let listeners = Rc::as_ptr(listeners);
        self.channels
            .borrow_mut()
            .retain(|(_, other)| other.as_ptr() != listeners);
        !self.has(channel)
    }

    pub(crate) fn has(&self, channel: &ChannelName) -> bool {
        let channels = self.channels.borrow();
        channels.iter().any(|(name, _)| name == channel)
    }

    /// Calls `tell` with every subscription of a channel that is there now and still there when its turn comes.
    pub(crate) fn each(&self, channel: &ChannelName, tell: impl Fn(&ChannelListeners)) {
        let of_channel: Vec<_> = {
            let channels = self.channels.borrow();
            let entries = channels.iter().filter(|(name, _)| name == channel);
            entries
                .map(|(_, listeners)| Weak::clone(listeners))
                .collect()
        };
        for listeners in of_channel {
            if let Some(listeners) = listeners.upgrade() {
                tell(&listeners);
            }
        }
    }
}

/// An ordered list of closures.
pub(crate) struct List<F: ?Sized>(Rc<RefCell<Vec<Entry<F>>>>);

type Entry<F> = (Rc<Cell<bool>>, Rc<F>);

impl<F: ?Sized> Default for List<F> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<F: ?Sized + 'static> List<F> {
    /// Adds a closure for as long as the guard lives.
    fn push(&self, listener: Rc<F>) -> Listener {
        let is_wanted = Rc::new(Cell::new(true));
        self.0.borrow_mut().push((Rc::clone(&is_wanted), listener));
        let list = Rc::downgrade(&self.0);
        Listener {
            is_wanted,
            forget: Box::new(move || {
                // What is taken out is dropped after the borrow: it may hold anything.
                let gone: Vec<Entry<F>> = match list.upgrade() {
                    Some(list) => list
                        .borrow_mut()
                        .extract_if(.., |entry| !entry.0.get())
                        .collect(),
                    None => Vec::new(),
                };
                drop(gone);
            }),
        }
    }

    /// Calls `tell` with every closure that is there now and still wanted when its turn comes.
    pub(crate) fn each(&self, tell: impl Fn(&F)) {
        let entries: Vec<Entry<F>> = self.0.borrow().clone();
        for (is_wanted, listener) in entries {
            if is_wanted.get() {
                tell(&listener);
            }
        }
    }
}

macro_rules! add {
    ($($arguments:ty),+) => {
        impl List<dyn Fn($($arguments),+)> {
            /// Adds a closure for as long as the guard lives.
            pub(crate) fn add(&self, listener: impl Fn($($arguments),+) + 'static) -> Listener {
                self.push(Rc::new(listener))
            }
        }
    };
}

add!(&ConnectionStatus);
add!(&Error);
add!(&ChannelStatus);
add!(&Data, &Meta);
add!(&[Member<Data>], u64);
add!(&Member<Data>);
add!(&UserId, Option<&str>);
add!(&Gap);
add!(&Reset);

/// A guard: the closure is called for as long as this lives.
#[must_use = "the listener is forgotten when this is dropped"]
pub struct Listener {
    is_wanted: Rc<Cell<bool>>,
    forget: Box<dyn Fn()>,
}

impl Listener {
    /// Listens for as long as the client lives.
    pub fn forever(self) {
        std::mem::forget(self);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.is_wanted.set(false);
        (self.forget)();
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}
