//! The Redis engine against real servers.

mod presence;
mod presence_model;
mod support;
mod topologies;
