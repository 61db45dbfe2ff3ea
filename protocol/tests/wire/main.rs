//! The wire, tested from outside: golden frames, properties, error texts, and the page that explains it all.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod chain;
mod docs;
mod errors;
mod fields;
mod golden;
mod names;
mod properties;
mod reader;
mod strategies;
