//! One connection with thousands of channels: what the client sends after a reconnect stays within the server's limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fanfare_client::native::{NativeClient, NativeOptions, Subscription};
use fanfare_client::{
    Backoff, ChannelAuthReply, ChannelState, ClientError, Event, Options, SubscribeOptions,
};
use fanfare_server::{Limits, ServerBuilder};
use fanfare_tests::proxy::Proxy;
use fanfare_tests::server::TestServer;
use fanfare_tests::{http, suite, within};
use serde_json::json;

/// 3 s is what it may take; a busy machine gets ten times as long.
const BACK_WITHIN: Duration = Duration::from_secs(30);

const PUBLIC: usize = 5_000;
const PRIVATE: usize = 500;

fn generous() -> ServerBuilder {
    let mut limits = Limits::default();
    limits.channels_max = PUBLIC + PRIVATE;
    suite::builder().limits(limits)
}

/// A client that counts its errors, and asks the auth endpoint for the tokens of private channels.
fn client(proxy: &Proxy, server: &TestServer) -> (NativeClient, Arc<AtomicUsize>) {
    let errors = Arc::new(AtomicUsize::new(0));
    let backoff = Backoff {
        min: 1,
        max: 20,
        reset_after: 5_000,
    };
    let address = server.address;
    let machine = Options::default().with_backoff(backoff);
    let options = NativeOptions::default()
        .with_machine(machine)
        .with_token("user:ann")
        .with_on_error({
            let errors = Arc::clone(&errors);
            move |error| {
                eprintln!("error: {error}");
                errors.fetch_add(1, Ordering::Relaxed);
            }
        })
        .with_channel_auth(move |request| async move {
            let body = json!({ "socket_id": request.socket_id, "channel": request.channel });
            let headers = [("authorization", "Bearer user:ann")];
            let answer = http::post(address, "/ws/auth", &headers, &body).await;
            match answer.json()["auth"].as_str() {
                Some(auth) => ChannelAuthReply::Granted {
                    auth: auth.to_owned(),
                    channel_data: None,
                },
                None => ChannelAuthReply::Failed {
                    status: None,
                    reason: None,
                    retry_after: None,
                },
            }
        });
    let url = format!("ws://{}/ws", proxy.address());
    (NativeClient::connect(&url, options).unwrap(), errors)
}

async fn subscribe_all(
    client: &NativeClient,
    names: impl Iterator<Item = String>,
) -> Vec<Subscription> {
    let mut all = Vec::new();
    for name in names {
        let channel = name.parse().unwrap();
        let subscription = client.subscribe(channel, SubscribeOptions::default()).await;
        all.push(subscription.unwrap());
    }
    all
}

fn names() -> impl Iterator<Item = String> {
    let public = (0..PUBLIC).map(|number| format!("h-{number}"));
    public.chain((0..PRIVATE).map(|number| format!("private-ok.{number}")))
}

/// Waits until a subscription has its state, and counts the errors that come with other states.
async fn reaches(subscription: &mut Subscription, wanted: ChannelState) -> usize {
    let mut errors = 0;
    loop {
        match subscription.recv().await {
            Some(Event::Channel(status)) => {
                errors += usize::from(status.error.is_some());
                if status.state == wanted {
                    return errors;
                }
            }
            Some(_) => {}
            None => panic!("the subscription ended"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_public_and_five_hundred_private_channels_are_back_at_once() {
    let server = TestServer::start(generous()).await;
    let proxy = Proxy::start(server.address).await.unwrap();
    let (client, errors) = client(&proxy, &server);
    let mut channels = subscribe_all(&client, names()).await;
    let start = Instant::now();
    for channel in &mut channels {
        let first = reaches(channel, ChannelState::Subscribed);
        let failed = tokio::time::timeout(BACK_WITHIN, first).await;
        assert_eq!(failed.expect("subscribed in time"), 0);
    }
    println!("all subscribed after {:?}", start.elapsed());

    let start = Instant::now();
    assert_eq!(proxy.cut_all(), 1);
    // What is published while the channels come back is missed by none of them.
    for number in (0..PUBLIC).step_by(50) {
        let channel = format!("h-{number}");
        let published = server.events.broadcast(&channel, "n", &number).await;
        published.unwrap();
    }
    for channel in &mut channels {
        let back = reaches(channel, ChannelState::Subscribed);
        let failed = tokio::time::timeout(BACK_WITHIN, back).await;
        assert_eq!(failed.expect("back in time"), 0);
    }
    println!("all back after {:?}", start.elapsed());
    for (number, channel) in channels.iter_mut().enumerate().take(PUBLIC).step_by(50) {
        let message = loop {
            match within("a message", channel.recv()).await.unwrap() {
                Event::Message(message) => break message,
                Event::Channel(_) => {}
                other => panic!("{other:?} instead of a message"),
            }
        };
        assert_eq!(message.data.decode::<usize>().unwrap(), number);
    }
    assert_eq!(errors.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_wanted_above_the_limit_is_one_error_each() {
    let server = TestServer::start(suite::builder()).await;
    let proxy = Proxy::start(server.address).await.unwrap();
    let (client, errors) = client(&proxy, &server);
    let names = (0..600).map(|number| format!("h-{number:03}"));
    let channels = subscribe_all(&client, names).await;
    let mut refused = 0;
    let mut live = Vec::new();
    for channel in channels {
        match within("an answer", channel.subscribed()).await {
            Ok(()) => live.push(channel),
            Err(ClientError::TooManyChannels { channels_max }) => {
                assert_eq!(channels_max, 100);
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((live.len(), refused), (100, 500));
    assert_eq!(proxy.cut_all(), 1);
    for channel in &mut live {
        // As it was subscribed at first, then away, then back.
        for state in [
            ChannelState::Subscribed,
            ChannelState::Suspended,
            ChannelState::Subscribed,
        ] {
            let failed = within("a state", reaches(channel, state)).await;
            assert_eq!(failed, 0);
        }
    }
    assert_eq!(errors.load(Ordering::Relaxed), 0);
}
