//! What lies in Redis for each channel, and the calls that read and write it.

pub(crate) mod envelope;
pub(crate) mod history;
pub(crate) mod keys;
pub(crate) mod levels;
pub(crate) mod publish;
pub(crate) mod ready;
pub(crate) mod rights;
pub(crate) mod store;
