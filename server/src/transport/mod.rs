//! Bytes to frames: the doors of the server. Transports know sessions; sessions know no transport.

use axum::Json;
use axum::response::{IntoResponse, Response};
use fanfare_protocol::Code;
use http::StatusCode;

pub(crate) mod accept;
pub(crate) mod websocket;

/// An HTTP answer that says no: `{"error","code"}`.
pub(crate) fn error_body(status: StatusCode, code: Code, error: &str) -> Response {
    (
        status,
        Json(serde_json::json!({ "error": error, "code": code.number() })),
    )
        .into_response()
}
