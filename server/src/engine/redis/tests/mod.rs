//! The engine against real Redis servers.

mod faults;
mod layout;
mod model;
mod mutants;
mod process;
mod publish;
mod rights;
mod scenarios;
