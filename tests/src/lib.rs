//! What the integration tests share.
//!
//! [`checker`]: what was promised about messages, checked over a recorded history.

pub mod checker;
