//! A node answers: from its own hub and its own sessions.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_protocol::{ChannelName, SocketId, UserId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Answer, NAMES_MAX, Question};
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
pub(crate) struct Questions(mpsc::Sender<(Bytes, engine::Answer)>);

impl Questions {
    /// The letter box, and the task that answers what is in it until the engine is closed: a node that is on its way out still
    /// counts for those who ask.
    pub(crate) fn answered_by(
        node: Arc<Node>,
        closed: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, mut waiting) = mpsc::channel::<(Bytes, engine::Answer)>(WAITING_MAX);
        let answering = async move {
            while let Some(Some((body, answer))) = closed.run_until_cancelled(waiting.recv()).await
            {
                answer.send(node.answer_to(&body).await);
            }
        };
        (Self(sender), answering)
    }

    /// Takes a question; never blocks. When too many wait it is dropped, and this node counts as silent.
    pub(crate) fn take(&self, body: Bytes, answer: engine::Answer) {
        if self.0.try_send((body, answer)).is_err() {
            tracing::warn!("a question of another node is not answered, too many are waiting");
        }
    }
}

impl Node {
    /// Answers another node.
    async fn answer_to(&self, body: &[u8]) -> Bytes {
        let answer = match Question::decode(body) {
            Some(question) => self.answer(&question).await,
            None => Answer::Unknown,
        };
        match answer {
            Answer::Names { names } if names.len() > NAMES_MAX => Answer::TooMany.encode(),
            answer => answer.encode(),
        }
    }

    /// Answers from what is here. Names that are none are not understood.
    pub(crate) async fn answer(&self, question: &Question) -> Answer {
        self.try_answer(question).await.unwrap_or(Answer::Unknown)
    }

    async fn try_answer(&self, question: &Question) -> Option<Answer> {
        Some(match question {
            Question::SubscriberCount { channel } => {
                let channel = ChannelName::new(channel).ok()?;
                let counting = self.hub.subscriber_count(&channel);
                let count = self.stopped.run_until_cancelled(counting).await;
                count_of(count.unwrap_or(0))
            }
            Question::Channels => {
                let listing = self.hub.channels();
                let channels = self.stopped.run_until_cancelled(listing).await;
                let channels = channels.unwrap_or_default().into_iter();
                Answer::Names {
                    names: channels.map(|(name, _)| name.to_string()).collect(),
                }
            }
            Question::ConnectionCount => count_of(self.sessions.count()),
            Question::ConnectionsOf { user } => {
                let sessions = self.sessions.of_user(&UserId::new(user).ok()?);
                let sockets = sessions.iter().map(|session| session.id().to_string());
                Answer::Names {
                    names: sockets.collect(),
                }
            }
            Question::Subscribe { socket, channel } => {
                let channel = ChannelName::new(channel).ok()?;
                self.order(socket.parse().ok()?, Control::Subscribe(channel))
            }
            Question::Unsubscribe { socket, channel } => {
                let channel = ChannelName::new(channel).ok()?;
                self.order(socket.parse().ok()?, Control::Unsubscribe(channel))
            }
            Question::DisconnectUser { user } => {
                count_of(self.disconnect_user(&UserId::new(user).ok()?))
            }
            Question::DropConnection { socket } => match self.sessions.get(socket.parse().ok()?) {
                Some(session) => {
                    session.cut();
                    Answer::Done
                }
                None => Answer::NotHere,
            },
        })
    }

    fn order(&self, socket: SocketId, control: Control) -> Answer {
        match self.sessions.get(socket) {
            None => Answer::NotHere,
            Some(session) if session.ask(control) => Answer::Done,
            Some(_) => Answer::Busy,
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

fn count_of(count: usize) -> Answer {
    Answer::Count {
        count: u64::try_from(count).unwrap_or(u64::MAX),
    }
}

/// 256: more than a cluster asks at once, and a bound for what waits.
const WAITING_MAX: usize = 256;
