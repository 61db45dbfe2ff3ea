//! The ways to publish: to a channel, to many, to all but one, to users.

use std::collections::HashSet;

use fanfare_protocol::{ChannelName, EventName, NameError, RawJson, SocketId, UserId};
use futures_util::future::join_all;
use serde::Serialize;

use super::{PublishError, Publisher};
use crate::delivery::{Publication, Published};

impl Publisher {
    /// Publishes an event to everybody who is subscribed to a channel.
    ///
    /// `data` becomes the event's `data`, as JSON. Where the channel keeps history, the answer carries the position.
    ///
    /// # Errors
    /// Says what was wrong with the names or the payload, or that the engine did not accept it.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have published. To repeat one safely, publish with a key: [`Publisher::publish`].
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
    /// As [`Publisher::broadcast`]; the first failure is told, publications to the other channels may have been accepted.
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
    /// As [`Publisher::broadcast`].
    ///
    /// # Cancel safety
    /// As [`Publisher::broadcast`].
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
    /// As [`Publisher::broadcast`].
    ///
    /// # Cancel safety
    /// As [`Publisher::broadcast`].
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
    /// As [`Publisher::broadcast_to_many`].
    ///
    /// # Cancel safety
    /// As [`Publisher::broadcast_to_many`].
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
