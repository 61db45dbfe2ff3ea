//! The wire types that every part of Fanfare shares.
//!
//! One JSON object per WebSocket text frame, `type` always present, field names in `snake_case`.
//! A client sends a [`Request`] (a [`Command`] with an optional `id`), a server sends a [`ServerMessage`].
//! The payload (`data`) is opaque: on the server it is [`RawJson`] text that nobody parses, in a browser it is a JavaScript value.
//!
//! Modules in reading order: [`name`] (who and where), [`position`] (which message), [`command`] and [`message`] (the frames),
//! [`code`] (every number a peer can be told), [`raw`] (the opaque payload).
//!
//! This crate does no I/O, reads no clock and knows no runtime.

pub mod app_events;
pub mod code;
pub mod command;
pub mod json;
pub mod message;
pub mod name;
pub mod position;
pub mod raw;

pub use code::{Code, Disposition};
pub use command::{Command, Request, Subscribe};
pub use json::{DecodeError, DecodeProblem};
pub use message::{
    Connected, Disconnect, ErrorMessage, Event, Gap, Member, Presence, Reply, Reset, ServerMessage,
    Skipped, SubscriptionError, SubscriptionSucceeded, Unsubscribed,
};
pub use name::{ChannelKind, ChannelName, EventName, IdempotencyKey, NameError, SocketId, UserId};
pub use position::{Epoch, Link, Position, PositionError, Tag};
pub use raw::RawJson;

/// The version of the native dialect, told in every `connected` frame.
pub const PROTOCOL_VERSION: u32 = 1;

/// WebSocket subprotocol of the native dialect: one message per frame.
pub const SUBPROTOCOL: &str = "fanfare.v1";

/// WebSocket subprotocol of the native dialect in its batch form: a frame may be a JSON array of messages.
pub const SUBPROTOCOL_BATCH: &str = "fanfare.v1.batch";

/// WebSocket subprotocol of the `app-events` dialect.
pub const SUBPROTOCOL_APP_EVENTS: &str = "app-events.v1";
