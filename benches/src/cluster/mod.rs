//! Several nodes on one Redis: how long a message takes, how many go through, and what a reconnect storm asks of Redis.
//!
//! `cargo run --release -p fanfare-benches --bin cluster` starts a Redis of its own and nodes of ours as child processes.

pub mod latency;
pub mod node;
pub mod report;
pub mod storm;
