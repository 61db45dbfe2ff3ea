//! The server over real sockets, as pages and applications meet it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod accept;
mod app_events;
mod authorizer;
mod channel_tokens;
mod cluster;
mod costs;
mod drain;
mod embedding;
mod flood;
mod frames;
mod handle;
mod http_attacks;
mod idempotency;
mod identity;
mod limits;
mod many_channels;
mod native_client;
mod native_updates;
mod origins;
mod presence;
mod presence_unknown;
mod presence_update;
mod random;
mod raw_browser;
mod reading;
mod recovery;
mod redis;
mod revocation;
mod rolling_deploy;
mod shutdown;
mod signatures;
mod standalone;
mod unsafe_input;
