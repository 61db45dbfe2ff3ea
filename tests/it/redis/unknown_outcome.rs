//! A publish that may have happened is never called refused: a real server, a real Redis, and a line between them that breaks.

use std::time::Duration;

use fanfare_client::native::{NativeClient, NativeOptions, Subscription};
use fanfare_client::{Backoff, ClientError, Options, QueueLimits, SubscribeOptions};
use fanfare_protocol::RawJson;
use fanfare_server::delivery::HistoryRange;
use fanfare_server::engine::{Engine, EngineError};
use fanfare_server::{PublishError, Publisher};
use fanfare_tests::proxy::{RedisFault, RedisProxy};
use fanfare_tests::redis;
use fanfare_tests::server::TestServer;
use fanfare_tests::{eventually, suite, within};

use super::node::{KEPT, channel, message, options};

/// A client whose publish is carried out by a Redis that can not be reached from then on.
struct Scene {
    proxy: RedisProxy,
    server: TestServer,
    engine: Engine,
    client: NativeClient,
    /// Only who is subscribed may publish.
    _listening: Subscription,
}

/// So that no other script is taken for the publish.
const MARK: &str = "the marked payload";

impl Scene {
    async fn new(queue: QueueLimits) -> Self {
        let redis = redis::shared().await;
        let proxy = RedisProxy::start(redis.address(), 1).await.unwrap();
        let options = options(&format!("redis://{}", proxy.address()));
        let engine = Engine::redis(options.with_budget(Duration::from_millis(300)));
        let server = TestServer::start(suite::builder().engine(engine.clone())).await;
        let backoff = Backoff {
            min: 1,
            max: 20,
            reset_after: 5_000,
        };
        let machine = Options::default().with_backoff(backoff).with_queue(queue);
        let options = NativeOptions::default().with_machine(machine);
        let url = format!("ws://{}/ws", server.address);
        let client = NativeClient::connect(&url, options.with_token("user:ann")).unwrap();
        let listening = client.subscribe(channel("h-orders"), SubscribeOptions::default());
        let listening = listening.await.unwrap();
        within("a subscription", listening.subscribed())
            .await
            .unwrap();
        Self {
            proxy,
            server,
            engine,
            client,
            _listening: listening,
        }
    }

    /// From now on the next publish is carried out, and neither its answer nor anything else comes back.
    fn break_after_the_next_publish(&self) {
        self.proxy.plant(RedisFault::Refuse, u64::MAX, "");
        self.proxy.plant(RedisFault::CutAfter, 1, MARK);
    }

    async fn kept(&self) -> usize {
        let all = HistoryRange::Last { limit: 100 };
        let channel = channel("h-orders");
        let history = self.engine.broker.history(&channel, all, KEPT).await;
        history.unwrap().entries.len()
    }
}

#[tokio::test]
async fn repetitions_that_are_refused_do_not_make_a_publish_refused() {
    let scene = Scene::new(QueueLimits::default()).await;
    scene.break_after_the_next_publish();
    let (client, proxy) = (scene.client.clone(), &scene.proxy);
    let data = RawJson::encode(MARK).unwrap();
    let orders = channel("h-orders");
    let event = "n".parse().unwrap();
    let publishing = client.publish(&orders, &event, data);
    let healing = async {
        // Some five attempts are one call of the engine, and some such calls are refused to the client.
        eventually("refused repetitions", async || {
            proxy.done(RedisFault::Refuse) >= 30
        })
        .await;
        proxy.plant(RedisFault::Refuse, 0, "");
    };
    let (published, ()) = tokio::join!(publishing, healing);
    assert_eq!(published.unwrap().unwrap().offset, 1);
    assert_eq!(scene.kept().await, 1);
    scene.server.stop().await;
}

#[tokio::test]
async fn a_publish_that_nobody_can_tell_about_is_unknown_to_the_client() {
    let queue = QueueLimits {
        ttl: 2_000,
        ..QueueLimits::default()
    };
    let scene = Scene::new(queue).await;
    scene.break_after_the_next_publish();
    let data = RawJson::encode(MARK).unwrap();
    let published = scene
        .client
        .publish(&channel("h-orders"), &"n".parse().unwrap(), data)
        .await;
    assert_eq!(published.unwrap_err(), ClientError::UnknownOutcome);
    scene.proxy.plant(RedisFault::Refuse, 0, "");
    eventually("the message", async || {
        let all = HistoryRange::Last { limit: 100 };
        let channel = channel("h-orders");
        let history = scene.engine.broker.history(&channel, all, KEPT).await;
        history.is_ok_and(|history| history.entries.len() == 1)
    })
    .await;
    scene.server.stop().await;
}

#[tokio::test]
async fn a_publisher_remembers_which_keys_may_have_been_accepted() {
    let redis = redis::shared().await;
    let proxy = RedisProxy::start(redis.address(), 2).await.unwrap();
    let options = options(&format!("redis://{}", proxy.address()));
    let engine = Engine::redis(options.with_budget(Duration::from_millis(300)));
    let events = Publisher::connect(engine).await.unwrap();
    proxy.plant(RedisFault::Refuse, u64::MAX, "");
    proxy.plant(RedisFault::CutAfter, 1, "7777777");
    let orders = channel("orders");
    let keyed = |key: &str| message(&orders, 7_777_777).with_key(key.parse().unwrap());
    let first = events.publish(keyed("first")).await.unwrap_err();
    assert!(first.may_have_happened(), "{first:?}");
    let repeated = events.publish(keyed("first")).await.unwrap_err();
    assert!(repeated.may_have_happened(), "{repeated:?}");
    let other = events.publish(keyed("other")).await.unwrap_err();
    let is_refused = matches!(
        &other,
        PublishError::Engine {
            error: EngineError::Unavailable { .. },
            ..
        }
    );
    assert!(is_refused && !other.may_have_happened(), "{other:?}");
    proxy.plant(RedisFault::Refuse, 0, "");
    eventually("an answer", async || {
        let again = events.publish(keyed("first")).await;
        again.is_ok_and(|published| published.is_duplicate)
    })
    .await;
}
