//! Reaching Redis: where servers are, and running one script there.

pub(crate) mod backoff;
pub(crate) mod cluster;
pub(crate) mod commands;
pub(crate) mod connections;
pub(crate) mod error;
pub(crate) mod flow_options;
pub(crate) mod options;
pub(crate) mod retry;
pub(crate) mod scripts;
pub(crate) mod sentinel;
pub(crate) mod startup;
pub(crate) mod topology;
