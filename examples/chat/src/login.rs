//! Logins: pick a name and a team. A real application checks a password here.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::response::{AppendHeaders, IntoResponse};
use cookie::{Cookie, SameSite};
use fanfare_server::auth::{Denied, Identity};
use fanfare_server::protocol::{RawJson, UserId};
use http::header::{COOKIE as COOKIE_HEADER, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::Chat;
use crate::error::{Refusal, sentence};
use crate::rooms::{Claims, Team};
use crate::store::Store;

/// The cookie with the session's id.
pub(crate) const COOKIE: &str = "chat_session";

/// Somebody who is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    /// The id, made from the name.
    #[serde(with = "crate::store::user_id")]
    pub(crate) id: UserId,
    /// The name as it was written.
    pub(crate) name: String,
    /// The team.
    pub(crate) team: Team,
}

impl<S: AsRef<Chat> + Send + Sync> FromRequestParts<S> for User {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        user_of(&state.as_ref().store, &parts.headers)
            .ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "sign in first"))
    }
}

/// What the realtime server knows about a user: members of a room see name and team, the team decides about rooms.
pub(crate) fn identity(user: &User) -> Result<Identity, Denied> {
    let unavailable = |error: serde_json::Error| Denied::unavailable(error.to_string());
    let info = json!({ "name": user.name, "team": user.team });
    let info = RawJson::encode(&info).map_err(unavailable)?;
    let claims = RawJson::encode(&Claims { team: user.team }).map_err(unavailable)?;
    Ok(Identity::new(user.id.clone())
        .with_info(info)
        .with_claims(claims))
}

/// The user of a request's session.
pub(crate) fn user_of(store: &Store, headers: &HeaderMap) -> Option<User> {
    session_of(headers).and_then(|session| store.user_of(&session))
}

/// What the page sends to sign in.
#[derive(Debug, Deserialize)]
pub(crate) struct Login {
    name: String,
    team: Team,
}

/// Signs in whoever gives a name.
pub(crate) async fn login(
    State(chat): State<Arc<Chat>>,
    Json(login): Json<Login>,
) -> Result<impl IntoResponse, Refusal> {
    let user = user_named(&login.name, login.team)?;
    let session = format!("{:032x}", rand::random::<u128>());
    let signed_in = chat.store.sign_in(session.clone(), user.clone());
    signed_in.map_err(|error| Refusal::unavailable(&error))?;
    Ok((set_cookie(&session), Json(user)))
}

/// Signs out and ends the user's connections: they were opened with the session that is gone.
pub(crate) async fn logout(
    State(chat): State<Arc<Chat>>,
    user: User,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    if let Some(session) = session_of(&headers) {
        let signed_out = chat.store.sign_out(&session);
        signed_out.map_err(|error| Refusal::unavailable(&error))?;
    }
    if let Err(error) = chat.events.disconnect_user(&user.id).await {
        // The session is gone; a connection on a server that did not answer ends with it, or with its line.
        tracing::warn!(user = %user.id, error = sentence(&error), "not all connections are ended");
    }
    Ok((set_cookie(""), StatusCode::NO_CONTENT))
}

fn session_of(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(COOKIE_HEADER)
        .iter()
        // One pair after the other: another script's cookie in another encoding must not hide this one.
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair).ok())
        .filter_map(|pair| Cookie::parse(pair).ok())
        .find(|cookie| cookie.name() == COOKIE)
        .map(|cookie| cookie.value().to_owned())
}

/// `Secure` is missing because the demo is at http://127.0.0.1: add it behind TLS.
fn set_cookie(session: &str) -> AppendHeaders<[(http::HeaderName, String); 1]> {
    let cookie = Cookie::build((COOKIE, session))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax);
    AppendHeaders([(SET_COOKIE, cookie.to_string())])
}

/// `Ann Lee` is `ann-lee`: the same name is the same user, however it is written.
fn user_named(name: &str, team: Team) -> Result<User, Refusal> {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_good = |character: char| character.is_alphanumeric() || " .'-".contains(character);
    if name.is_empty() || name.chars().count() > NAME_MAX || !name.chars().all(is_good) {
        let reason = format!("a name has 1 to {NAME_MAX} letters, digits, dots or dashes");
        return Err(Refusal::bad(reason));
    }
    let id = name.to_lowercase().replace(' ', "-");
    let id = UserId::new(&id).map_err(|error| Refusal::bad(error.to_string()))?;
    Ok(User { id, name, team })
}

/// 24 characters: fits a list of members.
const NAME_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ids() {
        #[track_caller]
        fn check(name: &str, expect: Option<(&str, &str)>) {
            let user = user_named(name, Team::Design).ok();
            let found = user
                .as_ref()
                .map(|user| (user.id.as_str(), user.name.as_str()));
            assert_eq!(found, expect, "{name:?}");
        }
        check("Ann", Some(("ann", "Ann")));
        check("  Ann   Lee ", Some(("ann-lee", "Ann Lee")));
        check("Žofie", Some(("žofie", "Žofie")));
        check("", None);
        check("   ", None);
        check("<b>", None);
        check("a@b", None);
        check(&"x".repeat(24), Some((&"x".repeat(24), &"x".repeat(24))));
        check(&"x".repeat(25), None);
    }
}
