//! For pages written in Rust: the same client, with closures and types.
//!
//! ```no_run
//! use fanfare_client_wasm::frontend::{Error, FanfareClient};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct OrderCreated {
//!     id: u32,
//!     total: f64,
//! }
//!
//! #[derive(Serialize)]
//! struct Typing {
//!     on: bool,
//! }
//!
//! # async fn page() -> Result<(), Error> {
//! let client = FanfareClient::builder("wss://shop.example/ws").build();
//! client.connect();
//! let orders = client.subscribe("orders")?;
//! orders.on("order.created", |order: OrderCreated, meta| {
//!     web_sys::console::log_1(&format!("{}: {} on {}", order.id, order.total, meta.channel).into());
//! });
//! orders.publish("typing", &Typing { on: true })?.await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything runs on the page's one thread. Every closure may call back into the client, subscribe, or drop what it holds.
//! A [`Subscription`] is a guard: the channel is left when the last one for it is dropped. A component keeps it for as long as
//! it is mounted.

mod builder;
mod error;
mod host;
mod listeners;
mod request;
mod subscription;

use std::rc::Rc;

use fanfare_client::Input;
use serde::Serialize;

use crate::drain::Driver;
use crate::read::Data;

pub use builder::Builder;
pub use error::Error;
pub use fanfare_client::{
    AuthReason, Backoff, ChannelState, ChannelStatus, ClientError, ConnectionState,
    ConnectionStatus, Gap, GapReason, Millis, Options, QueueLimits, Reset, SubscribeOptions,
    TokenReason,
};
pub use fanfare_protocol::{ChannelName, Epoch, EventName, Position, SocketId, Tag, UserId};
pub use host::{AuthQuestion, ChannelAuth, Refused};
pub use listeners::Listener;
pub use request::{Past, PastEvent, Receipt, Request};
pub use subscription::{Member, Meta, Subscription};

use listeners::Listeners;
use request::Requests;

/// A connection to a Fanfare server. A clone is the same connection; it is closed when the last clone and the last
/// [`Subscription`] are dropped.
#[derive(Clone)]
pub struct FanfareClient {
    shared: Rc<Shared>,
}

/// What clones, subscriptions and requests have in common.
pub(crate) struct Shared {
    driver: Rc<Driver>,
    listeners: Rc<Listeners>,
    requests: Rc<Requests>,
}

impl FanfareClient {
    /// Starts to build a client of the server at `url`, such as `wss://shop.example/ws`.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// Asks for a connection. Until [`FanfareClient::disconnect`] a lost one comes back by itself.
    pub fn connect(&self) {
        self.handle(Input::Connect);
    }

    /// Ends the connection. Subscriptions stay wanted and come back with the next [`FanfareClient::connect`].
    pub fn disconnect(&self) {
        self.handle(Input::Disconnect);
    }

    /// Does not wait for the next attempt, or asks an open connection for a sign of life.
    pub fn reconnect_now(&self) {
        let driver = &self.shared.driver;
        self.handle(match driver.with_client(|client| client.status().state) {
            ConnectionState::Connected => Input::Wake,
            _ => Input::Connect,
        });
    }

    /// Ends everything for good, also for clones: nothing more is heard. Requests without an answer, and later ones, end with
    /// [`ClientError::Closed`]; those that may have happened with [`ClientError::UnknownOutcome`].
    pub fn close(&self) {
        self.shared.driver.close();
        self.shared.requests.close();
    }

    /// Logs in, or out.
    pub fn set_token(&self, token: Option<String>) {
        self.handle(Input::SetToken(token));
    }

    /// Subscribes to a channel, or joins in a subscription that is there already.
    ///
    /// # Errors
    /// When the name is none.
    pub fn subscribe(&self, channel: &str) -> Result<Subscription, Error> {
        self.subscribe_with(channel, SubscribeOptions::default())
    }

    /// Subscribes from a position, with past events, or with a hint about the member.
    ///
    /// # Errors
    /// When the name is none; [`ClientError::AlreadySubscribed`] when there are
    /// options and another subscription of the channel, so that they could have no effect.
    pub fn subscribe_with(
        &self,
        channel: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, Error> {
        let channel = ChannelName::new(channel)?;
        let has_options = options != SubscribeOptions::default();
        if has_options && self.shared.listeners.has(&channel) {
            return Err(ClientError::AlreadySubscribed.into());
        }
        Ok(Subscription::open(&self.shared, channel, options))
    }

    /// Sends an event to the server's event bus. No server has a bus yet: all refuse. It is on its way when this returns; the future is the answer.
    ///
    /// # Errors
    /// When the name is none or the payload cannot be written as JSON.
    #[doc(hidden)]
    pub fn emit<T: Serialize + ?Sized>(
        &self,
        event: &str,
        payload: &T,
    ) -> Result<Request<Receipt>, Error> {
        let event = EventName::new(event)?;
        let data = request::encode(payload)?;
        let (request, future) = self.shared.requests.start(request::receipt);
        self.handle(Input::Emit {
            request,
            event,
            data,
            key: None,
        });
        Ok(future)
    }

    /// Calls `listener` whenever the connection's state changes, until the guard is dropped.
    pub fn on_state(&self, listener: impl Fn(&ConnectionStatus) + 'static) -> Listener {
        self.shared.listeners.connection.add(listener)
    }

    /// Calls `listener` with everything that goes wrong and belongs to no request: also with payloads that are not what a
    /// listener takes. Until the guard is dropped.
    pub fn on_error(&self, listener: impl Fn(&Error) + 'static) -> Listener {
        self.shared.listeners.errors.add(listener)
    }

    /// The connection's state and how it came about.
    #[must_use]
    pub fn status(&self) -> ConnectionStatus {
        let driver = &self.shared.driver;
        driver.with_client(|client| client.status().clone())
    }

    /// Who the connection belongs to.
    #[must_use]
    pub fn user_id(&self) -> Option<UserId> {
        let driver = &self.shared.driver;
        driver.with_client(|client| client.user_id().cloned())
    }

    fn handle(&self, input: Input<Data>) {
        self.shared.driver.handle(input);
    }
}

impl std::fmt::Debug for FanfareClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FanfareClient")
            .field("state", &self.status().state)
            .finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.driver.close();
    }
}
