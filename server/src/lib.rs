//! Realtime events for axum applications.

mod clock;

pub mod auth;
pub mod delivery;
pub mod engine;
pub mod rules;
