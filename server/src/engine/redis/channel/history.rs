//! Reading and clearing the history of a channel.
//!
//! Promise: docs/guarantees.md, *Channels with history*, "Delivery" and "Coming back to a channel that never had a message".

use std::collections::HashMap;
use std::time::Duration;

use fanfare_protocol::position::OFFSET_MAX;
use fanfare_protocol::{ChannelName, Position};
use redis::Value;

use super::envelope;
use super::publish::random_epoch;
use super::store::ChannelStore;
use crate::delivery::{Delivery, History, HistoryRange, Retention};
use crate::engine::EngineError;
use crate::engine::redis::connection::commands::Call;
use crate::engine::redis::connection::error::CommandError;

/// A history, and how old its messages were when it was read.
#[derive(Debug, Clone)]
pub(crate) struct Aged {
    pub(crate) history: History,
    pub(crate) ages: Ages,
    /// Whether Redis remembers the channel only since this read.
    is_new: bool,
}

/// How old messages were when they were read, by offset and by the clock of Redis.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ages(HashMap<u64, Duration>);

impl Ages {
    /// How old a message was; zero for one that was not read.
    pub(crate) fn of(&self, delivery: &Delivery) -> Duration {
        let offset = delivery.position.map(|position| position.offset);
        let age = offset.and_then(|offset| self.0.get(&offset));
        age.copied().unwrap_or_default()
    }
}

#[cfg(test)]
impl FromIterator<(u64, Duration)> for Ages {
    fn from_iter<T: IntoIterator<Item = (u64, Duration)>>(ages: T) -> Self {
        Self(ages.into_iter().collect())
    }
}

/// Reads part of a channel's history on its master.
///
/// As [`read_aged`].
pub(crate) async fn read(
    store: &ChannelStore,
    channel: &ChannelName,
    range: HistoryRange,
    retention: Retention,
) -> Result<History, EngineError> {
    let read = read_aged(store, channel, range, retention, None).await?;
    Ok(read.history)
}

/// Reads part of a channel's history on its master.
///
/// A channel that Redis does not know starts with the epoch of `stands`, if that is the start of one, else with a new epoch. Redis
/// remembers as many such channels as [`ChannelStore::may_remember_channel`] allows.
///
/// At most [`READ_BYTES_MAX`] of payloads come at once: the answer then is shorter than the range asked for, and its last entry is
/// not at its top.
pub(crate) async fn read_aged(
    store: &ChannelStore,
    channel: &ChannelName,
    range: HistoryRange,
    retention: Retention,
    stands: Option<Position>,
) -> Result<Aged, EngineError> {
    let (mode, offset, limit): (&[u8], u64, u32) = match range {
        HistoryRange::After { offset, limit } => (b"after", offset.min(OFFSET_MAX), limit),
        HistoryRange::Last { limit } => (b"last", 0, limit),
    };
    let keys = [store.keys().position(channel), store.keys().stream(channel)];
    let (offset, limit) = (offset.to_string(), limit.to_string());
    let ttl = crate::engine::redis::connection::milliseconds(retention.ttl);
    let begins = stands.filter(|position| position.offset == 0);
    // The subscribers here stand at that epoch; another one would be a reset for them.
    let stays_unwritten = begins.is_some_and(is_unwritten);
    let epoch = begins.map_or_else(random_epoch, |position| position.epoch);
    let epoch = epoch.to_string();
    let may_begin: &[u8] = match !stays_unwritten && store.may_remember_channel() {
        true => b"1",
        false => b"0",
    };
    let position_ttl = store.options().position_ttl(retention);
    let bytes_max = READ_BYTES_MAX.to_string();
    let empty_ttl = store.options().empty_position_ttl();
    let args = [
        mode,
        offset.as_bytes(),
        limit.as_bytes(),
        ttl.as_bytes(),
        epoch.as_bytes(),
        position_ttl.as_bytes(),
        bytes_max.as_bytes(),
        empty_ttl.as_bytes(),
        may_begin,
    ];
    let call = Call {
        attempted: "reading a history",
        script: &store.scripts().read,
        channel,
        keys: &keys,
        args: &args,
        last_args: None,
    };
    let answer = store.commands().run_retrying(call, true).await?;
    let read = decode(store, channel, &answer);
    let read = read.ok_or_else(|| unreadable("reading a history"))?;
    if read.is_new {
        store.note_remembered_channel();
    }
    Ok(read)
}

/// Whether a channel stands at an epoch that read.lua has computed and not written.
fn is_unwritten(position: Position) -> bool {
    position.epoch.0 >> 48 == 0xffff
}

/// Reads the position of a channel, as [`read_aged`].
pub(crate) async fn position(
    store: &ChannelStore,
    channel: &ChannelName,
    retention: Retention,
    stands: Option<Position>,
) -> Result<Position, EngineError> {
    let nothing = HistoryRange::Last { limit: 0 };
    let read = read_aged(store, channel, nothing, retention, stands).await?;
    Ok(read.history.top)
}

/// Drops what a channel keeps.
pub(crate) async fn clear(store: &ChannelStore, channel: &ChannelName) -> Result<(), EngineError> {
    let keys = [store.keys().position(channel), store.keys().stream(channel)];
    let epoch = random_epoch().to_string();
    let position_ttl = store.options().position_ttl(Retention::NONE);
    let call = Call {
        attempted: "clearing a history",
        script: &store.scripts().clear_history,
        channel,
        keys: &keys,
        args: &[epoch.as_bytes(), position_ttl.as_bytes()],
        last_args: None,
    };
    // Clearing twice is as good as once.
    store.commands().run_retrying(call, true).await.map(|_| ())
}

/// Decodes a reply. An entry that cannot be read ends the history: only what follows it counts.
fn decode(store: &ChannelStore, channel: &ChannelName, answer: &Value) -> Option<Aged> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [
        epoch,
        offset,
        tag,
        Value::Array(entries),
        Value::Int(now),
        Value::Int(begun),
    ] = parts.as_slice()
    else {
        return None;
    };
    let top = envelope::position(epoch, offset, tag)?;
    let mut ages = Ages::default();
    let mut history = History {
        top,
        entries: Vec::with_capacity(entries.len()),
    };
    for entry in entries {
        let bytes_max = store.payload_bytes_max();
        let Some((delivery, published)) = decode_entry(channel, top, entry, bytes_max) else {
            store.warn_unreadable(channel, &"a message that Redis keeps cannot be read");
            history.entries.clear();
            continue;
        };
        let age = u64::try_from(now.saturating_sub(published)).unwrap_or(0);
        let offset = delivery.position?.offset;
        ages.0.insert(offset, Duration::from_millis(age));
        history.entries.push(delivery);
    }
    let is_new = *begun == 1;
    Some(Aged {
        history,
        ages,
        is_new,
    })
}

/// Reads `["12-0", ["b", body, "g", tag, "p", tag before, "a", time, "i", id]]`.
fn decode_entry(
    channel: &ChannelName,
    top: Position,
    entry: &Value,
    payload_bytes_max: usize,
) -> Option<(Delivery, i64)> {
    let Value::Array(entry) = entry else {
        return None;
    };
    let [id, Value::Array(fields)] = entry.as_slice() else {
        return None;
    };
    let offset = crate::engine::redis::connection::text(id)?
        .split_once('-')?
        .0
        .parse()
        .ok()?;
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find_map(|pair| {
            (crate::engine::redis::connection::text(&pair[0]) == Some(name)).then_some(&pair[1])
        })
    };
    let position = Position {
        epoch: top.epoch,
        offset,
        tag: crate::engine::redis::connection::text(field("g")?)?
            .parse()
            .ok()?,
    };
    let previous = crate::engine::redis::connection::text(field("p")?)?
        .parse()
        .ok()?;
    let Value::BulkString(body) = field("b")? else {
        return None;
    };
    let published = crate::engine::redis::connection::text(field("a")?)?
        .parse()
        .ok()?;
    let delivery =
        envelope::decode_kept(channel, position, previous, body, payload_bytes_max).ok()?;
    Some((delivery, published))
}

fn unreadable(attempted: &'static str) -> EngineError {
    let detail = "its answer cannot be read: another program writes to these keys".to_owned();
    CommandError::Refused(detail).into_engine_error(attempted, 0)
}

/// 8 MiB: far more than a recovery may bring, and a reply that does not hold up Redis.
const READ_BYTES_MAX: usize = 8 << 20;
