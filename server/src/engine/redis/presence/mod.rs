//! Who is present, kept in Redis as leases.

pub(crate) mod eviction;
pub(crate) mod leases;
pub(crate) mod migrating;
pub(crate) mod scripts;
pub(crate) mod timings;
