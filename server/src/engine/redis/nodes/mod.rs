//! What nodes say to each other.

pub(crate) mod format;
pub(crate) mod publish_guard;
pub(crate) mod requests;
pub(crate) mod unconfirmed;
pub(crate) mod watch;
