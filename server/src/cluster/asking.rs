//! The questions and orders of an application, over all nodes.

use fanfare_protocol::{ChannelName, Member, NameError, SocketId, UserId};
use tokio::time::timeout;

use super::{Answer, HandleError, NAMES_MAX, Question};
use crate::engine::EngineError;
use crate::publish::Publisher;

impl Publisher {
    /// How many connections are subscribed to a channel, over all nodes.
    ///
    /// # Errors
    /// When the channel's name is not one, or a node did not answer.
    pub async fn subscriber_count<C>(&self, channel: C) -> Result<usize, HandleError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?.to_string();
        self.count(Question::SubscriberCount { channel }).await
    }

    /// Whether anybody is subscribed to a channel, on any node. Nobody else is asked when somebody is here.
    ///
    /// # Errors
    /// When the channel's name is not one, or a node did not answer.
    pub async fn has_subscribers<C>(&self, channel: C) -> Result<bool, HandleError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?.to_string();
        let question = Question::SubscriberCount { channel };
        if let Some(Answer::Count { count: 1.. }) = self.ask_here(&question).await {
            return Ok(true);
        }
        let others = self.ask_others(&question).await?;
        Ok(sum(&others) > 0)
    }

    /// The channels that somebody is subscribed to, on any node, ordered by name.
    ///
    /// # Errors
    /// When a node did not answer, or another one has more than 20,000 channels.
    pub async fn channels(&self) -> Result<Vec<ChannelName>, HandleError> {
        let names = self.names(Question::Channels, "channels").await?;
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
    pub async fn presence_members<C>(&self, channel: C) -> Result<Vec<Member>, HandleError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?;
        let _call = self.calls.token();
        let reading = self.engine.presence.members(&channel, None);
        match timeout(self.deadline, reading).await {
            Ok(members) => Ok(members.map_err(HandleError::Engine)?.members),
            Err(_) => Err(unanswered("reading members")),
        }
    }

    /// The connections of a user, on all nodes: those with the user's credentials, and those that showed a channel token which
    /// names the user.
    ///
    /// # Errors
    /// When a node did not answer.
    pub async fn connections_of(&self, user: &UserId) -> Result<Vec<SocketId>, HandleError> {
        let user = user.to_string();
        let question = Question::ConnectionsOf { user };
        let names = self.names(question, "connections of a user").await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// How many connections there are, over all nodes.
    ///
    /// # Errors
    /// When a node did not answer.
    pub async fn connection_count(&self) -> Result<usize, HandleError> {
        self.count(Question::ConnectionCount).await
    }

    /// Subscribes a connection to a channel on the application's word, whichever node it is on: nobody is asked, and the client
    /// is told by a `subscription_succeeded` that answers no command.
    ///
    /// # Errors
    /// When there is no such connection, or it is too busy, or a node did not answer.
    pub async fn subscribe<C>(&self, socket: SocketId, channel: C) -> Result<(), HandleError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?.to_string();
        let order = Question::Subscribe {
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
    pub async fn unsubscribe<C>(&self, socket: SocketId, channel: C) -> Result<(), HandleError>
    where
        C: TryInto<ChannelName, Error: Into<NameError>>,
    {
        let channel = channel_name(channel)?.to_string();
        let order = Question::Unsubscribe {
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
    pub async fn disconnect_user(&self, user: &UserId) -> Result<usize, HandleError> {
        let user = user.to_string();
        self.count(Question::DisconnectUser { user }).await
    }

    /// Drops a connection without a word, whichever node it is on, as a failing network does: its client comes back by itself
    /// and recovers what it missed.
    ///
    /// # Errors
    /// When there is no such connection, or a node did not answer.
    pub async fn drop_connection(&self, socket: SocketId) -> Result<(), HandleError> {
        let order = Question::DropConnection {
            socket: socket.to_string(),
        };
        self.order(socket, order).await
    }

    async fn count(&self, question: Question) -> Result<usize, HandleError> {
        let answers = self.ask(&question).await?;
        Ok(usize::try_from(sum(&answers)).unwrap_or(usize::MAX))
    }

    async fn names(
        &self,
        question: Question,
        what: &'static str,
    ) -> Result<Vec<String>, HandleError> {
        let mut all = Vec::new();
        for answer in self.ask(&question).await? {
            match answer {
                Answer::Names { names } if names.len() <= NAMES_MAX => all.extend(names),
                _ => {
                    return Err(HandleError::TooMany {
                        what,
                        limit: NAMES_MAX,
                    });
                }
            }
        }
        Ok(all)
    }

    /// One node has the connection, if it is anywhere.
    async fn order(&self, socket: SocketId, order: Question) -> Result<(), HandleError> {
        let answers = match self.ask_here(&order).await {
            Some(answer @ (Answer::Done | Answer::Busy)) => vec![answer],
            _ => self.ask_others(&order).await?,
        };
        if answers.contains(&Answer::Done) {
            Ok(())
        } else if answers.contains(&Answer::Busy) {
            Err(HandleError::Busy { socket })
        } else {
            Err(HandleError::NoSuchConnection { socket })
        }
    }

    async fn ask(&self, question: &Question) -> Result<Vec<Answer>, HandleError> {
        let (here, others) = tokio::join!(self.ask_here(question), self.ask_others(question));
        Ok(here.into_iter().chain(others?).collect())
    }

    async fn ask_here(&self, question: &Question) -> Option<Answer> {
        match &self.node {
            Some(node) => Some(node.answer(question).await),
            None => None,
        }
    }

    async fn ask_others(&self, question: &Question) -> Result<Vec<Answer>, HandleError> {
        let _call = self.calls.token();
        let asking = self.engine.broker.ask(question.encode());
        let bodies = match timeout(self.deadline, asking).await {
            Ok(Ok(bodies)) => bodies,
            Ok(Err(EngineError::Incomplete {
                answered, asked, ..
            })) => {
                return Err(HandleError::Incomplete { answered, asked });
            }
            Ok(Err(error)) => return Err(HandleError::Engine(error)),
            Err(_) => return Err(unanswered("asking the other nodes")),
        };
        let asked = bodies.len();
        let mut answers: Vec<Answer> = bodies.iter().map(|body| Answer::decode(body)).collect();
        answers.retain(|answer| *answer != Answer::Unknown);
        if answers.len() < asked {
            let answered = answers.len();
            return Err(HandleError::Incomplete { answered, asked });
        }
        Ok(answers)
    }
}

fn sum(answers: &[Answer]) -> u64 {
    let counts = answers.iter().map(|answer| match answer {
        Answer::Count { count } => *count,
        _ => 0,
    });
    counts.fold(0, u64::saturating_add)
}

fn unanswered(attempted: &'static str) -> HandleError {
    HandleError::Engine(EngineError::Unknown {
        engine: "configured",
        attempted,
    })
}

fn channel_name<C: TryInto<ChannelName, Error: Into<NameError>>>(
    channel: C,
) -> Result<ChannelName, HandleError> {
    channel
        .try_into()
        .map_err(|error| HandleError::Channel(error.into()))
}
