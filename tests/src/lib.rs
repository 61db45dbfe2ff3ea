//! What the integration tests share, and the server that the browser suites run against.
//!
//! [`checker`]: what was promised about messages, checked over a recorded history. [`server`] and [`socket`]: a server in the
//! test's process and peers that speak JSON text or bytes to it. [`redis`]: real Redis servers, alone or many. [`proxy`]: what
//! networks do to connections. [`chaos`]: all of it together, under load and in trouble. [`suite`]: the server of the browser
//! suites.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub mod chaos;
pub mod checker;
pub mod http;
pub mod node;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod resp;
pub mod server;
pub mod socket;
pub mod suite;

/// 20 s: far more than anything takes here, on a machine that has much else to do.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for what must happen.
///
/// # Panics
/// When it does not within [`DEADLINE`].
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(DEADLINE, future).await {
            Ok(value) => value,
            Err(_) => panic!("{caller}: {what} did not happen within {DEADLINE:?}"),
        }
    }
}

/// Waits until a condition holds.
///
/// # Panics
/// When it does not within [`DEADLINE`].
#[track_caller]
pub fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    eventually_every(LOOK_EVERY, what, holds)
}

/// The same for what costs something to look at.
///
/// # Panics
/// When it does not within [`DEADLINE`].
#[track_caller]
pub fn eventually_every(
    interval: Duration,
    what: &str,
    mut holds: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let until_it_holds = async move {
        let mut look = tokio::time::interval(interval);
        loop {
            look.tick().await;
            if holds().await {
                return;
            }
        }
    };
    within(what, until_it_holds)
}

/// What a mutex holds, also after a test that held it has failed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 2 ms: often enough that a test does not wait for its own looking.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The snippets of the README, compiled and, where they can, run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
