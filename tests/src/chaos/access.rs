//! Who may do what: the tokens that clients show, and the rules that nodes and publishers share.

#![expect(
    clippy::unwrap_used,
    reason = "a token that cannot be made fails the run"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare_server::{ChannelRule, ChannelRules};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

/// The secret that tokens are signed with. It protects nothing but a test.
pub const SECRET: &str = "the secret of the chaos suite that is no secret";

/// The rules as options of the server.
pub const RULES: [&str; 4] = [
    "h-=history:300,ttl:5m,publish",
    "l-=publish",
    "presence-=open",
    "private-=open",
];

/// The same for publishers.
#[must_use]
pub fn rules() -> ChannelRules {
    let kept = ChannelRule::default()
        .with_history(300, Duration::from_mins(5))
        .with_client_publish();
    ChannelRules::new()
        .with("h-", kept)
        .with("l-", ChannelRule::default().with_client_publish())
}

/// A token that counts for an hour.
#[must_use]
pub fn token(user: &str) -> String {
    token_ending(user, seconds_now() + 3_600)
}

/// A token that counts for so many more seconds, at most 29.
///
/// It has ended by its own account: servers forgive 30 s.
#[must_use]
pub fn token_about_to_end(user: &str, seconds: u64) -> String {
    token_ending(user, seconds_now() + seconds - LEEWAY_SECONDS)
}

fn token_ending(user: &str, end: u64) -> String {
    let claims = json!({ "sub": user, "exp": end });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

fn seconds_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// 30: what servers forgive by default when clocks differ.
const LEEWAY_SECONDS: u64 = 30;
