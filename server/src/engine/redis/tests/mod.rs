//! The engine against real Redis servers.

mod process;
mod publish;
