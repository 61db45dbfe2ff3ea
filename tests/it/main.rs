//! The server over real sockets, as pages and applications meet it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod embedding;
mod handle;
