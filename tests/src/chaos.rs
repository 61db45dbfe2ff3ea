//! The chaos suite: several server processes, a real store, clients and publishers under load, and faults while they work.
//!
//! Everything that clients see and publishers are told is recorded, and afterwards the [checkers](crate::checker) say whether
//! every promise was kept. A row is one kind of fault; [`rows::ROWS`] is the table of them. [`stage`] is the system under load,
//! [`store`] and [`node`] are the processes, [`listener`] and [`publisher`] the load, [`report`] what is said about it.

pub mod access;
pub mod listener;
pub mod load;
pub mod namespace;
pub mod node;
pub mod options;
pub mod planted;
pub mod publisher;
pub mod report;
pub mod rows;
pub mod run;
pub mod stage;
pub mod store;
