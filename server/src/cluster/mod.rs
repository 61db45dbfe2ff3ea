//! What one node asks the others: small messages, versioned, so that nodes of different releases understand each other or know
//! that they do not.
//!
//! `{"v":1,"ask":"subscriber_count","channel":"orders"}` is answered with `{"is":"count","count":3}`, and what a node does not
//! understand with `{"is":"unknown"}`. Whoever asks takes that for no answer: a number that leaves a node out would be wrong.

mod node;
mod requests;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use fanfare_protocol::{NameError, SocketId};
use serde::{Deserialize, Serialize};

pub(crate) use self::node::{Node, NodeRequests};
use crate::engine::EngineError;

/// Why a request or an order of the application failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The channel's name is not one.
    #[error("the channel name is not valid")]
    Channel(#[source] NameError),
    /// No connection with this id is on any node.
    #[error("there is no connection {socket}")]
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
    /// Some nodes did not answer, so that any result would be wrong. An order may have been carried out by those that did.
    #[error("only {answered} of {asked} other nodes answered")]
    Incomplete {
        /// How many answered.
        answered: usize,
        /// How many were asked.
        asked: usize,
    },
    /// A node has more to tell than one answer holds.
    #[error("a node has more than {limit} {what}, which is more than one answer holds")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Not everything under way had ended when the time was up.
    #[error("{calls} calls were still under way when the time to close was up")]
    Unfinished {
        /// How many.
        calls: usize,
    },
    /// The engine did not answer.
    #[error("the engine did not answer")]
    Engine(#[source] EngineError),
}

/// What a node can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum NodeRequest {
    /// How many connections are subscribed to a channel?
    SubscriberCount { channel: String },
    /// Which channels have subscribers?
    Channels,
    /// How many connections are there?
    ConnectionCount,
    /// Which connections does a user have?
    ConnectionsOf { user: String },
    /// Subscribe a connection.
    Subscribe { socket: String, channel: String },
    /// End a connection's subscription.
    Unsubscribe { socket: String, channel: String },
    /// Close all connections of a user for good. How many were there?
    DisconnectUser { user: String },
    /// Cut a connection.
    DropConnection { socket: String },
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum NodeReply {
    /// So many.
    Count { count: u64 },
    /// These.
    Names { names: Vec<String> },
    /// The order is being carried out.
    Done,
    /// The connection has too many orders waiting.
    Busy,
    /// The connection is not here.
    NotHere,
    /// More than an answer holds.
    TooMany,
    /// The request means nothing to this node.
    #[serde(other)]
    Unknown,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    #[serde(flatten)]
    content: T,
}

impl NodeRequest {
    pub(crate) fn encode(&self) -> Bytes {
        encode(&Envelope {
            v: VERSION,
            content: self,
        })
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let envelope: Envelope<Self> = serde_json::from_slice(body).ok()?;
        (envelope.v == VERSION).then_some(envelope.content)
    }
}

impl NodeReply {
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    pub(crate) fn decode(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or(Self::Unknown)
    }
}

/// The answer of a process that publishes and has no connections.
pub(crate) fn reply_of_publisher(body: &[u8]) -> Bytes {
    let reply = match NodeRequest::decode(body) {
        None => NodeReply::Unknown,
        Some(
            NodeRequest::SubscriberCount { .. }
            | NodeRequest::ConnectionCount
            | NodeRequest::DisconnectUser { .. },
        ) => NodeReply::Count { count: 0 },
        Some(NodeRequest::Channels | NodeRequest::ConnectionsOf { .. }) => {
            NodeReply::Names { names: Vec::new() }
        }
        Some(
            NodeRequest::Subscribe { .. }
            | NodeRequest::Unsubscribe { .. }
            | NodeRequest::DropConnection { .. },
        ) => NodeReply::NotHere,
    };
    reply.encode()
}

fn encode<T: Serialize>(message: &T) -> Bytes {
    // Texts and numbers in a struct: there is nothing in it that could fail to be written.
    serde_json::to_vec(message).map_or_else(|_| Bytes::new(), Bytes::from)
}

/// Raised when a request changes its meaning. A request that is new needs no new version: who does not know it says so.
const VERSION: u32 = 1;

/// 20,000: at the length of usual names an answer then stays below a megabyte.
const NAMES_MAX: usize = 20_000;
