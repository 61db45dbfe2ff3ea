//! A subscription: one channel and its listeners.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use fanfare_client::{ChannelState, ChannelStatus, Gap, Input, Reset, SubscribeOptions};
use fanfare_protocol::{ChannelName, EventName, Position, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen_futures::spawn_local;

use crate::frontend::Shared;
use crate::frontend::error::Error;
use crate::frontend::listeners::{ChannelListeners, Listener};
use crate::frontend::request::{self, Past, Receipt, Request};
use crate::read::Data;

/// A channel is wanted for as long as this lives, and its closures are called for as long.
///
/// The channel is left when the last subscription of it is dropped.
#[must_use = "the channel is left when this is dropped"]
pub struct Subscription {
    shared: Rc<Shared>,
    channel: ChannelName,
    listeners: Rc<ChannelListeners>,
    guards: RefCell<Vec<Listener>>,
}

/// What comes with a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// The channel.
    pub channel: ChannelName,
    /// The event's name.
    pub event: EventName,
    /// Its place in the channel's history, on channels that keep one.
    pub position: Option<Position>,
    /// Who sent it, on client events.
    pub user_id: Option<UserId>,
    /// The id of the bus event it came from.
    pub event_id: Option<String>,
    /// Whether it was published while the client was away, or before it came.
    pub recovered: bool,
}

/// A member of a presence channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<T> {
    /// The member's user.
    pub id: UserId,
    /// What the server or a signature says about them.
    pub info: T,
}

impl Subscription {
    pub(crate) fn open(
        shared: &Rc<Shared>,
        channel: ChannelName,
        options: SubscribeOptions,
    ) -> Self {
        let subscription = Self {
            shared: Rc::clone(shared),
            channel,
            listeners: Rc::default(),
            guards: RefCell::default(),
        };
        let channel = &subscription.channel;
        if shared.listeners.open(channel, &subscription.listeners) {
            let channel = channel.clone();
            shared.driver.handle(Input::Subscribe { channel, options });
        }
        subscription
    }

    /// Calls `listener` with every payload of the event, as its own type.
    ///
    /// A payload that is not of that type goes to [`FanfareClient::on_error`](crate::frontend::FanfareClient::on_error).
    pub fn on<T: DeserializeOwned + 'static>(
        &self,
        event: &str,
        listener: impl Fn(T, &Meta) + 'static,
    ) -> &Self {
        let event = event.to_owned();
        let listeners = Rc::downgrade(&self.shared.listeners);
        self.keep(self.listeners.messages.add(move |data, meta| {
            if meta.event.as_str() != event {
                return;
            }
            match decode(data) {
                Ok(payload) => listener(payload, meta),
                Err(reason) => {
                    let error = Error::Decode {
                        channel: meta.channel.clone(),
                        event: meta.event.clone(),
                        reason,
                    };
                    if let Some(listeners) = listeners.upgrade() {
                        listeners.errors.each(|listener| listener(&error));
                    }
                }
            }
        }))
    }

    /// Calls `listener` whenever the subscription's state changes.
    pub fn on_state(&self, listener: impl Fn(&ChannelStatus) + 'static) -> &Self {
        self.keep(self.listeners.state.add(listener))
    }

    /// Calls `listener` when messages were lost: reload what depends on them.
    pub fn on_gap(&self, listener: impl Fn(&Gap) + 'static) -> &Self {
        self.keep(self.listeners.gaps.add(listener))
    }

    /// Calls `listener` when the channel's history started anew: reload what depends on it.
    pub fn on_reset(&self, listener: impl Fn(&Reset) + 'static) -> &Self {
        self.keep(self.listeners.resets.add(listener))
    }

    /// Calls `listener` with all members, after the subscription and whenever they had to be asked for again, and with their
    /// count, which may exceed the list. Members whose `info` is not a `T` are left out of the list. One that comes when the
    /// members are known already is called soon.
    pub fn on_members<T: DeserializeOwned + 'static>(
        &self,
        listener: impl Fn(Vec<Member<T>>, u64) + 'static,
    ) -> &Self {
        let listener = Rc::new(move |members: &[fanfare_protocol::Member<Data>], count| {
            listener(members.iter().filter_map(member).collect(), count);
        });
        let driver = &self.shared.driver;
        if driver.with_client(|client| client.synced_members(&self.channel).is_some()) {
            self.sync_late(Rc::downgrade(&listener));
        }
        self.keep(
            self.listeners
                .sync
                .add(move |members, count| listener(members, count)),
        )
    }

    /// Tells a listener that came later than the last snapshot. It goes with the subscription.
    fn sync_late(&self, listener: Weak<impl Fn(&[fanfare_protocol::Member<Data>], u64) + 'static>) {
        let (driver, channel) = (Rc::downgrade(&self.shared.driver), self.channel.clone());
        spawn_local(async move {
            let (Some(driver), Some(listener)) = (driver.upgrade(), listener.upgrade()) else {
                return;
            };
            let synced = driver.with_client(|client| {
                let (members, count) = client.synced_members(&channel)?;
                Some((members.to_vec(), count))
            });
            if let Some((members, count)) = synced {
                listener(&members, count);
            }
        });
    }

    /// Calls `listener` with everybody who comes.
    pub fn on_joined<T: DeserializeOwned + 'static>(
        &self,
        listener: impl Fn(Member<T>) + 'static,
    ) -> &Self {
        self.keep(self.listeners.joined.add(move |joined| {
            if let Some(joined) = member(joined) {
                listener(joined);
            }
        }))
    }

    /// Calls `listener` with every member that shows other info.
    pub fn on_updated<T: DeserializeOwned + 'static>(
        &self,
        listener: impl Fn(Member<T>) + 'static,
    ) -> &Self {
        self.keep(self.listeners.updated.add(move |updated| {
            if let Some(updated) = member(updated) {
                listener(updated);
            }
        }))
    }

    /// Calls `listener` with everybody who leaves, and why in the server's words.
    pub fn on_left(&self, listener: impl Fn(&UserId, Option<&str>) + 'static) -> &Self {
        self.keep(self.listeners.left.add(listener))
    }

    /// Sends a client event to the channel. It is on its way when this returns, or waits for the connection; the future is the
    /// answer, and need not be awaited.
    ///
    /// # Errors
    /// When the name is none or the payload cannot be written as JSON.
    pub fn publish<T: Serialize + ?Sized>(
        &self,
        event: &str,
        payload: &T,
    ) -> Result<Request<Receipt>, Error> {
        let event = EventName::new(event)?;
        let data = request::encode(payload)?;
        let (request, future) = self.shared.requests.start(request::receipt);
        self.shared.driver.handle(Input::Publish {
            request,
            channel: self.channel.clone(),
            event,
            data,
            key: None,
        });
        Ok(future)
    }

    /// Shows other info about the user on this connection, where the channel's rule allows it; `()` takes the last update back.
    ///
    /// The client remembers it and joins with it again after every reconnect, until the channel is left or another user logs in.
    /// While the channel is being subscribed the info goes out with the subscription.
    ///
    /// # Errors
    /// When the info cannot be written as JSON.
    pub fn update<T: Serialize + ?Sized>(&self, info: &T) -> Result<Request<()>, Error> {
        let info = request::encode(info)?;
        let (request, future) = self.shared.requests.start(|_| ());
        self.shared.driver.handle(Input::PresenceUpdate {
            request,
            channel: self.channel.clone(),
            info,
        });
        Ok(future)
    }

    /// Asks for past events, oldest first: those after a position, or the newest ones.
    ///
    /// The server has a limit of its own, 300 events and 1 MiB unless it is configured otherwise: [`Past::next`] says where to go on.
    pub fn history(&self, since: Option<Position>, limit: Option<u32>) -> Request<Past> {
        let (request, future) = self.shared.requests.start(request::past);
        self.shared.driver.handle(Input::History {
            request,
            channel: self.channel.clone(),
            since,
            limit,
        });
        future
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The subscription's state.
    #[must_use]
    pub fn state(&self) -> ChannelState {
        let driver = &self.shared.driver;
        driver.with_client(|client| client.channel_state(&self.channel))
    }

    /// Where the subscription stands: keep it to continue there with
    /// [`SubscribeOptions::since`](crate::frontend::SubscribeOptions::since).
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        let driver = &self.shared.driver;
        driver.with_client(|client| client.position(&self.channel))
    }

    /// The known members of a presence channel, ordered by id. While the channel is not subscribed they may be out of date.
    #[must_use]
    pub fn members<T: DeserializeOwned>(&self) -> Vec<Member<T>> {
        let driver = &self.shared.driver;
        let members = driver.with_client(|client| client.members(&self.channel).to_vec());
        members.iter().filter_map(member).collect()
    }

    fn keep(&self, listener: Listener) -> &Self {
        self.guards.borrow_mut().push(listener);
        self
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Closures first: what they hold may be dropped with them, and so may another subscription.
        drop(self.guards.take());
        let channel = self.channel.clone();
        if self.shared.listeners.close(&channel, &self.listeners) {
            self.shared.driver.handle(Input::Unsubscribe { channel });
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("channel", &self.channel)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

pub(crate) fn member<T: DeserializeOwned>(
    member: &fanfare_protocol::Member<Data>,
) -> Option<Member<T>> {
    Some(Member {
        id: member.id.clone(),
        info: decode(&member.info).ok()?,
    })
}

pub(crate) fn decode<T: DeserializeOwned>(data: &Data) -> Result<T, String> {
    serde_wasm_bindgen::from_value(data.0.clone()).map_err(|error| error.to_string())
}
