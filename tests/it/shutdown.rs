//! The end of a server: everybody is told, everything queued is sent, and nothing outlives it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use fanfare_server::{Limits, Server, ServerBuilder};
use fanfare_tests::raw::RawSocket;
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::{eventually, http, suite, within};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

fn with(change: impl FnOnce(&mut Limits)) -> ServerBuilder {
    let mut limits = Limits::default();
    change(&mut limits);
    Server::builder().limits(limits)
}

#[tokio::test]
async fn every_client_is_told_to_come_back_at_once() {
    let server = TestServer::start(Server::builder()).await;
    let mut sockets = Vec::new();
    for _ in 0..40 {
        sockets.push(Socket::connect(server.address).await);
    }
    let saying_goodbye = async {
        for socket in &mut sockets {
            let goodbye = json!({
                "type": "disconnect", "code": 4200, "reconnect": true, "after": 0,
                "reason": "the server is shutting down",
            });
            assert_eq!(socket.receive().await, goodbye);
            assert_eq!(socket.closed().await.0, 4200);
        }
    };
    tokio::join!(server.stop(), saying_goodbye);
}

#[tokio::test]
async fn what_was_accepted_before_is_delivered_before() {
    let server = TestServer::start(Server::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    socket.subscribe("orders").await;
    for number in 0..1_000 {
        server
            .events
            .broadcast("orders", "n", &number)
            .await
            .unwrap();
    }
    let reading = async {
        for number in 0..1_000 {
            socket.expect(json!({ "data": number })).await;
        }
        socket
            .expect(json!({ "type": "disconnect", "code": 4200 }))
            .await;
        assert_eq!(socket.closed().await.0, 4200);
    };
    tokio::join!(server.stop(), reading);
}

#[tokio::test]
async fn a_peer_that_does_not_read_does_not_hold_up_the_end() {
    let server = TestServer::start(with(|limits| {
        limits.shutdown_deadline = Duration::from_millis(500);
        limits.outbox_bytes_max = 64 << 20;
    }))
    .await;
    let mut stuck = RawSocket::connect_narrow(server.address).await;
    stuck
        .send_json(&json!({ "type": "subscribe", "channel": "big" }))
        .await;
    stuck.receive_json().await;
    let data = "x".repeat(500_000);
    for _ in 0..40 {
        server.events.broadcast("big", "n", &data).await.unwrap();
    }
    let begun = Instant::now();
    server.stop().await;
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(400),
        "it had the whole deadline: {took:?}"
    );
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(stuck.closed().await, None, "it was cut");
}

#[tokio::test]
async fn no_task_outlives_the_server() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let builder = suite::builder().limits({
        let mut limits = Limits::default();
        limits.shutdown_deadline = Duration::from_millis(500);
        limits
    });
    let server = TestServer::start(builder).await;
    let address = server.address;
    let mut sockets = Vec::new();
    for number in 0..10 {
        let door = Door::at(address).bearer(&format!("user:{number}"));
        let mut socket = door.enter().await;
        socket.subscribe("presence-room").await;
        socket.subscribe("h-orders").await;
        sockets.push(socket);
    }
    let _mute = RawSocket::connect(address).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    server.events.broadcast("h-orders", "e", &1).await.unwrap();
    assert!(metrics.num_alive_tasks() > before + 10);
    let handle = server.events.clone();
    server.stop().await;
    eventually("the last task to end", async || {
        metrics.num_alive_tasks() == before
    })
    .await;
    assert_eq!(handle.connection_count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_server_that_is_only_built_ends_too() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let server = Server::builder().build().await.unwrap();
    assert!(metrics.num_alive_tasks() > before);
    within("the end", server.handle().shutdown()).await;
    eventually("the last task to end", async || {
        metrics.num_alive_tasks() == before
    })
    .await;
}

#[tokio::test]
async fn new_handshakes_are_sent_elsewhere() {
    let server = TestServer::start_in_axum(Server::builder(), |server| server.router()).await;
    let mut guest = Socket::connect(server.address).await;
    let shutdown = tokio::spawn({
        let events = server.events.clone();
        async move { events.shutdown().await }
    });
    guest.expect(json!({ "type": "disconnect" })).await;
    // The guest has not gone yet, and nobody new comes in.
    let refused = Door::at(server.address).open().await.unwrap_err();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(guest.closed().await.0, 4200);
    within("the shutdown", shutdown).await.unwrap();
}

/// Far longer than a test: what waits for it does not happen.
const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_server_that_is_to_stop_first_tells_the_load_balancer_and_goes_on() {
    let server = TestServer::start(with(|limits| limits.drain_delay = Some(LONG))).await;
    let mut early = Socket::connect(server.address).await;
    early.subscribe("orders").await;
    let events = server.events.clone();
    let stopping = tokio::spawn(async move { events.shutdown().await });
    let address = server.address;
    eventually("readiness to end", async || {
        let answer = http::request(address, "GET", "/health/ready", &[], "").await;
        let expected = json!({ "ready": false, "reason": "the server is shutting down" });
        answer.status == 503 && answer.json() == expected
    })
    .await;
    let live = http::request(address, "GET", "/health/live", &[], "").await;
    assert_eq!(live.status, 200);
    // What the load balancer sends meanwhile is taken, and everybody is served.
    let mut late = Socket::connect(address).await;
    late.subscribe("orders").await;
    server.events.broadcast("orders", "e", &1).await.unwrap();
    for socket in [&mut early, &mut late] {
        socket.expect(json!({ "event": "e" })).await;
        socket.is_quiet().await;
    }
    stopping.abort();
}

/// A server that sends one connection per second elsewhere, for as long as it takes, and a minute's worth of connections.
async fn sixty_that_leave_slowly() -> (TestServer, Vec<Socket>) {
    let server = TestServer::start(with(|limits| {
        limits.drain_per_second = 1;
        limits.drain_spread = LONG;
    }))
    .await;
    let mut sockets = Vec::new();
    for _ in 0..60 {
        let mut socket = Socket::connect(server.address).await;
        socket.subscribe("orders").await;
        sockets.push(socket);
    }
    (server, sockets)
}

/// Waits until one of the sockets is told to leave.
async fn first_turn(sockets: &mut [Socket]) -> serde_json::Value {
    let turns = sockets.iter_mut().map(|socket| Box::pin(socket.receive()));
    within("the first turn", futures_util::future::select_all(turns))
        .await
        .0
}

#[tokio::test]
async fn connections_are_sent_away_one_after_the_other_and_served_until_then() {
    let (server, mut sockets) = sixty_that_leave_slowly().await;
    let events = server.events.clone();
    let stopping = tokio::spawn(async move { events.shutdown().await });
    let goodbye = json!({
        "type": "disconnect", "code": 4200, "reconnect": true, "after": 0,
        "reason": "the server is shutting down",
    });
    assert_eq!(first_turn(&mut sockets).await, goodbye);
    server.events.broadcast("orders", "e", &1).await.unwrap();
    let mut served = 0;
    for socket in &mut sockets {
        if let Some(message) = within("a message or the end", socket.next()).await
            && message["event"] == "e"
        {
            served += 1;
        }
    }
    // A turn a second: on a slow machine a few more have come than the first.
    assert!(served >= 40, "{served} of 60 were served");
    stopping.abort();
}

#[tokio::test]
async fn the_end_does_not_wait_for_turns_that_nobody_takes() {
    let (server, mut sockets) = sixty_that_leave_slowly().await;
    let stopping = tokio::spawn(server.stop());
    first_turn(&mut sockets).await;
    for socket in sockets {
        socket.vanish();
    }
    within("the end", stopping).await.unwrap();
}

#[tokio::test]
async fn a_second_call_waits_for_the_same_end() {
    let server = TestServer::start(Server::builder()).await;
    let mut socket = Socket::connect(server.address).await;
    let (one, other) = (server.events.clone(), server.events.clone());
    let both = async { tokio::join!(one.shutdown(), other.shutdown()) };
    let (_, (code, _)) = tokio::join!(within("both ends", both), socket.closed());
    assert_eq!(code, 4200);
    within("an end long past", server.events.shutdown()).await;
    server.ended().await;
}

#[tokio::test]
async fn a_request_under_way_is_answered() {
    let begun = Arc::new(Notify::new());
    let may_end = Arc::new(Notify::new());
    let app = {
        let (begun, may_end) = (Arc::clone(&begun), Arc::clone(&may_end));
        move |server: &Server| {
            let slow = get(move || async move {
                begun.notify_one();
                may_end.notified().await;
                "done"
            });
            Router::new().route("/slow", slow).merge(server.router())
        }
    };
    let server = TestServer::start_app(Server::builder(), app).await;
    let address = server.address;
    let request =
        tokio::spawn(async move { http::request(address, "GET", "/slow", &[], "").await });
    within("the request to begin", begun.notified()).await;
    let mut socket = Socket::connect(address).await;
    let stopping = tokio::spawn(server.stop());
    // The sessions do not wait for the request.
    socket
        .expect(json!({ "type": "disconnect", "code": 4200 }))
        .await;
    assert_eq!(socket.closed().await.0, 4200);
    may_end.notify_one();
    assert_eq!(within("the answer", request).await.unwrap().body, b"done");
    within("the end", stopping).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_of_a_browser_does_not_hold_up_the_end() {
    let server = TestServer::start(Server::builder()).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let request = b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n";
    idle.write_all(request).await.unwrap();
    let mut answer = vec![0; 4_096];
    let count = within("an answer", idle.read(&mut answer)).await.unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 404"));
    let begun = Instant::now();
    server.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(within("the end", idle.read(&mut answer)).await.unwrap(), 0);
}
