//! Sign in with a form; the session cookie then also says who a realtime connection belongs to.
//!
//! `cargo run -p sessions`, then open the address it prints in two windows.

use std::net::SocketAddr;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use fanfare_server::auth::{Denied, Grant, Identity, Policy, RequestAuthorizer};
use fanfare_server::protocol::{ChannelKind, RawJson, UserId};
use fanfare_server::{BuildError, Handle, Server};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tower_sessions::cookie::SameSite;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    let address = std::env::args().nth(1);
    let address: SocketAddr = address.as_deref().unwrap_or("127.0.0.1:8001").parse()?;
    let listener = TcpListener::bind(address).await?;
    let (server, app) = application().await?;
    tracing::info!("open http://{}", listener.local_addr()?);
    let interrupt = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    server.serve_app(listener, app, interrupt).await?;
    Ok(())
}

/// The realtime server and the application around it. The session layer is outside of both, so that handlers and authorizer
/// see the same session.
async fn application() -> Result<(Server, Router), BuildError> {
    let server = Server::builder()
        .authorizer(authorizer())
        .allow_anonymous() // The page is open to visitors; no channel is.
        .build()
        .await?;
    // `with_secure(false)` is for http://127.0.0.1 alone: leave it out behind TLS.
    let sessions = SessionManagerLayer::new(MemoryStore::default())
        .with_name("session")
        .with_same_site(SameSite::Lax)
        .with_secure(false);
    let app = Router::new()
        .route("/", get(page))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/remind", post(remind))
        .with_state(server.handle())
        .merge(server.router())
        .layer(sessions);
    Ok((server, app))
}

/// Who is signed in, and what they may: `private-user.<name>` is theirs alone, presence channels are for everybody who is
/// signed in.
fn authorizer() -> Policy {
    let signed_in = RequestAuthorizer::new(|request| {
        let session = request.extensions.get::<Session>().cloned();
        async move {
            let Some(session) = session else {
                return Ok(None);
            };
            let user = user_of(&session).await;
            let user = user.map_err(|_| Denied::unavailable("the session store failed"))?;
            Ok(user.map(|user| {
                let info = RawJson::encode(&json!({ "name": user.as_str() }));
                Identity::new(user).with_info(info.unwrap_or_else(|_| RawJson::null()))
            }))
        }
    });
    Policy::over(signed_in).with_subscribe(|caller, channel| async move {
        let user = caller.user()?;
        match channel.kind() {
            ChannelKind::Public | ChannelKind::Presence => Ok(Grant::default()),
            _ if channel.without_prefix() == format!("user.{user}") => Ok(Grant::default()),
            _ => Err(Denied::refused("access denied")),
        }
    })
}

async fn user_of(session: &Session) -> Result<Option<UserId>, tower_sessions::session::Error> {
    let name = session.get::<String>(USER).await?;
    Ok(name.and_then(|name| UserId::new(&name).ok()))
}

async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

/// Signs in whoever gives a name. A real application checks a password here.
async fn login(session: Session, Form(login): Form<Login>) -> Response {
    if UserId::new(&login.name).is_err() {
        return (StatusCode::BAD_REQUEST, "this is not a name").into_response();
    }
    // A new id: whoever knew the one before shall not be signed in with it.
    let stored = async {
        session.cycle_id().await?;
        session.insert(USER, &login.name).await
    };
    match stored.await {
        Ok(()) => Redirect::to("/").into_response(),
        Err(error) => failure(&error),
    }
}

/// Signs out, and ends the user's realtime connections: they were opened with the session that is gone.
async fn logout(State(events): State<Handle>, session: Session) -> Response {
    let ended = async {
        if let Some(user) = user_of(&session).await? {
            // One process: there is no other node that could fail to answer.
            let _ = events.disconnect_user(&user).await;
        }
        session.flush().await
    };
    match ended.await {
        Ok(()) => Redirect::to("/").into_response(),
        Err(error) => failure(&error),
    }
}

/// Sends the user a notification, wherever they are connected.
async fn remind(State(events): State<Handle>, session: Session) -> Response {
    let user = match user_of(&session).await {
        Ok(Some(user)) => user,
        Ok(None) => return (StatusCode::UNAUTHORIZED, "sign in first").into_response(),
        Err(error) => return failure(&error),
    };
    let reminder = json!({ "text": format!("{user}, drink some water") });
    match events.send_to_user(&user, "reminder", &reminder).await {
        Ok(_) => StatusCode::ACCEPTED.into_response(),
        Err(error) => failure(&error),
    }
}

fn failure(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "request failed");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// Where the session keeps the user's name.
const USER: &str = "user";

#[cfg(test)]
mod tests;
