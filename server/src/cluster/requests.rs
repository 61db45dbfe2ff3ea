//! The requests and orders of an application, over all nodes.

use fanfare_protocol::{ChannelName, Member, NameError, SocketId, UserId};
use tokio::time::timeout;

use super::{ClusterError, NAMES_MAX, NodeReply, NodeRequest};
use crate::engine::EngineError;
use crate::publish::Publisher;

impl Publisher {
    /// How many connections are subscribed to a channel, over all nodes.
    ///
    /// # Errors
    /// When the channel's name is not one, or a node did not answer.
    pub async fn subscriber_count<C>(&self, channel: C) -> Result<usize, ClusterError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?.to_string();
        self.count(NodeRequest::SubscriberCount { channel }).await
    }

    /// Whether anybody is subscribed to a channel, on any node. Nobody else is asked when somebody is here.
    ///
    /// # Errors
    /// When the channel's name is not one, or a node did not answer.
    pub async fn has_subscribers<C>(&self, channel: C) -> Result<bool, ClusterError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?.to_string();
        let request = NodeRequest::SubscriberCount { channel };
        if let Some(NodeReply::Count { count: 1.. }) = self.request_here(&request).await {
            return Ok(true);
        }
        let others = self.request_others(&request).await?;
        Ok(sum(&others) > 0)
    }

    /// The channels that somebody is subscribed to, on any node, ordered by name.
    ///
    /// # Errors
    /// When a node did not answer, or another one has more than 20,000 channels.
    pub async fn channels(&self) -> Result<Vec<ChannelName>, ClusterError> {
        let names = self.names(NodeRequest::Channels, "channels").await?;
        let mut channels: Vec<ChannelName> = names
            .iter()
            .filter_map(|name| ChannelName::new(name).ok())
            .collect();
        channels.sort_unstable();
        channels.dedup();
        Ok(channels)
    }

    /// Who is present in a presence channel; at most 1,000 members are listed.
    ///
    /// # Errors
    /// When the channel's name is not one or the engine does not answer.
    pub async fn presence_members<C>(&self, channel: C) -> Result<Vec<Member>, ClusterError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?;
        let _call = self.calls.token();
        let reading = self.engine.presence.members(&channel, None);
        match timeout(self.deadline, reading).await {
            Ok(members) => Ok(members.map_err(ClusterError::Engine)?.members),
            Err(_) => Err(unanswered("reading members")),
        }
    }

    /// The connections of a user, on all nodes: those with the user's credentials, and those that showed a channel token which
    /// names the user.
    ///
    /// # Errors
    /// When a node did not answer.
    pub async fn connections_of(&self, user: &UserId) -> Result<Vec<SocketId>, ClusterError> {
        let user = user.to_string();
        let request = NodeRequest::ConnectionsOf { user };
        let names = self.names(request, "connections of a user").await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// How many connections there are, over all nodes.
    ///
    /// # Errors
    /// When a node did not answer.
    pub async fn connection_count(&self) -> Result<usize, ClusterError> {
        self.count(NodeRequest::ConnectionCount).await
    }

    /// Subscribes a connection to a channel on the application's word, whichever node it is on: nobody is asked, and the client
    /// is told by a `subscription_succeeded` that answers no command.
    ///
    /// # Errors
    /// When there is no such connection, or it is too busy, or a node did not answer.
    pub async fn subscribe<C>(&self, socket: SocketId, channel: C) -> Result<(), ClusterError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?.to_string();
        let order = NodeRequest::Subscribe {
            socket: socket.to_string(),
            channel,
        };
        self.order(socket, order).await
    }

    /// Ends a connection's subscription, whichever node it is on; the client is told by an `unsubscribed` with code 4318.
    ///
    /// A channel token that was made before does not bring it back, subscribed or not. Whether the authorizer or the auth
    /// endpoint let it in again is up to them.
    ///
    /// # Errors
    /// When there is no such connection, or it is too busy, or a node did not answer.
    pub async fn unsubscribe<C>(&self, socket: SocketId, channel: C) -> Result<(), ClusterError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?.to_string();
        let order = NodeRequest::Unsubscribe {
            socket: socket.to_string(),
            channel,
        };
        self.order(socket, order).await
    }

    /// Closes all connections of a user for good (4005), on all nodes: their clients do not come back by themselves.
    ///
    /// It reaches connections with the user's credentials, those whose credentials are still being judged, and those that
    /// showed a channel token which names the user; channel tokens that were made before do not count any more. Take back the
    /// user's session first: who shows valid credentials afterwards is let in.
    ///
    /// Answers how many there were; those that are still being judged are not counted.
    ///
    /// # Errors
    /// When a node did not answer: the others have closed theirs.
    pub async fn disconnect_user(&self, user: &UserId) -> Result<usize, ClusterError> {
        let user = user.to_string();
        self.count(NodeRequest::DisconnectUser { user }).await
    }

    /// Drops a connection without a word, whichever node it is on, as a failing network does: its client comes back by itself
    /// and recovers what it missed.
    ///
    /// # Errors
    /// When there is no such connection, or a node did not answer.
    pub async fn drop_connection(&self, socket: SocketId) -> Result<(), ClusterError> {
        let order = NodeRequest::DropConnection {
            socket: socket.to_string(),
        };
        self.order(socket, order).await
    }

    async fn count(&self, request: NodeRequest) -> Result<usize, ClusterError> {
        let replies = self.request(&request).await?;
        Ok(usize::try_from(sum(&replies)).unwrap_or(usize::MAX))
    }

    async fn names(
        &self,
        request: NodeRequest,
        what: &'static str,
    ) -> Result<Vec<String>, ClusterError> {
        let mut all = Vec::new();
        for reply in self.request(&request).await? {
            match reply {
                NodeReply::Names { names } if names.len() <= NAMES_MAX => all.extend(names),
                _ => {
                    return Err(ClusterError::TooMany {
                        what,
                        limit: NAMES_MAX,
                    });
                }
            }
        }
        Ok(all)
    }

    /// One node has the connection, if it is anywhere.
    async fn order(&self, socket: SocketId, order: NodeRequest) -> Result<(), ClusterError> {
        let replies = match self.request_here(&order).await {
            Some(reply @ (NodeReply::Done | NodeReply::Busy)) => vec![reply],
            _ => self.request_others(&order).await?,
        };
        if replies.contains(&NodeReply::Done) {
            Ok(())
        } else if replies.contains(&NodeReply::Busy) {
            Err(ClusterError::Busy { socket })
        } else {
            Err(ClusterError::NoSuchConnection { socket })
        }
    }

    async fn request(&self, request: &NodeRequest) -> Result<Vec<NodeReply>, ClusterError> {
        let (here, others) = tokio::join!(self.request_here(request), self.request_others(request));
        Ok(here.into_iter().chain(others?).collect())
    }

    async fn request_here(&self, request: &NodeRequest) -> Option<NodeReply> {
        match &self.node {
            Some(node) => Some(node.reply(request).await),
            None => None,
        }
    }

    async fn request_others(&self, request: &NodeRequest) -> Result<Vec<NodeReply>, ClusterError> {
        let _call = self.calls.token();
        let requests = self.engine.broker.request(request.encode());
        let bodies = match timeout(self.deadline, requests).await {
            Ok(Ok(bodies)) => bodies,
            Ok(Err(EngineError::Incomplete {
                answered, asked, ..
            })) => {
                return Err(ClusterError::Incomplete { answered, asked });
            }
            Ok(Err(error)) => return Err(ClusterError::Engine(error)),
            Err(_) => return Err(unanswered("requesting from the other nodes")),
        };
        let asked = bodies.len();
        let mut replies: Vec<NodeReply> =
            bodies.iter().map(|body| NodeReply::decode(body)).collect();
        replies.retain(|reply| *reply != NodeReply::Unknown);
        if replies.len() < asked {
            let answered = replies.len();
            return Err(ClusterError::Incomplete { answered, asked });
        }
        Ok(replies)
    }
}

fn sum(replies: &[NodeReply]) -> u64 {
    let counts = replies.iter().map(|reply| match reply {
        NodeReply::Count { count } => *count,
        _ => 0,
    });
    counts.fold(0, u64::saturating_add)
}

fn unanswered(attempted: &'static str) -> ClusterError {
    ClusterError::Engine(EngineError::Unknown {
        engine: "configured",
        attempted,
    })
}

fn channel_name<C: TryInto<ChannelName, Error: Into<NameError>>>(
    channel: C,
) -> Result<ChannelName, ClusterError> {
    channel
        .try_into()
        .map_err(|error| ClusterError::Channel(error.into()))
}
