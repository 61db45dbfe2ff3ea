//! The Fanfare client as a state machine: no I/O, no clock, no runtime.
//!
//! **The one rule: handle one input, drain the outputs to `None`, arm one timer.**

pub mod client;
pub mod error;
pub mod io;
pub mod options;
pub mod time;

mod authentication;
mod backoff;
mod channel;
mod connection;
mod incoming;
mod loss;
mod presence;
mod recovery;
mod requests;
mod subscription;
mod timers;
mod token;

pub use client::Client;
pub use error::ClientError;
pub use io::{
    AuthReason, ChannelAuthReply, ChannelState, ChannelStatus, ConnectionState, ConnectionStatus,
    Event, Gap, GapReason, Input, Message, Output, Payload, RequestId, Reset, TokenReason,
    TokenReply,
};
pub use options::{Backoff, Options, QueueLimits, SubscribeOptions};
pub use time::Millis;
