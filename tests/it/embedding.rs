//! A server inside somebody's application.

use axum::routing::get;
use axum::{Extension, Router};
use fanfare_server::auth::{Identity, RequestAuthorizer};
use fanfare_server::protocol::UserId;
use fanfare_server::{BuildError, Server};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::{http, within};
use serde_json::json;
use tokio::net::TcpListener;

fn with_hello(server: &Server) -> Router {
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .merge(server.router())
}

/// The application's own route answers, and events flow.
async fn check_both_halves(server: &TestServer) {
    let answer = http::request(server.address, "GET", "/hello", &[], "").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    check_events(server, "/ws").await;
}

async fn check_events(server: &TestServer, path: &str) {
    let mut socket = Door::at(server.address).path(path).enter().await;
    socket.subscribe("news").await;
    let data = json!({ "title": "Dark mode" });
    server
        .events
        .broadcast("news", "new-feature", &data)
        .await
        .unwrap();
    let event = json!({ "type": "event", "channel": "news", "event": "new-feature", "data": data });
    assert_eq!(socket.receive().await, event);
}

#[tokio::test]
async fn the_router_is_merged_into_an_application_that_axum_serves() {
    let server = TestServer::start_in_axum(Server::builder(), with_hello).await;
    check_both_halves(&server).await;
}

#[tokio::test]
async fn an_application_is_served_with_the_servers_own_accept_loop() {
    let server = TestServer::start_app(Server::builder(), with_hello).await;
    check_both_halves(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn the_router_is_nested_below_a_path() {
    let nested = |server: &Server| Router::new().nest("/realtime", server.router());
    let server = TestServer::start_in_axum(Server::builder(), nested).await;
    check_events(&server, "/realtime/ws").await;
}

#[tokio::test]
async fn the_shutdown_future_ends_serve() {
    let server = Server::builder().build().await.unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let serving = tokio::spawn({
        let server = server.clone();
        async move {
            let shutdown = async move { stopped.await.unwrap() };
            server.serve(listener, shutdown).await
        }
    });
    let mut socket = Socket::connect(address).await;
    stop.send(()).unwrap();
    socket
        .expect(json!({ "type": "disconnect", "code": 4200, "reconnect": true }))
        .await;
    assert_eq!(socket.closed().await.0, 4200);
    within("the end of serve", serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_handles_shutdown_ends_serve() {
    let server = TestServer::start(Server::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let ((), (code, _)) = tokio::join!(server.events.shutdown(), socket.closed());
    assert_eq!(code, 4200);
    server.ended().await;
}

#[tokio::test]
async fn a_path_is_given_once() {
    for (path, health_path, is_taken) in [
        ("/health/live", "/health", true),
        ("/a/ready", "/a", true),
        ("/live", "/", true),
        ("/", "/", false),
        ("/a", "/a", false),
        ("/a", "/a/auth", false),
    ] {
        let server = Server::builder().path(path).health_path(health_path);
        match server.build().await {
            Ok(server) => {
                assert!(!is_taken, "{path} {health_path}");
                // Overlapping routes are a panic.
                drop(server.router());
            }
            Err(BuildError::PathTaken { path: named }) => assert!(is_taken && named == path),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn two_servers_in_one_application_have_nothing_in_common() {
    let chat = Server::builder().path("/chat").health_path("/chat/health");
    let chat = chat.build().await.unwrap();
    let routes = chat.router();
    let both = |server: &Server| server.router().merge(routes);
    let news = TestServer::start_app(Server::builder().path("/news/ws"), both).await;

    let mut reader = Door::at(news.address).path("/news/ws").enter().await;
    reader.subscribe("lobby").await;
    let mut guest = Door::at(news.address).path("/chat").enter().await;
    guest.subscribe("lobby").await;

    let chat_events = chat.handle();
    chat_events.broadcast("lobby", "said", "hi").await.unwrap();
    news.events.broadcast("lobby", "printed", &1).await.unwrap();
    reader.expect(json!({ "event": "printed" })).await;
    guest.expect(json!({ "event": "said" })).await;
    assert_eq!(chat_events.connection_count().await.unwrap(), 1);
    assert_eq!(news.events.connection_count().await.unwrap(), 1);

    // Each has its own end, and its own auth endpoint.
    let question = json!({ "socket_id": guest.id, "channel": "lobby" });
    let answer = http::post(news.address, "/chat/auth", &[], &question).await;
    assert_eq!(answer.status, 200);
    let ((), (code, _)) = tokio::join!(chat_events.shutdown(), guest.closed());
    assert_eq!(code, 4200);
    reader.is_quiet().await;
    let refused = Door::at(news.address).path("/chat").open().await;
    assert_eq!(refused.unwrap_err().status(), 503);
}

#[tokio::test]
async fn an_authorizer_sees_what_the_applications_layers_found_out() {
    #[derive(Clone)]
    struct CurrentUser(UserId);

    let authorizer = RequestAuthorizer::new(|request| {
        let user = request.extensions.get::<CurrentUser>().cloned();
        async move { Ok(user.map(|CurrentUser(id)| Identity::new(id))) }
    });
    let signed_in = CurrentUser(UserId::new("ann").unwrap());
    let app = |server: &Server| server.router().layer(Extension(signed_in));
    let server = TestServer::start_app(Server::builder().authorizer(authorizer), app).await;
    let mut socket = Door::at(server.address).open().await.unwrap();
    let connected = socket.greeted().await;
    assert_eq!(connected["user_id"], "ann");
}

#[tokio::test]
async fn a_plain_request_is_told_to_upgrade() {
    let server = TestServer::start(Server::builder()).await;
    let answer = http::request(server.address, "GET", "/ws", &[], "").await;
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert!(answer.json()["error"].is_string());
}

#[tokio::test]
async fn a_subprotocol_nobody_speaks_is_refused() {
    let server = TestServer::start(Server::builder()).await;
    let door = Door::at(server.address);
    let refused = door.clone().subprotocols("graphql-ws").open().await;
    assert_eq!(refused.unwrap_err().status(), 400);
    let chosen = door.subprotocols("graphql-ws, fanfare.v1").enter().await;
    assert_eq!(chosen.subprotocol.as_deref(), Some("fanfare.v1"));
}

#[tokio::test]
async fn a_server_that_cannot_work_is_not_built() {
    let outcome = Server::builder().path("ws").build().await;
    assert!(matches!(outcome, Err(BuildError::Path { path }) if path == "ws"));
    let outcome = Server::builder().secret("short").build().await;
    assert!(matches!(outcome, Err(BuildError::Secret(_))));
}
