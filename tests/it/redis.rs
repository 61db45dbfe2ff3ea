//! The Redis engine against real servers.

mod attacks;
mod contract;
mod flow;
mod flow_topologies;
mod forged;
mod formats;
mod node;
mod presence;
mod presence_model;
mod reading;
mod sentinels;
mod support;
mod tls;
mod topologies;
mod unknown_outcome;
