//! The short way of the plain case: a message that is exactly the next one of a channel that is known by a number.
//!
//! A host that looks at many messages a second need not build a [`ServerMessage`](fanfare_protocol::ServerMessage) for each:
//! most of them say nothing to the machine but that one more is there. [`Client::follow`] takes just that in. Whatever is not
//! plain it refuses, and then the message goes the general way, with the same outcome that it would have had without the
//! attempt.

use fanfare_protocol::{ChannelName, OFFSET_MAX, Position, Tag};

use crate::channel::{Channel, Phase};
use crate::client::Client;
use crate::connection::Ping;
use crate::io::Payload;
use crate::time::Millis;

/// A channel's number for [`Client::follow`]: valid until the list of channels changes, and refused afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub u32);

impl<P: Payload> Client<P> {
    /// The number of a channel as the list is now.
    #[must_use]
    pub fn slot(&self, channel: &ChannelName) -> Option<Slot> {
        let at = u32::try_from(self.find(channel).ok()?).ok()?;
        Some(Slot(self.first_slot.wrapping_add(at)))
    }

    /// Takes note of an `event`, or of a `skipped`, that names no epoch (or the one that the channel is in).
    ///
    /// `true`: it is the next message of its channel, the position has moved, and nothing else has come of it. The host hands
    /// an event's payload out. `false`: nothing has happened; pass it as [`Input::Message`](crate::Input::Message).
    ///
    /// The host passes no event that only the machine may read ([`EventName::is_reserved`](fanfare_protocol::EventName)) and
    /// none whose names it has not seen in an [`Event::Message`](crate::Event::Message) before.
    pub fn follow(&mut self, slot: Slot, offset: Option<u64>, tag: Tag, now: Millis) -> bool {
        let at = slot.0.wrapping_sub(self.first_slot) as usize;
        let (Some(session), Some(channel)) =
            (self.connection.session_mut(), self.channels.get_mut(at))
        else {
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

    pub(crate) fn insert_channel(&mut self, at: usize, channel: Channel<P>) {
        self.retire_slots();
        self.channels.insert(at, channel);
    }

    pub(crate) fn remove_channel(&mut self, at: usize) -> Channel<P> {
        self.retire_slots();
        self.channels.remove(at)
    }

    /// After so many changes that the numbers begin anew, a host that kept one since could be mistaken: four thousand million
    /// channels later.
    fn retire_slots(&mut self) {
        let used = self.channels.len() as u32;
        self.first_slot = self.first_slot.wrapping_add(used).wrapping_add(1);
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
