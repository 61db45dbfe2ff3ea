//! A node answers: from its own hub and its own sessions.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_protocol::{ChannelName, SocketId, UserId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{NAMES_MAX, NodeReply, NodeRequest};
use crate::clock;
use crate::engine;
use crate::hub::Hub;
use crate::sessions::{Control, Sessions};

/// What this process knows about connections.
pub(crate) struct Node {
    pub(crate) hub: Arc<Hub>,
    pub(crate) sessions: Arc<Sessions>,
    /// Cancelled when the hub's owners end: nobody answers for them any more.
    pub(crate) stopped: CancellationToken,
}

/// What other nodes have asked and was not answered yet.
#[derive(Clone)]
pub(crate) struct NodeRequests(mpsc::Sender<(Bytes, engine::NodeReplySender)>);

impl NodeRequests {
    /// The letter box, and the task that answers what is in it until the engine is closed: a node that is on its way out still
    /// counts for those who ask.
    pub(crate) fn served_by(
        node: Arc<Node>,
        closed: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, mut waiting) = mpsc::channel::<(Bytes, engine::NodeReplySender)>(WAITING_MAX);
        let serving = async move {
            while let Some(Some((body, reply))) = closed.run_until_cancelled(waiting.recv()).await {
                reply.send(node.reply_to(&body).await);
            }
        };
        (Self(sender), serving)
    }

    /// Takes a request; never blocks. When too many wait it is dropped, and this node counts as silent.
    pub(crate) fn take(&self, body: Bytes, reply: engine::NodeReplySender) {
        if self.0.try_send((body, reply)).is_err() {
            tracing::warn!("a request of another node is not answered, too many are waiting");
        }
    }
}

impl Node {
    /// Answers another node.
    async fn reply_to(&self, body: &[u8]) -> Bytes {
        let reply = match NodeRequest::decode(body) {
            Some(request) => self.reply(&request).await,
            None => NodeReply::Unknown,
        };
        match reply {
            NodeReply::Names { names } if names.len() > NAMES_MAX => NodeReply::TooMany.encode(),
            reply => reply.encode(),
        }
    }

    /// Answers from what is here. Names that are none are not understood.
    pub(crate) async fn reply(&self, request: &NodeRequest) -> NodeReply {
        self.try_reply(request).await.unwrap_or(NodeReply::Unknown)
    }

    async fn try_reply(&self, request: &NodeRequest) -> Option<NodeReply> {
        Some(match request {
            NodeRequest::SubscriberCount { channel } => {
                let channel = ChannelName::new(channel).ok()?;
                let counting = self.hub.subscriber_count(&channel);
                let count = self.stopped.run_until_cancelled(counting).await;
                count_of(count.unwrap_or(0))
            }
            NodeRequest::Channels => {
                let listing = self.hub.channels();
                let channels = self.stopped.run_until_cancelled(listing).await;
                let channels = channels.unwrap_or_default().into_iter();
                NodeReply::Names {
                    names: channels.map(|(name, _)| name.to_string()).collect(),
                }
            }
            NodeRequest::ConnectionCount => count_of(self.sessions.count()),
            NodeRequest::ConnectionsOf { user } => {
                let sessions = self.sessions.of_user(&UserId::new(user).ok()?);
                let sockets = sessions.iter().map(|session| session.id().to_string());
                NodeReply::Names {
                    names: sockets.collect(),
                }
            }
            NodeRequest::Subscribe { socket, channel } => {
                let channel = ChannelName::new(channel).ok()?;
                self.order(socket.parse().ok()?, Control::Subscribe(channel))
            }
            NodeRequest::Unsubscribe { socket, channel } => {
                let channel = ChannelName::new(channel).ok()?;
                self.order(socket.parse().ok()?, Control::Unsubscribe(channel))
            }
            NodeRequest::DisconnectUser { user } => {
                count_of(self.disconnect_user(&UserId::new(user).ok()?))
            }
            NodeRequest::DropConnection { socket } => match self.sessions.get(socket.parse().ok()?)
            {
                Some(session) => {
                    session.cut();
                    NodeReply::Done
                }
                None => NodeReply::NotHere,
            },
        })
    }

    fn order(&self, socket: SocketId, control: Control) -> NodeReply {
        match self.sessions.get(socket) {
            None => NodeReply::NotHere,
            Some(session) if session.ask(control) => NodeReply::Done,
            Some(_) => NodeReply::Busy,
        }
    }

    fn disconnect_user(&self, user: &UserId) -> usize {
        let sessions = self.sessions.revoke(user, clock::unix_ms());
        for session in &sessions {
            session.ask(Control::disconnected());
        }
        sessions.len()
    }
}

fn count_of(count: usize) -> NodeReply {
    NodeReply::Count {
        count: u64::try_from(count).unwrap_or(u64::MAX),
    }
}

/// 256: more than a cluster asks at once, and a bound for what waits.
const WAITING_MAX: usize = 256;
