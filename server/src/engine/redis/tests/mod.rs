//! The engine against real Redis servers.

mod model;
mod mutants;
mod process;
mod publish;
mod scenarios;
