//! The nouns that the rooms of the server hand to each other. None of them is serializable: the wire has its own types.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fanfare_protocol::{
    ChannelName, Event, EventName, IdempotencyKey, Member, Position, RawJson, SocketId, Tag, UserId,
};

/// What someone asked us to send.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Publication {
    /// Where to.
    pub channel: ChannelName,
    /// The event's name.
    pub event: EventName,
    /// The payload; nobody parses it.
    pub data: RawJson,
    /// A connection that must not get it.
    pub except: Option<SocketId>,
    /// Who sent it, on client events.
    pub user: Option<UserId>,
    /// The id of the bus event it came from.
    pub event_id: Option<Arc<str>>,
    /// A repetition with the same key within ten minutes yields the first result and no second message.
    pub key: Option<IdempotencyKey>,
    /// The connection of the client that sent it; none where the application publishes. Its key then counts among the keys of its
    /// user, without a user among those of this one connection, and never among the application's.
    pub sender: Option<SocketId>,
    /// What the engine must confirm before the publication counts as accepted.
    pub level: PublishLevel,
}

impl Publication {
    /// A publication to everybody who is subscribed.
    #[must_use]
    pub fn new(channel: ChannelName, event: EventName, data: RawJson) -> Self {
        Self {
            channel,
            event,
            data,
            except: None,
            user: None,
            event_id: None,
            key: None,
            sender: None,
            level: PublishLevel::Accepted,
        }
    }

    /// The message that a user came to a presence channel: `member_added` with `{"id","info"}`.
    #[must_use]
    pub fn member_added(channel: ChannelName, member: &Member) -> Self {
        Self::new(channel, MEMBER_ADDED.clone(), shown(member))
    }

    /// The message that a user of a presence channel is shown with another info: `member_updated` with `{"id","info"}`.
    #[must_use]
    pub fn member_updated(channel: ChannelName, member: &Member) -> Self {
        Self::new(channel, MEMBER_UPDATED.clone(), shown(member))
    }

    /// The message that a user has left a presence channel: `member_removed` with `{"id","reason"}`.
    #[must_use]
    pub fn member_removed(channel: ChannelName, user: &UserId, departure: Departure) -> Self {
        let id = serde_json::Value::from(user.as_str());
        let data = format!(r#"{{"id":{id},"reason":"{}"}}"#, departure.reason());
        Self::new(channel, MEMBER_REMOVED.clone(), RawJson::trusted(data))
    }

    /// A `member_added` without its data, which the store adds.
    #[cfg(feature = "redis")]
    pub(crate) fn member_added_head(channel: ChannelName) -> Self {
        Self::new(channel, MEMBER_ADDED.clone(), RawJson::trusted(""))
    }

    /// A `member_updated` without its data, for a store that alone knows what is shown.
    #[cfg(feature = "redis")]
    pub(crate) fn member_updated_head(channel: ChannelName) -> Self {
        Self::new(channel, MEMBER_UPDATED.clone(), RawJson::trusted(""))
    }

    /// A `member_removed` without its data, for a store that alone knows who is to be removed.
    #[cfg(feature = "redis")]
    pub(crate) fn member_removed_head(channel: ChannelName) -> Self {
        Self::new(channel, MEMBER_REMOVED.clone(), RawJson::trusted(""))
    }

    /// Leaves one connection out.
    #[must_use]
    pub fn except(mut self, socket: SocketId) -> Self {
        self.except = Some(socket);
        self
    }

    /// Says who sent it.
    #[must_use]
    pub fn from_user(mut self, user: UserId) -> Self {
        self.user = Some(user);
        self
    }

    /// Says which connection a client sent it on.
    #[must_use]
    pub fn from_connection(mut self, socket: SocketId) -> Self {
        self.sender = Some(socket);
        self
    }

    /// Makes a repetition harmless.
    #[must_use]
    pub fn with_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Asks for more than that the engine has taken it.
    #[must_use]
    pub fn with_level(mut self, level: PublishLevel) -> Self {
        self.level = level;
        self
    }
}

/// An idempotency key together with what it counts for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct KeyId {
    channel: ChannelName,
    owner: KeyOwner,
    key: IdempotencyKey,
}

impl KeyId {
    /// Whether it is a key of the application itself, and not of a client.
    pub(crate) fn is_of_application(&self) -> bool {
        self.owner == KeyOwner::Application
    }
}

/// Whose keys a key is one of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum KeyOwner {
    /// The application itself.
    Application,
    /// The clients of a user, on any connection.
    User(UserId),
    /// A client without a user: no other connection can use, or guess, its keys.
    Connection(SocketId),
}

impl Publication {
    /// Its key and what that counts for, if it has one.
    pub(crate) fn key_id(&self) -> Option<KeyId> {
        let key = self.key.clone()?;
        let owner = match (self.sender, &self.user) {
            (None, _) => KeyOwner::Application,
            (Some(_), Some(user)) => KeyOwner::User(user.clone()),
            (Some(socket), None) => KeyOwner::Connection(socket),
        };
        Some(KeyId {
            channel: self.channel.clone(),
            owner,
            key,
        })
    }
}

/// What `Ok` means for a publication: who holds it by then.
///
/// Whatever the level, a failure to confirm it is an error of its own and the message stays published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PublishLevel {
    /// The engine took it. Lost when the store dies before it has written or replicated it.
    #[default]
    Accepted,
    /// So many replicas of the store have it as well. Lost when a failover promotes one that does not.
    Replicated {
        /// How many replicas.
        replicas: u32,
        /// How long to wait for them.
        timeout: Duration,
    },
    /// The store has it on disk. Lost with the disk.
    Fsynced {
        /// How long to wait for it.
        timeout: Duration,
    },
}

impl PublishLevel {
    /// How long the confirmation may take on top of the publication itself.
    pub(crate) const fn timeout(self) -> Duration {
        match self {
            Self::Accepted => Duration::ZERO,
            Self::Replicated { timeout, .. } | Self::Fsynced { timeout } => timeout,
        }
    }
}

impl std::fmt::Display for PublishLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accepted => f.write_str("acceptance"),
            Self::Replicated { replicas, timeout } => {
                write!(f, "replication to {replicas} within {timeout:?}")
            }
            Self::Fsynced { timeout } => write!(f, "writing to disk within {timeout:?}"),
        }
    }
}

/// A publication as it reaches a node, with its place in the channel's history.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The channel.
    pub channel: ChannelName,
    /// Its position; none on channels without one.
    pub position: Option<Position>,
    /// The tag of the message before it; present whenever `position` is.
    pub previous: Option<Tag>,
    /// The event's name.
    pub event: EventName,
    /// The payload.
    pub data: RawJson,
    /// A connection that must not get it.
    pub except: Option<SocketId>,
    /// Who sent it, on client events.
    pub user: Option<UserId>,
    /// The id of the bus event it came from.
    pub event_id: Option<Arc<str>>,
}

impl Delivery {
    /// A publication at its position.
    #[must_use]
    pub fn new(
        publication: Publication,
        position: Option<Position>,
        previous: Option<Tag>,
    ) -> Self {
        let Publication {
            channel,
            event,
            data,
            except,
            user,
            event_id,
            key: _,
            sender: _,
            level: _,
        } = publication;
        Self {
            channel,
            position,
            previous,
            event,
            data,
            except,
            user,
            event_id,
        }
    }

    /// The bytes it holds, for bounded queues.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        self.data.len() + self.event.as_str().len() + self.channel.as_str().len() + 64
    }

    /// The wire form, without the epoch (which is told only when it changes).
    #[must_use]
    pub fn to_event(&self) -> Event {
        Event {
            channel: self.channel.clone(),
            event: self.event.clone(),
            data: self.data.clone(),
            offset: self.position.map(|position| position.offset),
            tag: self.position.map(|position| position.tag),
            epoch: None,
            user_id: self.user.clone(),
            event_id: self.event_id.as_deref().map(str::to_owned),
        }
    }
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its position; none on channels without one.
    pub position: Option<Position>,
    /// Whether an earlier publication with the same key already stood; nothing was sent this time.
    pub is_duplicate: bool,
}

impl Published {
    /// A fresh publication at its position.
    #[must_use]
    pub const fn new(position: Option<Position>) -> Self {
        Self {
            position,
            is_duplicate: false,
        }
    }

    /// The result of an earlier publication with the same key.
    #[must_use]
    pub const fn duplicate(position: Option<Position>) -> Self {
        Self {
            position,
            is_duplicate: true,
        }
    }
}

/// What a channel keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// How many messages are kept at most; 0 keeps none.
    pub size: u32,
    /// For how long.
    pub ttl: Duration,
    /// Whether messages carry positions. Always so where messages are kept, and on presence channels.
    pub is_positioned: bool,
    /// Whether the messages are kept only for the sake of presence: who comes back after their time is told all members anyway,
    /// and needs no position that is older.
    pub is_for_presence: bool,
}

impl Retention {
    /// Live only: nothing is kept and messages carry no position.
    pub const NONE: Self = Self {
        size: 0,
        ttl: Duration::ZERO,
        is_positioned: false,
        is_for_presence: false,
    };

    /// Keeps the last `size` messages for `ttl`.
    #[must_use]
    pub const fn new(size: u32, ttl: Duration) -> Self {
        Self {
            size,
            ttl,
            is_positioned: true,
            is_for_presence: false,
        }
    }

    /// Keeps messages only for the sake of presence.
    #[must_use]
    pub const fn for_presence(mut self) -> Self {
        self.is_for_presence = true;
        self
    }

    /// How long a position is remembered: ten times as long as messages are kept and at least `life_min`, or twice as long for
    /// the sake of presence.
    pub(crate) fn position_life(&self, life_min: Duration) -> Duration {
        match self.is_for_presence {
            true => self.ttl.saturating_mul(2),
            false => self.ttl.saturating_mul(10).max(life_min),
        }
    }
}

/// Which part of a history is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRange {
    /// What came after an offset, oldest first, at most `limit`.
    After {
        /// The last offset that is already known.
        offset: u64,
        /// At most so many.
        limit: u32,
    },
    /// The newest messages, oldest first, at most `limit`.
    Last {
        /// At most so many.
        limit: u32,
    },
}

/// Part of a channel's history, and where the channel stood when it was read.
#[derive(Debug, Clone)]
pub struct History {
    /// The channel's position at the moment of the read.
    pub top: Position,
    /// The messages, oldest first, each with its position.
    pub entries: Vec<Delivery>,
}

impl History {
    /// Whether the messages come after a position in the same history, as far as they tell: one right behind it names what it
    /// follows, a later one shows by its offset that others are missing.
    pub(crate) fn may_follow(&self, since: Position) -> bool {
        let is_other = |first: &Delivery| {
            let offset = first.position.map(|position| position.offset);
            offset == since.offset.checked_add(1) && first.previous != Some(since.tag)
        };
        since.epoch == self.top.epoch && !self.entries.first().is_some_and(is_other)
    }
}

/// Who is in a presence channel, and at which position this holds.
#[derive(Debug, Clone)]
pub struct Members {
    /// How many users.
    pub count: u64,
    /// The users, at most the engine's cap, and besides them the caller's own.
    pub members: Vec<Member>,
    /// The channel's position that the snapshot is valid for.
    pub position: Position,
}

/// How a connection left a presence channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Departure {
    /// It unsubscribed or said goodbye: effective at once, reason `left`.
    Goodbye,
    /// The server took it out: effective at once, reason `removed`.
    Removed,
    /// Its socket was lost: effective after the grace period, reason `lost`, unless the user is back by then.
    Lost,
}

impl Departure {
    /// The word on the wire.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Goodbye => "left",
            Self::Removed => "removed",
            Self::Lost => "lost",
        }
    }
}

/// What a member event says of a user who is here.
fn shown(member: &Member) -> RawJson {
    let id = serde_json::Value::from(member.id.as_str());
    RawJson::trusted(format!(r#"{{"id":{id},"info":{}}}"#, member.info.as_str()))
}

static MEMBER_ADDED: LazyLock<EventName> = LazyLock::new(|| reserved(EventName::MEMBER_ADDED));
static MEMBER_UPDATED: LazyLock<EventName> = LazyLock::new(|| reserved(EventName::MEMBER_UPDATED));
static MEMBER_REMOVED: LazyLock<EventName> = LazyLock::new(|| reserved(EventName::MEMBER_REMOVED));

#[expect(
    clippy::expect_used,
    reason = "both names are constants of the protocol"
)]
fn reserved(name: &str) -> EventName {
    EventName::new(name).expect("a reserved name is a valid event name")
}

#[cfg(test)]
mod tests {
    use fanfare_protocol::Epoch;

    use super::*;

    #[test]
    fn messages_follow_a_position_of_their_own_history_only() {
        let at = |epoch, offset, tag| Position {
            epoch: Epoch(epoch),
            offset,
            tag: Tag(tag),
        };
        let channel: ChannelName = "c".parse().unwrap();
        let event: EventName = "e".parse().unwrap();
        let publication = Publication::new(channel, event, RawJson::null());
        let seven = Delivery::new(publication, Some(at(1, 7, 70)), Some(Tag(60)));
        let history = |entries: &[Delivery]| History {
            top: at(1, 9, 90),
            entries: entries.to_vec(),
        };
        // (position, messages, whether they may follow it)
        let rows = [
            (at(1, 6, 60), vec![seven.clone()], true),
            (at(1, 6, 61), vec![seven.clone()], false),
            // Trimmed: the offset shows it.
            (at(1, 5, 50), vec![seven.clone()], true),
            (at(2, 6, 60), vec![seven], false),
            (at(1, 9, 90), Vec::new(), true),
        ];
        for (since, entries, expected) in rows {
            assert_eq!(history(&entries).may_follow(since), expected, "{since:?}");
        }
    }
}
