//! Whether this process lives, and whether it is ready for connections: what load balancers and orchestrators ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};

use crate::clock::Instant;
use crate::engine::Health;
use crate::services::Services;

/// Where the two questions are, below a path.
pub(crate) fn paths(path: &str) -> [String; 2] {
    let path = path.trim_end_matches('/');
    ["live", "ready"].map(|question| format!("{path}/{question}"))
}

/// `GET {path}/live` and `GET {path}/ready`.
pub(crate) fn router(path: &str, services: Arc<Services>) -> Router {
    let [live_path, ready_path] = paths(path);
    Router::new()
        .route(&live_path, get(live))
        .route(&ready_path, get(ready))
        .with_state(services)
}

/// Whoever can answer this lives; a restart would not make it any better.
async fn live() -> Response {
    answer(StatusCode::OK, serde_json::json!({ "live": true }))
}

/// 200 where new connections are welcome, 503 with the reason where they are not.
async fn ready(State(services): State<Arc<Services>>) -> Response {
    services
        .was_asked_for_readiness
        .store(true, Ordering::Relaxed);
    match unready(&services) {
        None => answer(StatusCode::OK, serde_json::json!({ "ready": true })),
        Some(reason) => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            serde_json::json!({ "ready": false, "reason": reason }),
        ),
    }
}

/// Why new connections should go elsewhere, if they should.
fn unready(services: &Services) -> Option<String> {
    if services.is_draining() {
        return Some("the server is shutting down".to_owned());
    }
    match services.engine.broker.health() {
        Health::Flowing => None,
        Health::Stalled { reason, .. } | Health::Refused { reason, .. } => Some(reason),
    }
}

/// Whether deliveries have been missing for so long that a new connection had better be refused.
///
/// A load balancer has seen the readiness turn red by then; this is for the ones that do not look.
pub(crate) fn is_cut_off(services: &Services) -> bool {
    match services.engine.broker.health() {
        // Who only listens is served as well as ever.
        Health::Flowing | Health::Refused { .. } => false,
        Health::Stalled { since, .. } => Instant::now().duration_since(since) >= CUT_OFF_AFTER,
    }
}

fn answer(status: StatusCode, body: serde_json::Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 10 s: a failover of the store takes less, and its clients had better wait where they are.
const CUT_OFF_AFTER: Duration = Duration::from_secs(10);
