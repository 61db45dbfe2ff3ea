//! The arguments and replies of the presence scripts.
//!
//! A membership is a lease: it ends when its node no longer refreshes it ([`refresh`](super::refresh)). A connection is known by its
//! id alone, 128 random bits that are never used again: a node that was restarted knows none of its former ids and cannot refresh
//! them.
//!
//! Promise: docs/guarantees.md, *Presence*, "A user is in a channel while at least one of their connections is".

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_protocol::{ChannelName, Member, Position, RawJson, SocketId, UserId};
use redis::{FromRedisValue, Value};

use super::eviction::EvictionSafety;
use super::eviction::LeaseTimings;
use crate::delivery::{Departure, Members, Publication, Retention};
use crate::engine::EngineError;
use crate::engine::redis::channel::envelope::{self, encode_body};
use crate::engine::redis::channel::publish::random_epoch;
use crate::engine::redis::channel::store::ChannelStore;
use crate::engine::redis::connection::cluster::slot;
use crate::engine::redis::connection::commands::{Call, LastArgs};
use crate::engine::redis::connection::connections::{Connection, Server};
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::scripts::ScriptText;
use crate::engine::redis::connection::topology::Layout;
use crate::engine::tag::random_id;

/// The presence scripts, ready to be called.
#[derive(Clone)]
pub(crate) struct PresenceScripts {
    store: ChannelStore,
    timings: LeaseTimings,
    eviction: Arc<EvictionSafety>,
}

/// What a refresh found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refreshed {
    /// Connections that Redis does not know (any more).
    pub(crate) unknown: Vec<SocketId>,
    /// When the next member expires in this channel.
    pub(crate) next: NextExpiry,
}

/// When the next member expires in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextExpiry {
    /// The channel has no member.
    Never,
    /// From now.
    In(Duration),
    /// A member has expired and was not evicted: the uptime of the connection to Redis is too short.
    EvictionDeferred,
}

/// The members of a channel.
pub(crate) struct Snapshot {
    pub(crate) members: Members,
    /// Whether a member is listed although it has expired.
    pub(crate) eviction_deferred: bool,
}

impl PresenceScripts {
    /// The presence scripts on the channels of a store.
    pub(crate) fn new(store: ChannelStore) -> Self {
        let timings = LeaseTimings::new(store.options());
        Self {
            store,
            timings,
            eviction: Arc::new(EvictionSafety::new(timings)),
        }
    }

    /// The store.
    pub(crate) fn store(&self) -> &ChannelStore {
        &self.store
    }

    /// Which expired members may be evicted.
    pub(crate) fn eviction(&self) -> &EvictionSafety {
        &self.eviction
    }

    /// How long memberships last.
    pub(crate) fn timings(&self) -> &LeaseTimings {
        &self.timings
    }

    /// Which server each channel is at, as far as that is known now.
    pub(crate) fn owners(&self) -> impl Fn(&ChannelName) -> Option<Server> + use<> {
        let layout = self.store.commands().topology().known_layout();
        move |channel| match layout.as_ref()? {
            Layout::Single(server) => Some(server.clone()),
            cluster @ Layout::Cluster(_) => cluster.owner(slot(channel.as_str())).cloned(),
        }
    }

    /// The keys of a channel, as every presence script takes them.
    pub(crate) fn keys(&self, channel: &ChannelName) -> Vec<String> {
        let keys = self.store.keys();
        vec![
            keys.position(channel),
            keys.stream(channel),
            keys.connections(channel),
            keys.expiries(channel),
            keys.users(channel),
            keys.members(channel),
        ]
    }

    /// Adds a connection, repeating what failed.
    pub(crate) async fn join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        member: &Member,
        retention: Retention,
    ) -> Result<(), EngineError> {
        let call = self.join_call(channel, connection, member, retention);
        self.repeat(call).await.map(|_: Value| ())
    }

    /// Adds a connection, in one attempt.
    pub(crate) async fn join_once(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        member: &Member,
        retention: Retention,
    ) -> Result<(), CommandError> {
        let call = self.join_call(channel, connection, member, retention);
        self.once(call).await.map(|_: Value| ())
    }

    /// Replaces the info of a connection, repeating what failed. Returns whether it is present.
    pub(crate) async fn update(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        info: &RawJson,
        retention: Retention,
    ) -> Result<bool, EngineError> {
        let arguments = vec![
            connection.to_string().into(),
            Bytes::copy_from_slice(info.as_str().as_bytes()),
            number(EVICTED_BESIDE_MAX),
            self.kept(retention),
        ];
        let script = &self.store.scripts().presence_update;
        let call = self.call("updating presence", script, channel, arguments);
        self.repeat(call).await.map(|is_here: i64| is_here == 1)
    }

    /// Takes a connection out, repeating what failed. Returns how long a lost one still counts as present, if it does.
    pub(crate) async fn leave(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
        grace: Duration,
    ) -> Result<Option<Duration>, EngineError> {
        let call = self.leave_call(channel, connection, departure, grace);
        self.repeat(call).await.map(wait_of)
    }

    /// Takes a connection out, in one attempt.
    pub(crate) async fn leave_once(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
        grace: Duration,
    ) -> Result<Option<Duration>, CommandError> {
        let call = self.leave_call(channel, connection, departure, grace);
        self.once(call).await.map(wait_of)
    }

    /// Extends the leases of a channel's connections, at most [`BATCH_MAX`], in one attempt.
    pub(crate) async fn refresh(
        &self,
        channel: &ChannelName,
        connections: &[SocketId],
        lease: Duration,
    ) -> Result<Refreshed, CommandError> {
        let mut arguments = vec![milliseconds(lease), number(EVICTED_MAX)];
        arguments.extend(connections.iter().map(SocketId::to_string).map(Bytes::from));
        let script = &self.store.scripts().presence_refresh;
        let call = self.call("refreshing presence", script, channel, arguments);
        let answer: Vec<i64> = self.once(call).await?;
        let Some((wait, indices)) = answer.split_first() else {
            return Err(unreadable());
        };
        let unknown = indices.iter().map(|index| {
            let index = usize::try_from(*index).ok();
            index.and_then(|index| connections.get(index)).copied()
        });
        let unknown: Option<Vec<SocketId>> = unknown.collect();
        Ok(Refreshed {
            unknown: unknown.ok_or_else(unreadable)?,
            next: next_expiry(*wait),
        })
    }

    /// Evicts some of the expired members, in one attempt. Returns when the next member expires.
    pub(crate) async fn evict_expired(
        &self,
        channel: &ChannelName,
    ) -> Result<NextExpiry, CommandError> {
        let script = &self.store.scripts().presence_evict;
        let attempted = "expiring lost connections";
        let call = self.call(attempted, script, channel, vec![number(EVICTED_MAX)]);
        self.once(call).await.map(next_expiry)
    }

    /// The members of a channel, and the position at which that list holds; a capped list also has the user of `caller`.
    pub(crate) async fn members(
        &self,
        channel: &ChannelName,
        caller: Option<SocketId>,
    ) -> Result<Snapshot, EngineError> {
        let caller = caller.map_or_else(String::new, |caller| caller.to_string());
        let caller = Bytes::from(caller);
        loop {
            let arguments = vec![
                number(EVICTED_MAX),
                number(self.timings.members_max),
                self.store.options().empty_position_ttl().into(),
                caller.clone(),
            ];
            let script = &self.store.scripts().presence_members;
            let call = self.call("reading members", script, channel, arguments);
            let answer: Vec<Value> = self.repeat(call).await?;
            // The script evicts a bounded number of members at a time: no script runs for long.
            if !answer.is_empty() {
                let snapshot = self.snapshot_of(channel, answer);
                return snapshot.ok_or_else(|| self.verdict("reading members", unreadable()));
            }
        }
    }

    fn join_call<'a>(
        &'a self,
        channel: &'a ChannelName,
        connection: SocketId,
        member: &Member,
        retention: Retention,
    ) -> Prepared<'a> {
        let user = serde_json::Value::from(member.id.as_str()).to_string();
        let added = Publication::member_added_head(channel.clone());
        let arguments = vec![
            connection.to_string().into(),
            user.into(),
            Bytes::copy_from_slice(member.info.as_str().as_bytes()),
            milliseconds(self.timings.lease),
            number(EVICTED_BESIDE_MAX),
            self.kept(retention),
            encode_body(&added).into(),
        ];
        let script = &self.store.scripts().presence_join;
        self.call("joining", script, channel, arguments)
    }

    fn leave_call<'a>(
        &'a self,
        channel: &'a ChannelName,
        connection: SocketId,
        departure: Departure,
        grace: Duration,
    ) -> Prepared<'a> {
        let arguments = vec![
            connection.to_string().into(),
            Bytes::from_static(departure.reason().as_bytes()),
            milliseconds(grace),
            number(EVICTED_BESIDE_MAX),
        ];
        let script = &self.store.scripts().presence_leave;
        self.call("leaving", script, channel, arguments)
    }

    /// What a channel keeps, as the scripts note it.
    fn kept(&self, retention: Retention) -> Bytes {
        let life = self.store.options().position_ttl(retention);
        let ttl = crate::engine::redis::connection::milliseconds(retention.ttl);
        format!("{} {ttl} {life}", retention.size).into()
    }

    fn call<'a>(
        &self,
        attempted: &'static str,
        script: &'a ScriptText,
        channel: &'a ChannelName,
        own: Vec<Bytes>,
    ) -> Prepared<'a> {
        let position_ttl = self.store.options().position_ttl(Retention::NONE);
        let mut arguments = vec![
            Bytes::from_static(self.store.commands().publish_command().as_bytes()),
            self.store.keys().channel(channel).into(),
            random_epoch().to_string().into(),
            format!("{:x}", random_id()).into(),
            position_ttl.into(),
            encode_body(&Publication::member_removed_head(channel.clone())).into(),
            encode_body(&Publication::member_updated_head(channel.clone())).into(),
        ];
        arguments.extend(own);
        Prepared {
            attempted,
            script,
            channel,
            keys: self.keys(channel),
            arguments,
        }
    }

    async fn once<T: FromRedisValue>(&self, prepared: Prepared<'_>) -> Result<T, CommandError> {
        let arguments = prepared.arguments();
        let window = self.window(prepared.channel);
        let call = prepared.call(&arguments, &window);
        let reply = self.store.commands().run(call).await?;
        self.eviction.note_executed(prepared.channel);
        redis::from_redis_value(reply).map_err(|_| unreadable())
    }

    /// Every presence script may be executed twice: the second time it has nothing left to do.
    async fn repeat<T: FromRedisValue>(&self, prepared: Prepared<'_>) -> Result<T, EngineError> {
        let arguments = prepared.arguments();
        let window = self.window(prepared.channel);
        let call = prepared.call(&arguments, &window);
        let reply = self.store.commands().run_retrying(call, true).await?;
        self.eviction.note_executed(prepared.channel);
        redis::from_redis_value(reply).map_err(|_| self.verdict(call.attempted, unreadable()))
    }

    /// The last arguments of every presence script: when it may evict.
    fn window(&self, channel: &ChannelName) -> impl Fn(&Connection) -> [u64; 3] + Send + Sync {
        |connection| self.eviction.window(connection, channel).as_args()
    }

    /// What the caller of the engine is told about a call that is not repeated.
    pub(crate) fn verdict(&self, attempted: &'static str, error: CommandError) -> EngineError {
        self.store.commands().retry(attempted).verdict(error)
    }

    fn snapshot_of(&self, channel: &ChannelName, answer: Vec<Value>) -> Option<Snapshot> {
        let mut fields = answer.into_iter();
        let mut text = || -> Option<String> { redis::from_redis_value(fields.next()?).ok() };
        let position = Position {
            epoch: text()?.parse().ok()?,
            offset: text()?.parse().ok()?,
            tag: text()?.parse().ok()?,
        };
        let count = text()?.parse().ok()?;
        let eviction_deferred = text()? == "1";
        let mut members = Vec::new();
        while let Some(user) = fields.next() {
            // A member or an info that cannot be read is left out: neither ever reaches a frame.
            match self.member_of(&user, &fields.next()?) {
                Some(member) => members.push(member),
                None => self
                    .store
                    .warn_unreadable(channel, &"a member that Redis keeps cannot be read"),
            }
        }
        Some(Snapshot {
            members: Members {
                count,
                members,
                position,
            },
            eviction_deferred,
        })
    }

    fn member_of(&self, user: &Value, info: &Value) -> Option<Member> {
        let Value::BulkString(info) = info else {
            return None;
        };
        let user: String =
            serde_json::from_str(crate::engine::redis::connection::text(user)?).ok()?;
        Some(Member {
            id: UserId::new(&user).ok()?,
            info: envelope::payload(info, self.store.payload_bytes_max())?,
        })
    }
}

/// A script and what it is called with.
struct Prepared<'a> {
    attempted: &'static str,
    script: &'a ScriptText,
    channel: &'a ChannelName,
    keys: Vec<String>,
    arguments: Vec<Bytes>,
}

impl Prepared<'_> {
    fn arguments(&self) -> Vec<&[u8]> {
        self.arguments.iter().map(Bytes::as_ref).collect()
    }

    fn call<'a>(&'a self, arguments: &'a [&'a [u8]], window: LastArgs<'a>) -> Call<'a> {
        Call {
            attempted: self.attempted,
            script: self.script,
            channel: self.channel,
            keys: &self.keys,
            args: arguments,
            last_args: Some(window),
        }
    }
}

fn unreadable() -> CommandError {
    CommandError::Refused("a presence script answered something else than it should".to_owned())
}

fn wait_of(answer: i64) -> Option<Duration> {
    u64::try_from(answer).ok().map(Duration::from_millis)
}

fn next_expiry(answer: i64) -> NextExpiry {
    match wait_of(answer) {
        Some(wait) => NextExpiry::In(wait),
        None if answer == EVICTION_DEFERRED => NextExpiry::EvictionDeferred,
        None => NextExpiry::Never,
    }
}

fn milliseconds(duration: Duration) -> Bytes {
    crate::engine::redis::connection::milliseconds(duration).into()
}

fn number(number: usize) -> Bytes {
    number.to_string().into()
}

/// -2: what the scripts reply when they have deferred an eviction.
const EVICTION_DEFERRED: i64 = -2;

/// 500: connections of one channel in one call; about 17 KiB, and some 200 µs of Redis.
pub(crate) const BATCH_MAX: usize = 500;

/// 50: expired connections that a join or a leave evicts on the way.
const EVICTED_BESIDE_MAX: usize = 50;

/// 200: expired connections that one call takes out at most; some 4 ms of Redis when all of them are announced.
const EVICTED_MAX: usize = 200;
