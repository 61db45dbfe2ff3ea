//! Whose publishes a key recognises.

use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::suite;
use serde_json::json;

async fn publish(socket: &mut Socket, data: &str) {
    let command = json!({
        "type": "publish", "id": 2, "channel": "h-orders", "event": "n", "data": data, "key": "1",
    });
    socket.send(command).await;
}

async fn listen(socket: &mut Socket) {
    let command = json!({ "type": "subscribe", "id": 1, "channel": "h-orders" });
    socket.send(command).await;
    socket
        .expect(json!({ "type": "subscription_succeeded", "channel": "h-orders" }))
        .await;
}

/// Waits for an event with this payload; answers its offset.
async fn heard(socket: &mut Socket, data: &str) -> u64 {
    loop {
        let message = socket.receive().await;
        if message["type"] == "event" && message["data"] == data {
            return message["offset"].as_u64().unwrap();
        }
    }
}

#[tokio::test]
async fn a_key_that_another_anonymous_client_has_guessed_suppresses_nothing() {
    let server = TestServer::start(suite::builder()).await;
    let mut guesser = Socket::connect(server.address).await;
    let mut victim = Socket::connect(server.address).await;
    for socket in [&mut guesser, &mut victim] {
        listen(socket).await;
    }
    publish(&mut guesser, "guessed").await;
    assert_eq!(heard(&mut victim, "guessed").await, 1);
    publish(&mut victim, "meant").await;
    assert_eq!(heard(&mut guesser, "meant").await, 2);
    // The sender's own key counts: the marker comes next.
    publish(&mut victim, "again").await;
    let mut confirmed = 0;
    while confirmed < 2 {
        let message = victim.receive().await;
        assert_ne!(message["data"], "again");
        if message["type"] == "ok" {
            assert_eq!(message["position"]["offset"], 2, "{message}");
            confirmed += 1;
        }
    }
    let marker = server.events.broadcast("h-orders", "n", "marker").await;
    assert_eq!(marker.unwrap().position.unwrap().offset, 3);
}

#[tokio::test]
async fn the_key_of_a_user_counts_on_every_connection() {
    let server = TestServer::start(suite::builder()).await;
    let door = Door::at(server.address).bearer("user:ann");
    for data in ["once", "again"] {
        let mut socket = door.enter().await;
        listen(&mut socket).await;
        publish(&mut socket, data).await;
        socket
            .expect(json!({ "type": "ok", "id": 2, "position": { "offset": 1 } }))
            .await;
    }
}
