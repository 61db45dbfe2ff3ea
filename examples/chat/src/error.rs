//! What the HTTP API says when it says no.

use axum::Json;
use axum::response::{IntoResponse, Response};
use fanfare_server::PublishError;
use http::StatusCode;
use serde_json::json;

/// A status and a sentence for the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    pub(crate) fn bad(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// Something that is not the caller's fault; the log has the cause, the caller may try again.
    pub(crate) fn unavailable(error: &dyn std::error::Error) -> Self {
        tracing::warn!(error = sentence(error), "request failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily unavailable, try again",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.reason }))).into_response()
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        Self::unavailable(&error)
    }
}

/// An error with all its causes.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
