//! The server over real sockets, as pages and applications meet it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod app_events;
mod channel_tokens;
mod embedding;
mod handle;
mod identity;
mod origins;
mod presence;
mod raw_browser;
