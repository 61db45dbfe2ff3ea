//! The machine in virtual time, against a server that says exactly what a test lets it say.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod pair;
mod say;
mod shown;

mod authentication;
mod channels;
mod connection;
mod follow;
mod lifecycle;
mod lists;
mod model;
mod presence;
mod recovery;
mod requests;
