//! What nodes say to each other.

pub(crate) mod format;
pub(crate) mod requests;
pub(crate) mod speaking;
pub(crate) mod unheard;
pub(crate) mod watch;
