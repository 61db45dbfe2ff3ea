//! What the integration tests share, and the server that the browser suites run against.
//!
//! [`checker`]: what was promised about messages, checked over a recorded history.

pub mod checker;
pub mod proxy;
pub mod suite;
