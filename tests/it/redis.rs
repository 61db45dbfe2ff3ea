//! The Redis engine against real servers.

mod support;
mod topologies;
