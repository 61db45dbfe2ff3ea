//! What a message is made of, as the machine sees it: values that it hands on and never looks into.

use core::fmt::Debug;

use fanfare_protocol::{ChannelKind, ConnectionLimits, Epoch, Position, Tag};

use crate::io::RequestId;

/// What a host's values are: names, text and payloads themselves, or numbers for what somebody else keeps.
///
/// The machine compares channels and users with each other, and asks for nothing else but what the functions here tell.
pub trait Values: Debug + Sized {
    /// The name of a channel.
    type Channel: Clone + Debug + Ord;
    /// Who a connection belongs to.
    type User: Clone + Debug + PartialEq;
    /// The id of a connection.
    type Socket: Clone + Debug;
    /// A token, or a sentence for people.
    type Text: Clone + Debug;
    /// What a client says about its own user: an unsigned hint, or info.
    type Hint: Clone + Debug;
    /// A command of the application's.
    type Command: Clone + Debug;
    /// What was published: name, payload, sender.
    type Content: Debug;
    /// A member who came, went, or shows other info.
    type Change: Clone + Debug;
    /// All members of a channel.
    type Snapshot: Debug;
    /// The answer to a request.
    type Reply: Debug;

    /// What the prefix of a channel's name says.
    fn kind(channel: &Self::Channel) -> ChannelKind;

    /// A user's own channel.
    fn personal(user: &Self::User) -> Self::Channel;

    /// The members in an answer that has some.
    fn snapshot(reply: Self::Reply) -> Option<Self::Snapshot>;

    /// The answer to a request that another command has carried out.
    fn done() -> Self::Reply;
}

/// What the application asks for, and wants an answer to.
#[derive(Debug)]
pub struct Question<V: Values> {
    /// Names the answer.
    pub request: RequestId,
    /// It waits until this channel is subscribed, if it is wanted at all.
    pub channel: Option<V::Channel>,
    /// What to send.
    pub command: V::Command,
    /// The length of its frame without an id.
    pub bytes: u64,
    /// Whether a repetition is recognised by its key, so that the outcome of the first does not matter.
    pub is_repeatable: bool,
    /// Where it changes what this connection shows of its user in `channel`: to what.
    pub update: Option<Update<V>>,
}

impl<V: Values> Question<V> {
    /// The length of its frame with this id: `,"id":` and the digits besides.
    pub(crate) const fn bytes_with(&self, mut id: u64) -> u64 {
        let mut bytes = self.bytes + 6;
        while id > 0 {
            bytes += 1;
            id /= 10;
        }
        bytes
    }
}

/// The info that a member wants to show; `None` takes the last update back.
#[derive(Debug)]
pub struct Update<V: Values>(pub Option<V::Hint>);

/// The server's greeting.
#[derive(Debug)]
pub struct Greeting<V: Values> {
    /// The id of the connection.
    pub socket: V::Socket,
    /// Who it belongs to, when the handshake already said so.
    pub user: Option<V::User>,
    /// The version of the dialect.
    pub protocol: u32,
    /// After so many milliseconds without a message the client should `ping`.
    pub ping_interval: u64,
    /// The largest message the server accepts, in bytes.
    pub max_payload_size: u64,
    /// The server's time in milliseconds since the Unix epoch.
    pub server_time: u64,
    /// What the connection may ask for, where the server says it.
    pub limits: Option<ConnectionLimits>,
}

/// A message of a channel.
#[derive(Debug)]
pub struct Publication<V: Values> {
    /// What it says.
    pub said: Said<V>,
    /// Its place in the channel's history; absent on channels without one.
    pub offset: Option<u64>,
    /// Its mark.
    pub tag: Option<Tag>,
    /// Present when it differs from the epoch of the message before.
    pub epoch: Option<Epoch>,
}

/// What a message of a channel says.
#[derive(Debug)]
pub enum Said<V: Values> {
    /// Something for the application.
    Content(V::Content),
    /// A member came, went, or shows other info.
    Change(V::Change),
    /// The same, and it cannot be read who.
    Unreadable,
}

/// A confirmed subscription.
#[derive(Debug)]
pub struct Confirmation<V: Values> {
    /// The command's id; absent when the server subscribed by itself.
    pub id: Option<u64>,
    /// Where the subscription stands after the events that come with it; absent on channels without history.
    pub position: Option<Position>,
    /// Whether everything since the position asked for is among these.
    pub recovered: bool,
    /// The members, on presence channels.
    pub members: Option<V::Snapshot>,
}

/// The answer to a command that was taken.
#[derive(Debug)]
pub struct Taken<V: Values> {
    /// The command's id.
    pub id: u64,
    /// `authenticate`: who the connection belongs to now.
    pub user: Option<V::User>,
    /// `authenticate`: when the token ends, in milliseconds since the Unix epoch.
    pub expires_at: Option<u64>,
    /// The channel's position that the answer is valid for.
    pub position: Option<Position>,
    /// All of it.
    pub reply: V::Reply,
}

/// A command, or a subscription, was refused.
#[derive(Debug)]
pub struct Refusal<V: Values> {
    /// The number from the table of codes.
    pub code: u16,
    /// A sentence for people.
    pub text: V::Text,
    /// Whether the same may succeed later.
    pub retry: bool,
    /// When to retry, in milliseconds from now.
    pub retry_after: Option<u64>,
}

/// A value that the machine keeps for longer than until its outputs are drained.
#[derive(Debug)]
pub enum Held<'a, V: Values> {
    /// A channel that it knows, or that a request is about.
    Channel(&'a V::Channel),
    /// Who the connection belongs to.
    User(&'a V::User),
    /// A token, or the server's last words.
    Text(&'a V::Text),
    /// A hint about a member, or info.
    Hint(&'a V::Hint),
    /// A change that came while a snapshot is under way.
    Change(&'a V::Change),
}

/// The server is about to close the connection.
#[derive(Debug)]
pub struct Farewell<V: Values> {
    /// The close code that will follow.
    pub code: u16,
    /// A sentence for people.
    pub reason: V::Text,
    /// Whether the client should come back.
    pub reconnect: bool,
    /// When to come back, in milliseconds from now.
    pub after: u64,
}
