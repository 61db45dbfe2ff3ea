//! The members of presence channels, kept in Redis as leases.

mod eviction;
mod expiry;
mod held;
pub(crate) mod leases;
mod pulse;
mod refresh;
pub(crate) mod scripts;
