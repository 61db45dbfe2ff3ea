//! The line of a user, which can be cut: connections end without a word and new ones are refused for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fanfare_server::protocol::UserId;
use http::StatusCode;

use crate::app::Chat;
use crate::login;

/// Whose line is cut, and until when.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    cut: Mutex<HashMap<UserId, Instant>>,
}

impl Lines {
    /// Cuts a user's line.
    pub(crate) fn cut(&self, user: &UserId, duration: Duration, now: Instant) {
        let mut cut = self.lock();
        cut.retain(|_, until| *until > now);
        cut.insert(user.clone(), now + duration);
    }

    /// Whether nothing gets through to a user.
    pub(crate) fn is_cut(&self, user: &UserId, now: Instant) -> bool {
        self.lock().get(user).is_some_and(|until| *until > now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Instant>> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses what comes through a line that is cut.
pub(crate) async fn check(State(chat): State<Arc<Chat>>, request: Request, next: Next) -> Response {
    let user = login::user_of(&chat.store, request.headers());
    if user.is_some_and(|user| chat.lines.is_cut(&user.id, Instant::now())) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the line is cut").into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_for_one_user_and_for_a_while() {
        let (ann, bob) = (UserId::new("ann").unwrap(), UserId::new("bob").unwrap());
        let lines = Lines::default();
        let now = Instant::now();
        let seconds = Duration::from_secs;
        lines.cut(&ann, seconds(5), now);
        assert!(lines.is_cut(&ann, now + seconds(4)));
        assert!(!lines.is_cut(&bob, now + seconds(4)));
        assert!(!lines.is_cut(&ann, now + seconds(5)));
        lines.cut(&bob, seconds(5), now + seconds(6));
        assert_eq!(lines.lock().len(), 1, "what is over is forgotten");
    }
}
