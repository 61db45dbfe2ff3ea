//! The application's hand on a running server.

use std::collections::HashSet;
use std::sync::Arc;

use fanfare_protocol::{
    ChannelName, Code, EventName, Member, NameError, RawJson, SocketId, UserId,
};
use futures_util::future::join_all;
use serde::Serialize;

use crate::delivery::{Publication, Published};
use crate::engine::EngineError;
use crate::publish::PublishError;
use crate::services::Services;
use crate::sessions::{Control, SessionHandle};

/// Publishes, asks and orders from anywhere in an application. Cheap to clone.
///
/// ```
/// # use fanfare_server::{Server, PublishError};
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder().build().await?;
/// let events = server.handle();
/// events.broadcast("orders", "order.created", &serde_json::json!({ "id": 7 })).await?;
/// assert_eq!(events.subscriber_count("orders").await?, 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Handle {
    services: Arc<Services>,
}

/// Why a question or an order of the application failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The channel's name is not one.
    #[error("the channel name is not valid")]
    Channel(#[source] NameError),
    /// No connection with this id is on this node.
    #[error("no connection {socket} is here")]
    NoSuchConnection {
        /// The id.
        socket: SocketId,
    },
    /// More was asked of the connection than it has carried out so far; try again.
    #[error("connection {socket} has too many orders waiting, try again")]
    Busy {
        /// The id.
        socket: SocketId,
    },
    /// The engine did not answer.
    #[error("the engine did not answer")]
    Engine(#[source] EngineError),
}

impl Handle {
    pub(crate) fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    /// Publishes an event to everybody who is subscribed to a channel.
    ///
    /// `data` becomes the event's `data`, as JSON. Where the channel keeps history, the answer carries the position.
    ///
    /// # Errors
    /// Says what was wrong with the names or the payload, or that the engine did not accept it.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have published. To repeat one safely, publish with a key: [`Handle::publish`].
    pub async fn broadcast<C, E, T>(
        &self,
        channel: C,
        event: E,
        data: &T,
    ) -> Result<Published, PublishError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
        E: TryInto<EventName, Error: Into<NameError>>,
        T: Serialize + ?Sized,
    {
        let channel = channel
            .try_into()
            .map_err(|error| PublishError::Channel(error.into()))?;
        self.publish(Publication::new(
            channel,
            event_name(event)?,
            payload(data)?,
        ))
        .await
    }

    /// Publishes an event to several channels; each subscription gets it once, repeated channels count once.
    ///
    /// The answers come in the order of the channels, without repetitions. No channel, no answer.
    ///
    /// # Errors
    /// As [`Handle::broadcast`]; the first failure is told, publications to the other channels may have been accepted.
    ///
    /// # Cancel safety
    /// A dropped call may have published to some of the channels.
    pub async fn broadcast_to_many<I, C, E, T>(
        &self,
        channels: I,
        event: E,
        data: &T,
    ) -> Result<Vec<Published>, PublishError>
    where
        I: IntoIterator<Item = C>,
        C: TryInto<ChannelName, Error: Into<NameError>>,
        E: TryInto<EventName, Error: Into<NameError>>,
        T: Serialize + ?Sized,
    {
        let channels: Result<Vec<_>, _> = channels.into_iter().map(TryInto::try_into).collect();
        let channels = channels.map_err(|error| PublishError::Channel(error.into()))?;
        self.publish_to(channels, event_name(event)?, payload(data)?)
            .await
    }

    /// Publishes an event to everybody who is subscribed to a channel, except one connection (the sender, as a rule).
    ///
    /// # Errors
    /// As [`Handle::broadcast`].
    ///
    /// # Cancel safety
    /// As [`Handle::broadcast`].
    pub async fn broadcast_except<C, E, T>(
        &self,
        channel: C,
        event: E,
        data: &T,
        except: SocketId,
    ) -> Result<Published, PublishError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
        E: TryInto<EventName, Error: Into<NameError>>,
        T: Serialize + ?Sized,
    {
        let channel = channel
            .try_into()
            .map_err(|error| PublishError::Channel(error.into()))?;
        self.publish(Publication::new(channel, event_name(event)?, payload(data)?).except(except))
            .await
    }

    /// Sends an event to all connections of a user, through the personal channel `user:<id>`.
    ///
    /// # Errors
    /// As [`Handle::broadcast`].
    ///
    /// # Cancel safety
    /// As [`Handle::broadcast`].
    pub async fn send_to_user<E, T>(
        &self,
        user: &UserId,
        event: E,
        data: &T,
    ) -> Result<Published, PublishError>
    where
        E: TryInto<EventName, Error: Into<NameError>>,
        T: Serialize + ?Sized,
    {
        self.broadcast(ChannelName::user(user), event, data).await
    }

    /// Sends an event to all connections of several users. Repeated users count once, so every connection gets it once; an
    /// empty list does nothing.
    ///
    /// # Errors
    /// As [`Handle::broadcast_to_many`].
    ///
    /// # Cancel safety
    /// As [`Handle::broadcast_to_many`].
    pub async fn send_to_users<'a, I, E, T>(
        &self,
        users: I,
        event: E,
        data: &T,
    ) -> Result<Vec<Published>, PublishError>
    where
        I: IntoIterator<Item = &'a UserId>,
        E: TryInto<EventName, Error: Into<NameError>>,
        T: Serialize + ?Sized,
    {
        let channels = users.into_iter().map(ChannelName::user).collect();
        self.publish_to(channels, event_name(event)?, payload(data)?)
            .await
    }

    /// Publishes with everything that can be said about a publication: sender, exception, idempotency key.
    ///
    /// # Errors
    /// As [`Handle::broadcast`].
    ///
    /// # Cancel safety
    /// As [`Handle::broadcast`].
    pub async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        self.services.publisher.publish(publication).await
    }

    /// How many connections are subscribed to a channel.
    ///
    /// # Errors
    /// When the channel's name is not one.
    pub async fn subscriber_count<C>(&self, channel: C) -> Result<usize, HandleError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?;
        Ok(self.services.hub.subscriber_count(&channel).await)
    }

    /// Whether anybody is subscribed to a channel.
    ///
    /// # Errors
    /// When the channel's name is not one.
    pub async fn has_subscribers<C>(&self, channel: C) -> Result<bool, HandleError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        Ok(self.subscriber_count(channel).await? > 0)
    }

    /// The channels that somebody is subscribed to, ordered by name.
    pub async fn channels(&self) -> Vec<ChannelName> {
        let mut channels: Vec<_> = self
            .services
            .hub
            .channels()
            .await
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        channels.sort_unstable();
        channels
    }

    /// Who is present in a presence channel; at most 1,000 members are listed.
    ///
    /// # Errors
    /// When the channel's name is not one or the engine does not answer.
    pub async fn presence_members<C>(&self, channel: C) -> Result<Vec<Member>, HandleError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?;
        let members = self
            .services
            .engine
            .presence
            .members(&channel)
            .await
            .map_err(HandleError::Engine)?;
        Ok(members.members)
    }

    /// The connections of a user.
    pub async fn connections_of(&self, user: &UserId) -> Vec<SocketId> {
        self.services
            .sessions
            .of_user(user)
            .iter()
            .map(|session| session.id())
            .collect()
    }

    /// How many connections there are.
    pub async fn connection_count(&self) -> usize {
        self.services.sessions.count()
    }

    /// Subscribes a connection to a channel on the application's word: nobody is asked, and the client is told by a
    /// `subscription_succeeded` that answers no command.
    ///
    /// # Errors
    /// When there is no such connection, or it is too busy.
    pub async fn subscribe<C>(&self, socket: SocketId, channel: C) -> Result<(), HandleError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?;
        self.order(socket, Control::Subscribe(channel))
    }

    /// Ends a connection's subscription; the client is told by an `unsubscribed` with code 4318.
    ///
    /// # Errors
    /// When there is no such connection, or it is too busy.
    pub async fn unsubscribe<C>(&self, socket: SocketId, channel: C) -> Result<(), HandleError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?;
        self.order(socket, Control::Unsubscribe(channel))
    }

    /// Closes all connections of a user for good (4005): their clients do not come back by themselves.
    ///
    /// Answers how many there were.
    pub async fn disconnect_user(&self, user: &UserId) -> usize {
        let sessions = self.services.sessions.of_user(user);
        for session in &sessions {
            let code = Code::DISCONNECTED;
            session.ask(Control::Disconnect {
                code,
                reason: code.text().to_owned(),
                after_ms: 0,
            });
        }
        sessions.len()
    }

    /// Drops a connection without a word, as a failing network does: its client comes back by itself and recovers what it
    /// missed.
    ///
    /// # Errors
    /// When there is no such connection.
    pub async fn drop_connection(&self, socket: SocketId) -> Result<(), HandleError> {
        self.session(socket)?.cut();
        Ok(())
    }

    /// Ends the server: no new connections, every client is told when to come back, and what is queued is sent. Resolves when
    /// the last task has ended, at the latest after the configured deadline.
    ///
    /// # Cancel safety
    /// A dropped call has begun the shutdown; another one waits for its end.
    pub async fn shutdown(&self) {
        crate::shutdown::run(&self.services).await;
    }

    fn order(&self, socket: SocketId, control: Control) -> Result<(), HandleError> {
        if self.session(socket)?.ask(control) {
            Ok(())
        } else {
            Err(HandleError::Busy { socket })
        }
    }

    fn session(&self, socket: SocketId) -> Result<Arc<SessionHandle>, HandleError> {
        let session = self.services.sessions.get(socket);
        session.ok_or(HandleError::NoSuchConnection { socket })
    }

    async fn publish_to(
        &self,
        mut channels: Vec<ChannelName>,
        event: EventName,
        data: RawJson,
    ) -> Result<Vec<Published>, PublishError> {
        let mut seen = HashSet::new();
        channels.retain(|channel| seen.insert(channel.clone()));
        let mut published = Vec::with_capacity(channels.len());
        for some in channels.chunks(PUBLISHED_AT_ONCE) {
            let publications = some.iter().map(|channel| {
                self.publish(Publication::new(
                    channel.clone(),
                    event.clone(),
                    data.clone(),
                ))
            });
            for outcome in join_all(publications).await {
                published.push(outcome?);
            }
        }
        Ok(published)
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

fn channel_name<C: TryInto<ChannelName, Error: Into<NameError>>>(
    channel: C,
) -> Result<ChannelName, HandleError> {
    channel
        .try_into()
        .map_err(|error| HandleError::Channel(error.into()))
}

fn event_name<E: TryInto<EventName, Error: Into<NameError>>>(
    event: E,
) -> Result<EventName, PublishError> {
    event
        .try_into()
        .map_err(|error| PublishError::Event(error.into()))
}

fn payload<T: Serialize + ?Sized>(data: &T) -> Result<RawJson, PublishError> {
    RawJson::encode(data).map_err(PublishError::Payload)
}

/// 64: so many publications of one call are under way at once.
const PUBLISHED_AT_ONCE: usize = 64;
