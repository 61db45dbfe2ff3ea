//! The server that the browser suites run against: generous rules, tokens anybody can write, and levers over HTTP.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use fanfare_server::auth::{Authorizer, Caller, Credentials, Denied, Grant, Identity, Origins};
use fanfare_server::protocol::{ChannelKind, ChannelName, RawJson, SocketId, UserId};
use fanfare_server::{ChannelRule, ChannelRules, Handle, Server, ServerBuilder};
use serde::Deserialize;
use serde_json::json;
use tower_http::cors::CorsLayer;

use crate::proxy::Proxy;

/// Takes any token of the form `user:<id>` or `user:<id>:<milliseconds it lives>`, and knows channels by their names.
///
/// `private-ok.*` is for every user, `private-no.*` for nobody, presence channels are for every user, personal and other
/// private channels for nobody, public channels for everybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct SuiteAuthorizer;

#[async_trait]
impl Authorizer for SuiteAuthorizer {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        let token = credentials.token.ok_or(Denied::NoCredentials)?;
        identity(token.expose()).ok_or_else(|| Denied::refused("the token is not user:<id>"))
    }

    async fn subscribe(&self, caller: &Caller, channel: &ChannelName) -> Result<Grant, Denied> {
        match channel.kind() {
            ChannelKind::Public => Ok(Grant::default()),
            ChannelKind::Presence => caller.user().map(|_| Grant::default()),
            ChannelKind::Private if channel.as_str().starts_with("private-ok.") => {
                caller.user().map(|_| Grant::default())
            }
            _ => Err(Denied::refused("access denied")),
        }
    }

    fn reads_cookies(&self) -> bool {
        false
    }
}

fn identity(token: &str) -> Option<Identity> {
    let rest = token.strip_prefix("user:")?;
    let (user, lives) = match rest.split_once(':') {
        Some((user, ms)) => (user, Some(Duration::from_millis(ms.parse().ok()?))),
        None => (rest, None),
    };
    let name = RawJson::encode(&json!({ "name": user })).ok()?;
    let identity = Identity::new(UserId::new(user).ok()?).with_info(name);
    Some(match lives {
        Some(lives) => identity.expiring_at(SystemTime::now() + lives),
        None => identity,
    })
}

/// `h-*` keeps 100 messages for a minute, can be rewound and published to; `open-*` can be published to; members of
/// `presence-own-*` may change their info.
#[must_use]
pub fn rules() -> ChannelRules {
    let history = ChannelRule::default()
        .with_history(100, Duration::from_secs(60))
        .with_rewind(100)
        .with_client_publish();
    let open = ChannelRule::default().with_client_publish();
    let own = ChannelRule::default().with_presence_update();
    ChannelRules::new()
        .with("h-", history)
        .with("open-", open)
        .with("presence-own-", own)
}

/// A server with these rules, open to anonymous connections and to pages of any origin.
pub fn builder() -> ServerBuilder {
    Server::builder()
        .authorizer(SuiteAuthorizer)
        .allow_anonymous()
        .origins(Origins::any())
        .channel_rules(rules())
}

/// The server's routes and the levers:
///
/// - `GET /test/health`
/// - `POST /test/publish` `{channel, event, data}`: answers `{position?}`
/// - `POST /test/drop` `{user?, socket_id?}`: cuts connections without a word (all of them when neither is given), so that
///   their clients come back; answers `{dropped}`
/// - `POST /test/disconnect` `{user}`: ends connections for good; answers `{disconnected}`
/// - `POST /test/unsubscribe` `{socket_id, channel}`: ends a subscription from the server
/// - `POST /test/subscribers` `{channel}`: answers `{count}`
///
/// `proxy` has to be what clients connect through, or nothing can be cut.
pub fn app(server: &Server, proxy: Arc<Proxy>) -> Router {
    let levers = Router::new()
        .route("/test/health", get(|| async { "ok" }))
        .route("/test/publish", post(publish))
        .route("/test/drop", post(drop_connections))
        .route("/test/disconnect", post(disconnect))
        .route("/test/unsubscribe", post(unsubscribe))
        .route("/test/subscribers", post(subscribers))
        .layer(CorsLayer::very_permissive())
        .with_state(Levers {
            events: server.handle(),
            proxy,
        });
    server.router().merge(levers)
}

#[derive(Clone)]
struct Levers {
    events: Handle,
    proxy: Arc<Proxy>,
}

#[derive(Deserialize)]
struct PublishOrder {
    channel: String,
    event: String,
    data: serde_json::Value,
}

#[derive(Deserialize)]
struct DropOrder {
    user: Option<String>,
    socket_id: Option<String>,
}

#[derive(Deserialize)]
struct DisconnectOrder {
    user: String,
}

#[derive(Deserialize)]
struct UnsubscribeOrder {
    socket_id: String,
    channel: String,
}

#[derive(Deserialize)]
struct SubscribersQuestion {
    channel: String,
}

/// What a lever says when it cannot be pulled: 400 and a sentence.
struct Refused(String);

impl axum::response::IntoResponse for Refused {
    fn into_response(self) -> Response {
        (axum::http::StatusCode::BAD_REQUEST, self.0).into_response()
    }
}

impl<E: std::error::Error> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

type Answer = Result<Json<serde_json::Value>, Refused>;

async fn publish(State(levers): State<Levers>, Json(order): Json<PublishOrder>) -> Answer {
    let published = levers
        .events
        .broadcast(order.channel.as_str(), order.event.as_str(), &order.data)
        .await?;
    let position = published.position.map(|position| {
        json!({
            "epoch": position.epoch.to_string(),
            "offset": position.offset,
            "tag": position.tag.to_string(),
        })
    });
    Ok(Json(json!({ "position": position })))
}

async fn drop_connections(State(levers): State<Levers>, Json(order): Json<DropOrder>) -> Answer {
    let dropped = match (order.user, order.socket_id) {
        (None, None) => levers.proxy.cut_all(),
        (user, socket_id) => {
            let mut ids: Vec<String> = socket_id.into_iter().collect();
            if let Some(user) = user {
                let connections = levers.events.connections_of(&UserId::new(&user)?).await?;
                ids.extend(connections.iter().map(SocketId::to_string));
            }
            levers.proxy.cut(&ids)
        }
    };
    Ok(Json(json!({ "dropped": dropped })))
}

async fn disconnect(State(levers): State<Levers>, Json(order): Json<DisconnectOrder>) -> Answer {
    let user = UserId::new(&order.user)?;
    let disconnected = levers.events.disconnect_user(&user).await?;
    Ok(Json(json!({ "disconnected": disconnected })))
}

async fn unsubscribe(State(levers): State<Levers>, Json(order): Json<UnsubscribeOrder>) -> Answer {
    let socket: SocketId = order.socket_id.parse()?;
    levers
        .events
        .unsubscribe(socket, order.channel.as_str())
        .await?;
    Ok(Json(json!({})))
}

async fn subscribers(
    State(levers): State<Levers>,
    Json(question): Json<SubscribersQuestion>,
) -> Answer {
    let count = levers
        .events
        .subscriber_count(question.channel.as_str())
        .await?;
    Ok(Json(json!({ "count": count })))
}
