//! The wire types that every part of Fanfare shares.
//!
//! One JSON object per WebSocket text frame, `type` always present, field names in `snake_case`.
//! A client sends a [`Request`] (a [`Command`] with an optional `id`), a server sends a [`ServerMessage`].
//! The payload (`data`) is opaque: on the server it is [`RawJson`] text that nobody parses, in a browser it is a JavaScript value.
//!
//! Modules in reading order: [`name`] (who and where), [`position`] (which message), [`command`] and [`message`] (the frames),
//! [`code`] (every number a peer can be told), [`raw`] (the opaque payload), [`json`] and [`app_events`] (the text).
//!
//! [`json`] turns both into text and back, [`app_events`] does so for clients of another spelling. `docs/protocol.md` explains
//! the wire to those who write a client.
//!
//! ```
//! # #[cfg(feature = "json")] {
//! use fanfare_protocol::json::{decode_messages, decode_request, encode_message};
//! use fanfare_protocol::{Code, Command, Event, ServerMessage};
//!
//! // A server reads a command...
//! let text = r#"{"type":"publish","id":7,"channel":"chat:1","event":"typing","data":{ "on": true }}"#;
//! let request = decode_request(text)?;
//! let Command::Publish { channel, event, data, .. } = request.command else { panic!("another command") };
//!
//! // ...and passes the payload on, byte for byte.
//! let frame = encode_message(&ServerMessage::Event(Event {
//!     channel,
//!     event,
//!     data,
//!     offset: None,
//!     tag: None,
//!     epoch: None,
//!     user_id: None,
//!     event_id: None,
//! }));
//! assert_eq!(frame, r#"{"type":"event","channel":"chat:1","event":"typing","data":{ "on": true }}"#);
//!
//! // A client reads the frame: one message, or several in the batch form.
//! for message in decode_messages(&frame) {
//!     let ServerMessage::Event(event) = message? else { panic!("another message") };
//!     assert_eq!(event.data.as_str(), "{ \"on\": true }");
//! }
//!
//! // What cannot be read has a code, a sentence, and the id of the command.
//! let error = decode_request(r#"{"type":"subscribe","id":8,"channel":"no spaces"}"#).unwrap_err();
//! assert_eq!((error.id, error.code()), (Some(8), Code::BAD_CHANNEL));
//! assert_eq!(error.to_string(), "`channel` is not valid: the channel name must not contain a space (byte 2)");
//! # }
//! # Ok::<(), fanfare_protocol::DecodeError>(())
//! ```
//!
//! This crate does no I/O, reads no clock and knows no runtime.

#![cfg_attr(not(any(feature = "json", test)), no_std)]

extern crate alloc;

pub mod app_events;
pub mod code;
pub mod command;
pub mod json;
pub mod message;
pub mod name;
pub mod position;
pub mod raw;
mod socket_id;

pub use code::{Code, Disposition};
pub use command::{Command, Request, SUBSCRIBE_CHANNELS_MAX, Subscribe};
pub use json::{DecodeError, DecodeProblem};
pub use message::{
    Connected, ConnectionLimits, Disconnect, ErrorMessage, Event, Gap, Member, Presence, Reply,
    Reset, ServerMessage, Skipped, SubscriptionError, SubscriptionSucceeded, Unsubscribed,
};
pub use name::{ChannelKind, ChannelName, EventName, IdempotencyKey, NameError, SocketId, UserId};
pub use position::{Epoch, Link, OFFSET_MAX, Position, PositionError, Tag};
pub use raw::RawJson;

/// The version of the native dialect, told in every `connected` frame.
pub const PROTOCOL_VERSION: u32 = 1;

/// WebSocket subprotocol of the native dialect: one message per frame.
pub const SUBPROTOCOL: &str = "fanfare.v1";

/// WebSocket subprotocol of the native dialect in its batch form: a frame may be a JSON array of messages.
pub const SUBPROTOCOL_BATCH: &str = "fanfare.v1.batch";

/// WebSocket subprotocol of the `app-events` dialect.
pub const SUBPROTOCOL_APP_EVENTS: &str = "app-events.v1";
