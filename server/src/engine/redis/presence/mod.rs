//! Who is present, kept in Redis as leases.

mod eviction;
mod expiry;
mod held;
pub(crate) mod leases;
mod pulse;
mod refresh;
pub(crate) mod scripts;
