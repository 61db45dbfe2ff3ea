//! The Fanfare client as a state machine: no I/O, no clock, no runtime.
//!
//! [`Client`] decides everything a client has to decide: when to connect and when to come back, which token to ask for, what was
//! missed and what is lost, which publish to send again. It does nothing itself. A host (the browser binding, the tokio client
//! behind the feature `native`, a test) tells it what has happened and does what it says:
//!
//! **Handle one input, drain the outputs to `None`, arm one timer.**
//!
//! ```
//! use fanfare_client::protocol;
//! use fanfare_client::{Client, Event, Input, Millis, Options, Output, Payload, SubscribeOptions};
//! # fn now() -> Millis { Millis(0) }
//!
//! /// What a payload is, the host decides: a JavaScript value, JSON text, here a number.
//! #[derive(Debug, Clone)]
//! struct Number(u32);
//!
//! impl Payload for Number {
//!     fn member_added(&self) -> Option<protocol::Member<Self>> {
//!         None
//!     }
//!     fn member_removed(&self) -> Option<(protocol::UserId, Option<String>)> {
//!         None
//!     }
//! }
//!
//! fn drive(client: &mut Client<Number>, input: Input<Number>) -> Vec<String> {
//!     let mut done = Vec::new();
//!     client.handle(input, now());
//!     while let Some(output) = client.poll_output() {
//!         match output {
//!             Output::Open { .. } => done.push("open a socket".to_owned()),
//!             Output::Send(text) => done.push(text),
//!             Output::Event(Event::Message(message)) => done.push(message.data.0.to_string()),
//!             _ => {}
//!         }
//!     }
//!     // Arm the one timer for `client.next_timeout()` here; when it fires, pass `Input::TimedOut`.
//!     done
//! }
//!
//! let mut client = Client::new(Options::default(), 7);
//! assert_eq!(drive(&mut client, Input::Connect), ["open a socket"]);
//! drive(&mut client, Input::Opened);
//! drive(
//!     &mut client,
//!     Input::Message(protocol::ServerMessage::Connected(protocol::Connected {
//!         socket_id: protocol::SocketId::from_bits(1),
//!         user_id: None,
//!         protocol: protocol::PROTOCOL_VERSION,
//!         ping_interval: 25_000,
//!         max_payload_size: 1024 * 1024,
//!         server_time: 1_700_000_000_000,
//!         limits: None,
//!     })),
//! );
//! let channel = protocol::ChannelName::new("orders")?;
//! let options = SubscribeOptions::default();
//! let sent = drive(&mut client, Input::Subscribe { channel, options });
//! assert_eq!(sent, [r#"{"type":"subscribe","id":1,"channel":"orders"}"#]);
//! assert!(client.next_timeout().is_some(), "the reply has a deadline");
//! # Ok::<(), protocol::NameError>(())
//! ```
//!
//! What comes out is what the protocol promises: on a channel with history every message once and in order, over any number of
//! connections, or an [`Event::Gap`] or [`Event::Reset`] in between. Everything that waits is bounded and has a deadline.
//!
//! Modules in reading order: [`io`] (everything that goes in and comes out), [`event`] and [`history`] (what the application is told),
//! [`client`] (names and JSON text around the machine), [`machine`] (all decisions, over values that it does not know), [`options`],
//! [`error`], [`time`], and with the feature `native` the tokio client.

#![cfg_attr(not(any(feature = "native", test)), no_std)]

extern crate alloc;

pub mod client;
pub mod error;
pub mod event;
pub mod history;
pub mod io;
pub mod machine;
#[cfg(feature = "native")]
pub mod native;
pub mod options;
pub mod time;

mod members;
mod told;
mod wire;

pub use client::Client;
pub use error::ClientError;
pub use event::{
    ChannelState, ChannelStatus, ConnectionState, ConnectionStatus, Event, Gap, GapReason, Message,
    Reset,
};
pub use fanfare_protocol as protocol;
pub use history::History;
pub use io::{
    AuthReason, ChannelAuthReply, Input, Output, Payload, RequestId, TokenReason, TokenReply,
};
pub use machine::Machine;
pub use options::{Backoff, Options, QueueLimits, SubscribeOptions};
pub use time::Millis;
