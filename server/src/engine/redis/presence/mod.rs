//! Who is present, kept in Redis as leases.

pub(crate) mod contact;
pub(crate) mod leases;
pub(crate) mod moving;
pub(crate) mod scripts;
pub(crate) mod terms;
