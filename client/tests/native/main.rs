//! The tokio client over real sockets, against a server that says exactly what a test lets it say.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod peer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_client::native::{ConnectError, NativeClient, NativeOptions};
use fanfare_client::{
    Backoff, ChannelAuthReply, ChannelState, ClientError, ConnectionState, Event, GapReason,
    Options, SubscribeOptions, TokenReason, TokenReply,
};
use fanfare_protocol::{
    ChannelName, Code, Command, EventName, Position, RawJson, Reply, ServerMessage,
    SubscriptionError, SubscriptionSucceeded, Unsubscribed,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use peer::{Listener, Peer, at, event_at};

/// Long enough for a machine that is busy with everything else.
const PATIENCE: Duration = Duration::from_secs(20);

fn options() -> NativeOptions {
    let backoff = Backoff {
        min: 1,
        max: 10,
        reset_after: 5_000,
    };
    NativeOptions::default().with_machine(Options::default().with_backoff(backoff))
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn typing() -> EventName {
    EventName::new("typing").unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .expect("within the patience")
}

/// A client and the server's end of its greeted connection.
async fn pair(options: NativeOptions) -> (NativeClient, Listener, Peer) {
    let listener = Listener::bind().await;
    let client = NativeClient::connect(&listener.url(), options).unwrap();
    let peer = soon(listener.greet()).await;
    soon(client.connected()).await.unwrap();
    (client, listener, peer)
}

/// Confirms the subscribe command that comes next; gives the position that it asked for.
async fn confirm(peer: &mut Peer, position: Position, missed: &[u64]) -> Option<Position> {
    let request = soon(peer.command()).await;
    let Command::Subscribe(subscribe) = request.command else {
        panic!("{:?}", request.command);
    };
    let events = missed.iter();
    let reply = SubscriptionSucceeded {
        id: request.id,
        position: Some(position),
        recovered: subscribe.since.is_some(),
        events: events
            .map(|&offset| event_at(subscribe.channel.as_str(), offset))
            .collect(),
        channel: subscribe.channel,
        presence: None,
        user_id: None,
    };
    peer.say(&[ServerMessage::SubscriptionSucceeded(reply)])
        .await;
    subscribe.since
}

/// The offset of the next message; states on the way are skipped.
async fn next_offset(subscription: &mut fanfare_client::native::Subscription) -> u64 {
    loop {
        match soon(subscription.recv()).await {
            Some(Event::Message(message)) => return message.position.unwrap().offset,
            Some(Event::Channel(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_batch_is_received_in_order() {
    let (client, _listener, mut peer) = pair(options()).await;
    assert!(peer.offered.contains("fanfare.v1.batch"));
    let subscribe = client.subscribe(channel("orders"), SubscribeOptions::default());
    let mut orders = soon(subscribe).await.unwrap();
    confirm(&mut peer, at(0), &[]).await;
    soon(orders.subscribed()).await.unwrap();
    let batch: Vec<_> = (1..=5)
        .map(|offset| ServerMessage::Event(event_at("orders", offset)))
        .collect();
    peer.say(&batch).await;
    for offset in 1..=5 {
        assert_eq!(next_offset(&mut orders).await, offset);
    }
}

#[tokio::test]
async fn options_count_right_after_the_last_subscription_was_dropped() {
    let (client, _listener, mut peer) = pair(options()).await;
    // The driver hears of a drop and of an order in any sequence.
    for _ in 0..20 {
        let subscribe = client.subscribe(channel("orders"), SubscribeOptions::default());
        let orders = soon(subscribe).await.unwrap();
        confirm(&mut peer, at(3), &[]).await;
        soon(orders.subscribed()).await.unwrap();
        drop(orders);
        let options = SubscribeOptions::default().since(at(1));
        let orders = soon(client.subscribe(channel("orders"), options)).await;
        let orders = orders.unwrap();
        leave(&mut peer).await;
        assert_eq!(confirm(&mut peer, at(3), &[2, 3]).await, Some(at(1)));
        soon(orders.subscribed()).await.unwrap();
        drop(orders);
        leave(&mut peer).await;
    }
}

/// Confirms the unsubscribe command that comes next.
async fn leave(peer: &mut Peer) {
    let request = soon(peer.command()).await;
    let Command::Unsubscribe { channel } = request.command else {
        panic!("{:?}", request.command);
    };
    let reply = Unsubscribed {
        id: request.id,
        channel,
        code: 1000,
        reason: String::new(),
    };
    peer.say(&[ServerMessage::Unsubscribed(reply)]).await;
}

#[tokio::test]
async fn a_publish_is_answered() {
    let (client, _listener, mut peer) = pair(options()).await;
    let sender = client.clone();
    let publish = tokio::spawn(async move {
        sender
            .publish(&channel("orders"), &typing(), RawJson::trusted("{\"a\":1}"))
            .await
    });
    let request = soon(peer.command()).await;
    let Command::Publish { data, key, .. } = request.command else {
        panic!("{:?}", request.command);
    };
    assert_eq!(data.as_str(), "{\"a\":1}");
    assert!(key.is_some());
    peer.say(&[ServerMessage::Ok(Reply {
        position: Some(at(7)),
        ..Reply::new(request.id.unwrap())
    })])
    .await;
    assert_eq!(soon(publish).await.unwrap(), Ok(Some(at(7))));
}

#[tokio::test]
async fn a_cut_connection_comes_back_without_a_gap() {
    let (client, listener, mut peer) = pair(options()).await;
    let subscribe = client.subscribe(channel("orders"), SubscribeOptions::default());
    let mut orders = soon(subscribe).await.unwrap();
    confirm(&mut peer, at(0), &[]).await;
    peer.say(&[ServerMessage::Event(event_at("orders", 1))])
        .await;
    assert_eq!(next_offset(&mut orders).await, 1);
    for round in 1..=5 {
        drop(peer);
        peer = soon(listener.greet()).await;
        let first = round * 2;
        let since = confirm(&mut peer, at(first + 1), &[first, first + 1]).await;
        assert_eq!(since, Some(at(first - 1)));
        assert_eq!(next_offset(&mut orders).await, first);
        assert_eq!(next_offset(&mut orders).await, first + 1);
    }
    let status = soon(client.connected()).await.unwrap();
    assert!(status.resumed);
}

#[tokio::test]
async fn callbacks_give_tokens_for_the_connection_and_for_channels() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let options = options()
        .with_token_provider(move |reason| {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(reason, TokenReason::Connect);
            async { TokenReply::Token("secret".to_owned()) }
        })
        .with_channel_auth(|request| async move {
            ChannelAuthReply::Granted {
                auth: format!("{}:{}", request.channel, request.socket_id),
                channel_data: None,
            }
        });
    let listener = Listener::bind().await;
    let client = NativeClient::connect(&listener.url(), options).unwrap();
    let mut peer = soon(listener.greet()).await;
    let request = soon(peer.command()).await;
    assert_eq!(
        request.command,
        Command::Authenticate {
            token: "secret".to_owned()
        }
    );
    peer.say(&[ServerMessage::Ok(Reply::new(request.id.unwrap()))])
        .await;
    soon(client.connected()).await.unwrap();
    let subscribe = client.subscribe(channel("private-a"), SubscribeOptions::default());
    let _private = soon(subscribe).await.unwrap();
    let Command::Subscribe(subscribe) = soon(peer.command()).await.command else {
        panic!("a subscribe command is next");
    };
    let auth = format!("private-a:{}", peer::socket_id());
    assert_eq!(subscribe.auth, Some(auth));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_channel_is_left_with_its_last_listener() {
    let (client, _listener, mut peer) = pair(options()).await;
    let first = client.subscribe(channel("orders"), SubscribeOptions::default());
    let mut first = soon(first).await.unwrap();
    confirm(&mut peer, at(0), &[]).await;
    soon(first.subscribed()).await.unwrap();
    let second = client.subscribe(channel("orders"), SubscribeOptions::default());
    let mut second = soon(second).await.unwrap();
    soon(second.subscribed()).await.unwrap();
    peer.say(&[ServerMessage::Event(event_at("orders", 1))])
        .await;
    assert_eq!(next_offset(&mut first).await, 1);
    assert_eq!(next_offset(&mut second).await, 1);
    drop(first);
    // A fence: what the client sends next is the marker, not an unsubscribe.
    let marker = tokio::spawn({
        let client = client.clone();
        async move { client.presence(&channel("marker")).await }
    });
    let request = soon(peer.command()).await;
    assert!(matches!(request.command, Command::Presence { .. }));
    drop(second);
    let request = soon(peer.command()).await;
    assert_eq!(
        request.command,
        Command::Unsubscribe {
            channel: channel("orders")
        }
    );
    marker.abort();
}

#[tokio::test]
async fn a_listener_that_does_not_receive_loses_events_and_hears_of_it() {
    let (client, _listener, mut peer) = pair(options().with_subscription_events_max(3)).await;
    let subscribe = client.subscribe(channel("orders"), SubscribeOptions::default());
    let mut orders = soon(subscribe).await.unwrap();
    confirm(&mut peer, at(0), &[]).await;
    let batch: Vec<_> = (1..=10)
        .map(|offset| ServerMessage::Event(event_at("orders", offset)))
        .collect();
    peer.say(&batch).await;
    // Whatever was sent before an answered request has been taken in.
    fence(&client, &mut peer).await;
    // Two states and one message fit.
    assert_eq!(next_offset(&mut orders).await, 1);
    let Some(Event::Gap(gap)) = soon(orders.recv()).await else {
        panic!("a gap is next");
    };
    assert_eq!((gap.from, gap.to), (Some(2), Some(10)));
    assert_eq!(gap.reason, GapReason::Overflow);
    peer.say(&[ServerMessage::Event(event_at("orders", 11))])
        .await;
    assert_eq!(next_offset(&mut orders).await, 11);
}

/// Waits until the client has taken in everything that the peer has said.
async fn fence(client: &NativeClient, peer: &mut Peer) {
    let client = client.clone();
    let history =
        tokio::spawn(async move { client.history(&channel("fence"), None, Some(1)).await });
    let request = soon(peer.command()).await;
    assert!(matches!(request.command, Command::History { .. }));
    peer.say(&[ServerMessage::Ok(Reply {
        events: Some(Vec::new()),
        ..Reply::new(request.id.unwrap())
    })])
    .await;
    assert!(soon(history).await.unwrap().unwrap().messages.is_empty());
}

#[tokio::test]
async fn a_close_says_goodbye_and_ends_everything() {
    let (client, _listener, mut peer) = pair(options()).await;
    let subscribe = client.subscribe(channel("orders"), SubscribeOptions::default());
    let mut orders = soon(subscribe).await.unwrap();
    let publish = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .publish(&channel("other"), &typing(), RawJson::null())
                .await
        }
    });
    soon(peer.command()).await;
    soon(peer.command()).await;
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    assert_eq!(soon(peer.closed()).await, Some(1000));
    soon(closing).await.unwrap();
    soon(client.close()).await;
    // It was sent, and nothing has told what became of it.
    let published = soon(publish).await.unwrap();
    assert_eq!(published, Err(ClientError::UnknownOutcome));
    while soon(orders.recv()).await.is_some() {}
    assert_eq!(soon(orders.subscribed()).await, Err(ClientError::Closed));
    assert_eq!(client.status().state, ConnectionState::Disconnected);
    let late = client.subscribe(channel("late"), SubscribeOptions::default());
    assert_eq!(soon(late).await.err(), Some(ClientError::Closed));
}

#[tokio::test]
async fn the_connection_ends_with_its_last_handle() {
    let (client, _listener, mut peer) = pair(options()).await;
    let subscribe = client.subscribe(channel("orders"), SubscribeOptions::default());
    let orders = soon(subscribe).await.unwrap();
    drop(client);
    confirm(&mut peer, at(0), &[]).await;
    soon(orders.subscribed()).await.unwrap();
    drop(orders);
    assert_eq!(soon(peer.closed()).await, Some(1000));
}

#[tokio::test]
async fn a_refused_channel_ends_its_listeners_and_can_be_asked_for_again() {
    let (client, _listener, mut peer) = pair(options()).await;
    for _ in 0..2 {
        let subscribe = client.subscribe(channel("private-a"), SubscribeOptions::default());
        let mut private = soon(subscribe).await.unwrap();
        let request = soon(peer.command()).await;
        peer.say(&[ServerMessage::SubscriptionError(SubscriptionError::new(
            request.id,
            channel("private-a"),
            Code::FORBIDDEN,
        ))])
        .await;
        let refused = soon(private.subscribed()).await.unwrap_err();
        assert_eq!(refused.name(), "rejected");
        let mut last = None;
        while let Some(Event::Channel(status)) = soon(private.recv()).await {
            last = Some(status.state);
        }
        assert_eq!(last, Some(ChannelState::Failed));
    }
}

#[tokio::test]
async fn a_handshake_that_is_refused_is_final() {
    let listener = Listener::bind().await;
    let client = NativeClient::connect(&listener.url(), options()).unwrap();
    soon(listener.refuse("401 Unauthorized")).await;
    let failed = soon(client.connected()).await;
    assert_eq!(
        failed.unwrap_err().to_string(),
        "the credentials were refused (4003): HTTP error: 401 Unauthorized"
    );
    soon(client.close()).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let listener = Listener::bind().await;
    let client = NativeClient::connect(&listener.url(), options()).unwrap();
    for _ in 0..3 {
        soon(listener.refuse("503 Service Unavailable")).await;
    }
    let _peer = soon(listener.greet()).await;
    let status = soon(client.connected()).await.unwrap();
    assert!(!status.resumed);
    assert_eq!(status.attempt, 3);
}

#[tokio::test]
async fn a_server_that_does_not_read_does_not_stop_the_client_from_reading() {
    let mut options = options();
    options.machine.queue.bytes_max = usize::MAX;
    let (client, _listener, mut peer) = pair(options).await;
    let subscribe = client.subscribe(channel("orders"), SubscribeOptions::default());
    let mut orders = soon(subscribe).await.unwrap();
    confirm(&mut peer, at(0), &[]).await;
    soon(orders.subscribed()).await.unwrap();
    // 24 MB, more than the buffers of both sockets hold together, and the server reads none of it.
    let mut publishes = JoinSet::new();
    for _ in 0..40 {
        let client = client.clone();
        publishes.spawn(async move {
            let data = RawJson::trusted(format!("\"{}\"", "x".repeat(600_000)));
            client.publish(&channel("other"), &typing(), data).await
        });
    }
    for offset in 1..=200 {
        peer.say(&[ServerMessage::Event(event_at("orders", offset))])
            .await;
        assert_eq!(next_offset(&mut orders).await, offset);
    }
    for _ in 0..40 {
        let request = soon(peer.command()).await;
        peer.say(&[ServerMessage::Ok(Reply::new(request.id.unwrap()))])
            .await;
    }
    while let Some(published) = soon(publishes.join_next()).await {
        assert_eq!(published.unwrap(), Ok(None));
    }
}

#[tokio::test]
async fn more_publishes_than_the_queue_holds_wait_for_their_turn() {
    let (client, _listener, mut peer) = pair(options()).await;
    let mut publishes = JoinSet::new();
    for _ in 0..1_000 {
        let client = client.clone();
        publishes.spawn(async move {
            let other = channel("other");
            client.publish(&other, &typing(), RawJson::null()).await
        });
    }
    for _ in 0..1_000 {
        let request = soon(peer.command()).await;
        peer.say(&[ServerMessage::Ok(Reply::new(request.id.unwrap()))])
            .await;
    }
    while let Some(published) = soon(publishes.join_next()).await {
        assert_eq!(published.unwrap(), Ok(None));
    }
}

#[tokio::test]
async fn a_frame_that_is_no_message_is_reported() {
    let errors = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&errors);
    let options = options().with_on_error(move |error| {
        assert_eq!(*error, ClientError::Protocol);
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (client, _listener, mut peer) = pair(options).await;
    peer.say_text("not json").await;
    peer.say_text("{\"type\":\"event\"}").await;
    peer.say_text("{\"type\":\"from_the_future\"}").await;
    fence(&client, &mut peer).await;
    assert_eq!(errors.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_refused_at_once() {
    for url in ["", "not an address", "http://127.0.0.1:1/ws", "/ws"] {
        let refused = NativeClient::connect(url, options());
        assert!(matches!(refused, Err(ConnectError::Address(_))), "{url}");
    }
}
