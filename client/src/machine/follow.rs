//! The short way of the plain case: a message that is exactly the next one of its channel.
//!
//! A host that looks at many messages a second need not describe each of them: most say nothing to the machine but that one more
//! is there. [`Machine::follow`] takes just that in. Whatever is not plain it refuses, and then the message goes the general way,
//! with the same outcome that it would have had without the attempt.

use fanfare_protocol::{OFFSET_MAX, Position, Tag};

use crate::machine::Machine;
use crate::machine::channel::Phase;
use crate::machine::connection::Ping;
use crate::machine::values::Values;
use crate::time::Millis;

impl<V: Values> Machine<V> {
    /// Takes note of an `event`, or of a `skipped`, that names no epoch (or the one that the channel is in).
    ///
    /// `true`: it is the next message of its channel, the position has moved, and nothing else has come of it. The host hands
    /// an event's payload out. `false`: nothing has happened; it is to be told as any other message.
    ///
    /// The host passes no event that only the machine may read ([`EventName::is_reserved`](fanfare_protocol::EventName)) and
    /// none whose names it has not checked.
    pub fn follow(
        &mut self,
        channel: &V::Channel,
        offset: Option<u64>,
        tag: Tag,
        now: Millis,
    ) -> bool {
        let last = self.channels.get(self.followed);
        if last.is_none_or(|last| last.name != *channel) {
            let Ok(at) = self.find(channel) else {
                return false;
            };
            self.followed = at;
        }
        let (Some(session), Some(channel)) = (
            self.connection.session_mut(),
            self.channels.get_mut(self.followed),
        ) else {
            return false;
        };
        let is_plain = self.outputs.is_empty()
            && matches!(session.ping, Ping::CheckAt(_))
            && matches!(channel.phase, Phase::Subscribed { .. })
            && channel.stream.advance(offset, tag);
        if is_plain {
            session.heard = now;
        }
        is_plain
    }
}

/// The position after `mine` when `offset` is the next; both are absent where nothing is counted.
pub(crate) fn next_position(
    mine: Option<Position>,
    offset: Option<u64>,
    tag: Tag,
) -> Option<Option<Position>> {
    match (mine, offset) {
        (None, None) => Some(None),
        (Some(mine), Some(offset)) if mine.offset + 1 == offset && offset <= OFFSET_MAX => {
            Some(Some(Position {
                offset,
                tag,
                ..mine
            }))
        }
        _ => None,
    }
}
