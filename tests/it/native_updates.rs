//! Members that change their own info with the Rust client, over lines that break.

use fanfare_client::native::{NativeClient, NativeOptions, Subscription};
use fanfare_client::{Backoff, ClientError, Event, Options, SubscribeOptions};
use fanfare_server::protocol::{ChannelName, Code, RawJson};
use fanfare_server::{ChannelRule, ChannelRules};
use fanfare_tests::proxy::Proxy;
use fanfare_tests::server::TestServer;
use fanfare_tests::{suite, within};

/// Its members may change their info.
const ROOM: &str = "presence-own";

async fn server() -> TestServer {
    let own = ChannelRule::default().with_presence_update();
    let rules = ChannelRules::new().with(ROOM, own);
    TestServer::start(suite::builder().channel_rules(rules)).await
}

fn channel(name: &str) -> ChannelName {
    name.parse().unwrap()
}

fn connect(address: std::net::SocketAddr, user: &str) -> NativeClient {
    let backoff = Backoff {
        min: 1,
        max: 20,
        reset_after: 5_000,
    };
    let options = NativeOptions::default()
        .with_machine(Options::default().with_backoff(backoff))
        .with_token(format!("user:{user}"));
    NativeClient::connect(&format!("ws://{address}/ws"), options).unwrap()
}

async fn listen(client: &NativeClient, name: &str) -> Subscription {
    let options = SubscribeOptions::default();
    let subscription = client.subscribe(channel(name), options).await.unwrap();
    let subscribed = within("a subscription", subscription.subscribed()).await;
    subscribed.unwrap();
    subscription
}

async fn show(client: &NativeClient, info: &str) -> Result<(), ClientError> {
    let info = RawJson::trusted(info);
    within("an update", client.update_presence(&channel(ROOM), info)).await
}

/// The next news about members, in short; snapshots of who is there are left out.
async fn next(room: &mut Subscription) -> String {
    loop {
        match within("an event", room.recv()).await.unwrap() {
            Event::Joined { member, .. } => {
                return format!("+ {} {}", member.id, member.info.as_str());
            }
            Event::Updated { member, .. } => {
                return format!("~ {} {}", member.id, member.info.as_str());
            }
            Event::Left { id, .. } => return format!("- {id}"),
            Event::Channel(_) | Event::Sync { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn other_info_is_an_event_and_survives_a_lost_connection() {
    let server = server().await;
    let proxy = Proxy::start(server.address).await.unwrap();
    let ann = connect(server.address, "ann");
    let mut room = listen(&ann, ROOM).await;
    let bob = connect(proxy.address(), "bob");
    let bobs = listen(&bob, ROOM).await;
    assert_eq!(next(&mut room).await, r#"+ bob {"name":"bob"}"#);
    show(&bob, r#"{"status":"away"}"#).await.unwrap();
    assert_eq!(next(&mut room).await, r#"~ bob {"status":"away"}"#);
    for info in ["1", "2"] {
        let before = bob.status().socket_id;
        assert!(proxy.cut_all() > 0);
        let is_back = bob.wait_for(|status| status.socket_id.is_some_and(|id| before != Some(id)));
        within("a new connection", is_back).await.unwrap();
        within("bob is back", bobs.subscribed()).await.unwrap();
        // It came back with what it showed: the next news is what it changes to.
        show(&bob, info).await.unwrap();
        assert_eq!(next(&mut room).await, format!("~ bob {info}"));
    }
    show(&bob, "null").await.unwrap();
    assert_eq!(next(&mut room).await, r#"~ bob {"name":"bob"}"#);
}

#[tokio::test]
async fn info_may_be_shown_from_the_start() {
    let server = server().await;
    let ann = connect(server.address, "ann");
    let mut room = listen(&ann, ROOM).await;
    let bob = connect(server.address, "bob");
    let options = SubscribeOptions::default().info(RawJson::trusted("\"busy\""));
    let bobs = bob.subscribe(channel(ROOM), options).await.unwrap();
    within("bob is there", bobs.subscribed()).await.unwrap();
    assert_eq!(next(&mut room).await, r#"+ bob "busy""#);
}

#[tokio::test]
async fn where_it_is_not_allowed_the_update_fails_and_the_channel_does_not() {
    let server = TestServer::start(suite::builder()).await;
    let ann = connect(server.address, "ann");
    let options = SubscribeOptions::default().info(RawJson::trusted("1"));
    let room = ann.subscribe(channel(ROOM), options).await.unwrap();
    within("ann is there", room.subscribed()).await.unwrap();
    let error = show(&ann, "1").await.unwrap_err();
    let code = Code::PRESENCE_UPDATE_NOT_ALLOWED.number();
    assert!(
        matches!(error, ClientError::Server { code: told, .. } if told == code),
        "{error}"
    );
}
