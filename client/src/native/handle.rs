//! The handle that programs hold.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use fanfare_protocol::{
    ChannelName, EventName, IdempotencyKey, Position, Presence, RawJson, Reply,
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite;

use crate::error::ClientError;
use crate::event::{ChannelState, ConnectionState, ConnectionStatus, Event};
use crate::history::History;
use crate::io::{Input, RequestId};
use crate::options::SubscribeOptions;

use super::driver::{self, Order};
use super::options::NativeOptions;
use super::queue::Listener;
use super::socket;

/// A connection to a Fanfare server, kept up by a task of its own. Clones are cheap and share it.
///
/// The task ends with [`NativeClient::close`], or when the last clone and the last [`Subscription`] are gone.
#[derive(Clone)]
pub struct NativeClient {
    shared: Arc<Shared>,
}

struct Shared {
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<ConnectionStatus>,
    /// Holds callers back before the machine's queue is full.
    permits: Semaphore,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address or a header cannot be used for a WebSocket handshake.
    #[error("the address is not a WebSocket address")]
    Address(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl NativeClient {
    /// Starts connecting to a `ws://` address. Connections that fail are retried until [`NativeClient::close`].
    ///
    /// # Errors
    /// When the address cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect(url: &str, options: NativeOptions) -> Result<Self, ConnectError> {
        let request = socket::request(url, &options.headers).map_err(address)?;
        let scheme = request.uri().scheme_str();
        if !matches!(scheme, Some("ws" | "wss")) {
            let error = tungstenite::error::UrlError::UnsupportedUrlScheme;
            return Err(address(error.into()));
        }
        let limits = options.machine.queue;
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let (task, status) = driver::start(request, options, received);
        Ok(Self {
            shared: Arc::new(Shared {
                orders,
                status,
                permits: Semaphore::new(limits.messages_max + limits.in_flight_max),
                task: Mutex::new(Some(task)),
            }),
        })
    }

    /// Waits until the connection stands.
    ///
    /// # Errors
    /// When it has failed for good, or was closed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connected(&self) -> Result<ConnectionStatus, ClientError> {
        let is_settled = |status: &ConnectionStatus| {
            use ConnectionState::{Connected, Disconnected, Failed};
            matches!(status.state, Connected | Failed | Disconnected)
        };
        let status = self.wait_for(is_settled).await?;
        match status.state {
            ConnectionState::Connected => Ok(status),
            _ => Err(status.error.unwrap_or(ClientError::Closed)),
        }
    }

    /// Waits for a state of the connection. States that pass quickly may be missed.
    ///
    /// # Errors
    /// When the client was closed before.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_for(
        &self,
        is_wanted: impl FnMut(&ConnectionStatus) -> bool,
    ) -> Result<ConnectionStatus, ClientError> {
        let mut status = self.shared.status.clone();
        match status.wait_for(is_wanted).await {
            Ok(status) => Ok(status.clone()),
            Err(_) => Err(ClientError::Closed),
        }
    }

    /// The state of the connection.
    #[must_use]
    pub fn status(&self) -> ConnectionStatus {
        self.shared.status.borrow().clone()
    }

    /// Subscribes to a channel. A channel that is subscribed already is shared: every subscription gets all events from now on.
    ///
    /// A subscription ends when it is refused, also for being above the server's limit, and when the client fails for good.
    ///
    /// # Errors
    /// When the client was closed or has failed for good; [`ClientError::AlreadySubscribed`] when there are options and another
    /// subscription of the channel, so that they could have no effect.
    ///
    /// # Cancel safety
    /// Safe: a subscription that nobody holds ends.
    pub async fn subscribe(
        &self,
        channel: ChannelName,
        options: SubscribeOptions,
    ) -> Result<Subscription, ClientError> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Subscribe {
            channel,
            options,
            reply,
        };
        self.order(order).await?;
        let listener = answer.await.map_err(|_| ClientError::Closed)??;
        Ok(Subscription {
            listener,
            _client: self.clone(),
        })
    }

    /// Sends a client event and waits until the server has it; its position on channels that keep history.
    ///
    /// # Errors
    /// When the server refuses it; or with [`ClientError::UnknownOutcome`], when it may have happened and no attempt has told. The
    /// client repeats by itself what it can: on the same connection, and on the next one of the same user. To repeat such a
    /// publish later give it a key: [`NativeClient::publish_with_key`].
    ///
    /// # Cancel safety
    /// A publish that is cancelled may still happen.
    pub async fn publish(
        &self,
        channel: &ChannelName,
        event: &EventName,
        data: RawJson,
    ) -> Result<Option<Position>, ClientError> {
        self.publish_with_key(channel, event, data, None).await
    }

    /// The same with an own idempotency key: a repetition within ten minutes is recognised, also from another process.
    ///
    /// # Errors
    /// As [`NativeClient::publish`].
    ///
    /// # Cancel safety
    /// As [`NativeClient::publish`].
    pub async fn publish_with_key(
        &self,
        channel: &ChannelName,
        event: &EventName,
        data: RawJson,
        key: Option<IdempotencyKey>,
    ) -> Result<Option<Position>, ClientError> {
        let (channel, event) = (channel.clone(), event.clone());
        let reply = self.ask(|request| Input::Publish {
            request,
            channel,
            event,
            data,
            key,
        });
        Ok(reply.await?.position)
    }

    /// Sends a typed event to the server's event bus; the id it got there. No server has a bus yet: all refuse.
    ///
    /// # Errors
    /// As [`NativeClient::publish`].
    ///
    /// # Cancel safety
    /// As [`NativeClient::publish`].
    #[doc(hidden)]
    pub async fn emit(
        &self,
        event: &EventName,
        data: RawJson,
        key: Option<IdempotencyKey>,
    ) -> Result<Option<String>, ClientError> {
        let event = event.clone();
        let reply = self.ask(|request| Input::Emit {
            request,
            event,
            data,
            key,
        });
        Ok(reply.await?.event_id)
    }

    /// Asks for the members of a presence channel.
    ///
    /// # Errors
    /// When the server refuses, or does not answer in time.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn presence(&self, channel: &ChannelName) -> Result<Presence<RawJson>, ClientError> {
        let channel = channel.clone();
        let reply = self.ask(|request| Input::Presence { request, channel });
        reply.await?.presence.ok_or(ClientError::Protocol)
    }

    /// Shows other info about the user on this connection, where the channel's rule allows it; `null` takes the last update back.
    ///
    /// The client remembers it and joins with it again after every reconnect, until the channel is unsubscribed or another user logs
    /// in. While the channel is being subscribed the info goes out with the subscription.
    ///
    /// # Errors
    /// When the server refuses, or does not answer in time.
    ///
    /// # Cancel safety
    /// An update that is cancelled may still happen.
    pub async fn update_presence(
        &self,
        channel: &ChannelName,
        info: RawJson,
    ) -> Result<(), ClientError> {
        let channel = channel.clone();
        let reply = self.ask(|request| Input::PresenceUpdate {
            request,
            channel,
            info,
        });
        reply.await.map(|_| ())
    }

    /// Asks for past messages, oldest first: those after a position, or the newest ones.
    ///
    /// The server has a limit of its own, 300 messages and 1 MiB unless it is configured otherwise: [`History::next`] says where to
    /// go on.
    ///
    /// # Errors
    /// When the server refuses, or does not answer in time.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn history(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        limit: Option<u32>,
    ) -> Result<History<RawJson>, ClientError> {
        let channel = channel.clone();
        let reply = self.ask(|request| Input::History {
            request,
            channel,
            since,
            limit,
        });
        History::of(reply.await?).ok_or(ClientError::Protocol)
    }

    /// Logs in or out; logging out makes a new connection.
    ///
    /// # Errors
    /// When the client was closed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn set_token(&self, token: Option<String>) -> Result<(), ClientError> {
        self.order(Order::Input(Input::SetToken(token))).await
    }

    /// Connects again after a failure, or at once where a retry is waited for.
    ///
    /// # Errors
    /// When the client was closed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn reconnect(&self) -> Result<(), ClientError> {
        self.order(Order::Input(Input::Connect)).await
    }

    /// Ends the connection with a goodbye and waits until the task is gone. Requests that wait are answered with
    /// [`ClientError::Closed`], subscriptions end.
    ///
    /// # Cancel safety
    /// Once polled, the client closes; only the waiting can be cancelled.
    pub async fn close(&self) {
        // An error says that the task is on its way out already.
        let _ = self.order(Order::Close).await;
        let task = (self.shared.task.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            // A task that panicked has ended too; the panic was printed where it happened.
            let _ = task.await;
        } else {
            let mut status = self.shared.status.clone();
            while status.changed().await.is_ok() {}
        }
    }

    async fn order(&self, order: Order) -> Result<(), ClientError> {
        let sent = self.shared.orders.send(order).await;
        sent.map_err(|_| ClientError::Closed)
    }

    async fn ask(
        &self,
        input: impl FnOnce(RequestId) -> Input<RawJson>,
    ) -> Result<Reply<RawJson>, ClientError> {
        let permit = self.shared.permits.acquire().await;
        let _permit = permit.map_err(|_| ClientError::Closed)?;
        let (reply, answer) = oneshot::channel();
        // The driver replaces the number by one of its own.
        let input = input(RequestId(0));
        let is_publish = matches!(input, Input::Publish { .. } | Input::Emit { .. });
        self.order(Order::Ask { input, reply }).await?;
        // A task that ended without an answer may have sent it.
        let lost = match is_publish {
            true => ClientError::UnknownOutcome,
            false => ClientError::Closed,
        };
        answer.await.unwrap_or(Err(lost))
    }
}

impl fmt::Debug for NativeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeClient")
            .field("status", &*self.shared.status.borrow())
            .finish_non_exhaustive()
    }
}

/// One listener of a channel. When the last one of a channel is dropped, the client unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    listener: Listener,
    /// The connection lives as long as somebody listens.
    _client: NativeClient,
}

impl Subscription {
    /// The next event: messages, members, gaps, resets, and changes of the subscription's own state. `None` once the
    /// subscription has failed, was ended by the server, or the client was closed.
    ///
    /// # Cancel safety
    /// Safe: an event that was not returned is returned by the next call.
    pub async fn recv(&mut self) -> Option<Event<RawJson>> {
        self.listener.queue().pop().await
    }

    /// Waits until the server has confirmed the subscription. Events are not consumed.
    ///
    /// # Errors
    /// Why it failed, or [`ClientError::Closed`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn subscribed(&self) -> Result<(), ClientError> {
        self.listener.queue().subscribed().await
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        self.listener.queue().channel()
    }

    /// The state of the subscription.
    #[must_use]
    pub fn state(&self) -> ChannelState {
        self.listener.queue().state()
    }
}

fn address(error: tungstenite::Error) -> ConnectError {
    ConnectError::Address(Box::new(error))
}

/// 256: a burst of orders waits here while the task is busy; more make their callers wait.
const ORDERS_MAX: usize = 256;
