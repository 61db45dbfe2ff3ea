//! Real Redis servers for tests: alone, under Sentinel, or in a Cluster.
//!
//! Every server has free ports and a folder of its own and ends with its owner. The machine's own Redis is never touched.
//! Tests that need one server and no faults share [`shared`], each with a [`prefix`] of its own.

mod cluster;
mod sentinel;
mod server;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

pub use self::cluster::Cluster;
pub use self::sentinel::{MASTER, Place, Sentinel, Watcher};
pub use self::server::{Persistence, Redis, RedisConfig, Snapshot};

/// One server without persistence for the whole test process. Use a [`prefix`], and break nothing.
pub async fn shared() -> &'static Redis {
    static SHARED: OnceCell<Redis> = OnceCell::const_new();
    SHARED.get_or_init(Redis::start).await
}

/// A key prefix that no other test has, such as `redelivery-4711-3:`.
#[must_use]
pub fn prefix(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{number}:", std::process::id())
}
