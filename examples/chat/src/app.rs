//! Puts the realtime server and the application around it together.

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Router, middleware};
use fanfare_server::auth::{CookieAuthorizer, Policy};
use fanfare_server::engine::Engine;
use fanfare_server::{BuildError, Handle, Server};
use tokio::sync::Mutex;

use crate::line::{self, Lines};
use crate::page::{self, ClientPackage};
use crate::store::Store;
use crate::{api, login, rooms};

/// What every request of the application works with.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) store: Arc<Store>,
    pub(crate) events: Handle,
    pub(crate) lines: Lines,
    /// Held while a message is stored and published, so that both happen in the same order.
    pub(crate) posting: Mutex<()>,
}

impl Chat {
    /// Starts a realtime server for the logins and rooms of a store.
    pub(crate) async fn start(
        store: Store,
        engine: Engine,
    ) -> Result<(Server, Arc<Self>), BuildError> {
        let store = Arc::new(store);
        let server = Server::builder()
            .engine(engine)
            .authorizer(authorizer(Arc::clone(&store)))
            .channel_rules(rooms::rules())
            .build()
            .await?;
        let chat = Self {
            store,
            events: server.handle(),
            lines: Lines::default(),
            posting: Mutex::default(),
        };
        Ok((server, Arc::new(chat)))
    }
}

/// The session cookie says who a connection belongs to, the rooms say what it may.
fn authorizer(store: Arc<Store>) -> Policy {
    let by_cookie = CookieAuthorizer::new(login::COOKIE, move |session| {
        let user = store.user_of(&session);
        async move { user.map(|user| login::identity(&user)).transpose() }
    });
    Policy::over(by_cookie)
        .with_subscribe(|caller, channel| async move { rooms::may_subscribe(&caller, &channel) })
        .with_publish(|caller, _, event| async move { rooms::may_publish(&caller, &event) })
}

/// Everything that is served: the page, the HTTP API, the browser client, the WebSocket and its auth endpoint.
pub(crate) fn router(server: &Server, chat: &Arc<Chat>, package: &ClientPackage) -> Router {
    let realtime = server.router().layer(middleware::from_fn_with_state(
        Arc::clone(chat),
        line::check,
    ));
    let api = Router::new()
        .route("/login", post(login::login))
        .route("/logout", post(login::logout))
        .route("/api/me", get(api::me))
        .route("/api/poke", post(api::poke))
        .route("/api/cut", post(api::cut))
        .route(
            "/api/rooms/{room}/messages",
            get(api::messages).post(api::post_message),
        )
        .with_state(Arc::clone(chat));
    page::router(package).merge(api).merge(realtime)
}
