//! The application's hand on a running server.

use std::ops::Deref;
use std::sync::Arc;

use crate::publish::Publisher;
use crate::services::Services;

/// Publishes, asks and orders from anywhere in an application, as a [`Publisher`] does, and ends the server. Cheap to clone.
///
/// It is a [`Publisher`] through `Deref`: what only publishes or asks takes `&Publisher`, and gets this or one of its own.
///
/// ```
/// # use fanfare_server::{Server, PublishError};
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder().build().await?;
/// let events = server.handle();
/// events.broadcast("orders", "order.created", &serde_json::json!({ "id": 7 })).await?;
/// assert_eq!(events.subscriber_count("orders").await?, 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Handle {
    services: Arc<Services>,
}

impl Handle {
    pub(crate) fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    /// Ends the server: it is not ready any more, then takes no new connections, every client is told to come back elsewhere,
    /// one after the other, and what is queued is sent. Resolves when the last task has ended, at the latest 3 s after what is
    /// configured: `Limits::drain_delay`, `Limits::drain_spread`
    /// and [`Limits::shutdown_deadline`](crate::Limits::shutdown_deadline), one after the other.
    ///
    /// # Cancel safety
    /// A dropped call has begun the shutdown; another one waits for its end.
    pub async fn shutdown(&self) {
        crate::shutdown::run(&self.services).await;
    }
}

impl Deref for Handle {
    type Target = Publisher;

    fn deref(&self) -> &Publisher {
        &self.services.publisher
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}
