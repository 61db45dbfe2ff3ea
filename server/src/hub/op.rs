//! What the owner of a channel is asked, and what it answers.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_protocol::{ChannelName, Position, Presence, UserId};
use tokio::sync::oneshot;

use super::merge::Wish;
use super::outbox::Outbox;
use crate::delivery::{Delivery, History};
use crate::rules::SlowReader;

/// What the owner is asked to do.
pub(super) enum Op {
    /// Hand a delivery to the channel's subscribers.
    Deliver(Delivery),
    /// Tell the channel's subscribers what happened to its messages, in its place among the deliveries.
    Notify {
        channel: ChannelName,
        notice: Notice,
    },
    /// Add a subscriber that is still joining.
    Join {
        channel: ChannelName,
        id: SubscriberId,
        outbox: Arc<Outbox>,
        slow_reader: SlowReader,
        done: oneshot::Sender<()>,
    },
    /// Make it live.
    Activate {
        channel: ChannelName,
        id: SubscriberId,
        activation: Box<Activation>,
        done: oneshot::Sender<Activated>,
    },
    /// Take it out, and send it a last word once nothing of the channel can follow.
    Leave {
        channel: ChannelName,
        id: SubscriberId,
        farewell: Option<(Arc<Outbox>, Bytes)>,
    },
    /// How many are live in a channel?
    Count {
        channel: ChannelName,
        done: oneshot::Sender<usize>,
    },
    /// Which channels have live subscribers?
    Channels {
        done: oneshot::Sender<Vec<(ChannelName, usize)>>,
    },
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deliver(_) => "Deliver",
            Self::Notify { .. } => "Notify",
            Self::Join { .. } => "Join",
            Self::Activate { .. } => "Activate",
            Self::Leave { .. } => "Leave",
            Self::Count { .. } => "Count",
            Self::Channels { .. } => "Channels",
        })
    }
}

/// What happened to a channel's messages on their way here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Some were lost, and no history can bring them back.
    Gap { reason: &'static str },
    /// The history no longer continues what was delivered; it goes on after a position.
    Reset {
        position: Position,
        reason: &'static str,
    },
}

/// A subscriber's place in the hub, unique for the life of the process.
pub(crate) type SubscriberId = u64;

/// What turns a joining subscription into a live one.
#[derive(Debug)]
pub(crate) struct Activation {
    /// The command's id, for the reply.
    pub(crate) request: Option<u64>,
    /// What it asked for.
    pub(crate) wish: Wish,
    /// The history read after joining; none on channels without positions.
    pub(crate) history: Option<History>,
    /// The presence snapshot and its position.
    pub(crate) presence: Option<(Presence, Position)>,
    /// The member that the connection is, where it has just become one.
    pub(crate) member: Option<UserId>,
    /// Whether a hole may be answered with another read, or must be settled now.
    pub(crate) is_last_try: bool,
    /// The most bytes of payload in the reply.
    pub(crate) bytes_max: usize,
}

/// What became of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activated {
    /// The reply is out and the subscription is live.
    Live,
    /// History and buffer do not join: read again.
    Hole,
    /// The presence snapshot cannot be joined to the stream now.
    Failed,
    /// It was no longer there.
    Gone,
}
