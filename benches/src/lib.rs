//! The fan-out benchmark: our server beside the physical limit and beside a plain axum server, in one run.
//!
//! `cargo run --release -p fanfare-benches --bin fanout` starts every server as a child process on one core and drives it from
//! another one. What it measures, and how, is told in `docs/benchmarks.md`; the modules, in the order in which a message
//! passes them:
//!
//! - [`payload`], [`frame`]: what is sent, and how it looks on the wire;
//! - [`servers`]: who is measured;
//! - [`generator`]: the load, and the check of every single delivery ([`sequence`]);
//! - [`usage`], [`histogram`], [`statistics`]: the numbers;
//! - [`scenario`], [`child`], [`runner`], [`samples`]: one run;
//! - [`cluster`]: the other benchmark, several nodes on one Redis;
//! - [`flood`]: what connections that send without end do to the others;
//! - [`goals`], [`report`], [`machine`]: what is told about it.

pub mod child;
pub mod cluster;
pub mod dialect;
pub mod flood;
pub mod frame;
pub mod generator;
pub mod goals;
pub mod histogram;
pub mod machine;
pub mod payload;
pub mod redis_publish;
pub mod redis_server;
pub mod report;
pub mod runner;
pub mod samples;
pub mod scenario;
pub mod sequence;
pub mod servers;
pub mod statistics;
pub mod usage;
