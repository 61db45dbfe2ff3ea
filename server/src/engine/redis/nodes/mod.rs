//! What nodes say to each other: requests and replies, their formats, and which losses a failover may have caused.

pub(crate) mod failover;
pub(crate) mod format;
pub(crate) mod requests;
