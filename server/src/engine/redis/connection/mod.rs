//! Reaching Redis: where servers are, and running one script there.

pub(crate) mod cluster;
pub(crate) mod commands;
pub(crate) mod connections;
pub(crate) mod error;
pub(crate) mod options;
pub(crate) mod scripts;
pub(crate) mod sentinel;
pub(crate) mod startup;
pub(crate) mod topology;

use std::time::Duration;

use redis::Value;

/// The name of the engine in errors.
pub(crate) const ENGINE: &str = "Redis";

/// A duration as scripts take it. Redis takes 0 for "gone already".
pub(crate) fn milliseconds(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}

/// An answer's text.
pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
