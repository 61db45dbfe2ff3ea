//! Numbers for values that JavaScript keeps, and how numbers cross the border.
//!
//! TypeScript numbers every name, text and message that the machine may have to hand on (`npm/src/values.ts`). Nothing here can be
//! looked into: what the machine must know of a channel's name is in its number.

use core::num::NonZeroU32;

use fanfare_client::RequestId;
use fanfare_client::machine::values::Values;
use fanfare_protocol::{ChannelKind, Epoch, Position, Tag};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::machine::seam;

#[wasm_bindgen]
extern "C" {
    /// The next number of what goes in.
    #[wasm_bindgen(js_namespace = seam, js_name = take)]
    pub(super) fn take() -> f64;

    /// Appends a number to what comes out.
    #[wasm_bindgen(js_namespace = seam, js_name = put)]
    pub(super) fn put(number: f64);
}

/// The number of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(NonZeroU32);

/// The machine's values where they are numbers.
#[derive(Debug)]
pub(super) struct Numbers;

impl Values for Numbers {
    type Channel = Number;
    /// That of the user's own channel.
    type User = Number;
    type Socket = ();
    type Text = Number;
    type Hint = Number;
    /// The request's.
    type Command = RequestId;
    /// Which of the events of the message that is being taken in.
    type Content = u32;
    type Change = Number;
    /// In the message that is being taken in.
    type Snapshot = ();
    /// The message that is being taken in; whether it has members.
    type Reply = bool;

    fn kind(channel: &Number) -> ChannelKind {
        match seam::ChannelKind::of(channel.0.get() % 4) {
            Some(seam::ChannelKind::Public) | None => ChannelKind::Public,
            Some(seam::ChannelKind::Private) => ChannelKind::Private,
            Some(seam::ChannelKind::Presence) => ChannelKind::Presence,
            Some(seam::ChannelKind::Personal) => ChannelKind::Personal,
        }
    }

    fn personal(user: &Number) -> Number {
        *user
    }

    fn snapshot(has_members: bool) -> Option<()> {
        has_members.then_some(())
    }

    fn done() -> bool {
        false
    }
}

impl Number {
    pub(super) fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    pub(super) fn put(self) {
        put_number(self.0.get());
    }
}

pub(super) fn joined(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// A value that may be absent.
pub(super) fn take_value() -> Option<Number> {
    Number::new(take_number())
}

/// A value that is there.
pub(super) fn value() -> Number {
    take_value().unwrap_or(Number(NonZeroU32::MIN))
}

#[inline(never)]
pub(super) fn take_number() -> u32 {
    take() as u32
}

pub(super) fn take_flag() -> bool {
    take_number() != 0
}

#[inline(never)]
pub(super) fn take_count() -> u64 {
    take() as u64
}

/// A number that may be absent.
#[inline(never)]
pub(super) fn take_optional() -> Option<u64> {
    optional(take())
}

/// A negative number stands for none.
pub(super) fn optional(number: f64) -> Option<u64> {
    (number >= 0.0).then_some(number as u64)
}

/// The bits of an epoch or a tag that may be absent.
#[inline(never)]
pub(super) fn take_bits() -> Option<u64> {
    let high = take_optional()?;
    Some(high << 32 | take_count())
}

pub(super) fn take_tag() -> Tag {
    Tag(take_bits().unwrap_or_default())
}

/// A position that may be absent.
#[inline(never)]
pub(super) fn take_position() -> Option<Position> {
    let offset = take_optional()?;
    Some(Position {
        epoch: Epoch(take_bits().unwrap_or_default()),
        offset,
        tag: take_tag(),
    })
}

#[inline(never)]
pub(super) fn put_number(number: u32) {
    put(f64::from(number));
}

#[inline(never)]
pub(super) fn put_count(number: u64) {
    put(number as f64);
}

/// Negative for none.
#[inline(never)]
pub(super) fn put_optional(number: Option<u64>) {
    match number {
        Some(number) => put_count(number),
        None => put(-1.0),
    }
}

/// 0 for none.
pub(super) fn put_value(value: Option<Number>) {
    put_number(value.map_or(0, |value| value.0.get()));
}

#[inline(never)]
pub(super) fn put_position(position: Option<Position>) {
    put_optional(position.map(|position| position.offset));
    if let Some(position) = position {
        put_bits(position.epoch.0);
        put_bits(position.tag.0);
    }
}

fn put_bits(bits: u64) {
    put_number((bits >> 32) as u32);
    put_number(bits as u32);
}
