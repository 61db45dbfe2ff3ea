//! The Redis engine against real servers.

mod support;
