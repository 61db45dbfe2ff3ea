//! Realtime events for axum applications.
//!
//! ```no_run
//! use axum::Router;
//! use fanfare_server::Server;
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder().build().await?;
//! let events = server.handle(); // clone it into your handlers
//! let app = Router::new().merge(server.router());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
//! events.broadcast("announcements", "new-feature", &serde_json::json!({ "title": "Dark mode" })).await?;
//! server.serve_app(listener, app, async { tokio::signal::ctrl_c().await.ok(); }).await?;
//! # Ok(()) }
//! ```
//!
//! A message enters through a [`Handle`] (or a client's `publish`), passes the [engine] and the hub, and leaves through the
//! outboxes of the connections that are subscribed. Who may do what is decided by an [`Authorizer`](auth::Authorizer), what a
//! channel keeps by [`ChannelRules`].

mod budget;
mod builder;
mod clock;
mod cluster;
mod config;
mod dialect;
mod fairness;
mod frame;
mod handle;
mod health;
mod hub;
mod publish;
mod refusal_log;
mod server;
mod services;
mod session;
mod sessions;
mod shutdown;
mod tables;
mod transport;

#[cfg(feature = "__frames")]
#[doc(hidden)]
pub use self::frame::bare as frames;

pub mod auth;
pub mod delivery;
pub mod engine;
pub mod rules;

pub use builder::{BuildError, ServerBuilder};
pub use cluster::ClusterError;
pub use config::Limits;
pub use delivery::{Publication, PublishLevel, Published};
pub use fanfare_protocol as protocol;
pub use handle::Handle;
pub use publish::{PublishError, Publisher};
pub use rules::{ChannelRule, ChannelRules, SlowReader};
pub use server::Server;
pub use transport::accept::AcceptLimits;
