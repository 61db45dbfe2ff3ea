//! Questions and orders over several nodes, which are linked by an engine of this suite.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use fanfare_server::delivery::{History, HistoryRange, Publication, Published, Retention};
use fanfare_server::engine::memory::{MemoryEngine, MemoryOptions};
use fanfare_server::engine::{
    Arrival, Broker, Deliver, Engine, EngineError, Health, NodeReplySender,
};
use fanfare_server::protocol::{ChannelName, SocketId, UserId};
use fanfare_server::{ClusterError, Publisher, Server};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::{eventually, http, redis, suite, within};
use serde_json::json;
use tokio::time::Instant;

/// Nodes that can ask each other, and do nothing else together.
#[derive(Clone, Default)]
struct Links {
    nodes: Arc<Mutex<Vec<Deliver>>>,
}

impl Links {
    /// The engine of another node.
    fn engine(&self) -> Engine {
        self.engine_and_health().0
    }

    fn engine_and_health(&self) -> (Engine, Arc<Mutex<Health>>) {
        let memory = Arc::new(MemoryEngine::new(MemoryOptions::default()));
        let health = Arc::new(Mutex::new(Health::Flowing));
        let linked = Linked {
            memory: Arc::clone(&memory),
            links: self.clone(),
            this: OnceLock::new(),
            health: Arc::clone(&health),
        };
        let engine = Engine {
            broker: Arc::new(linked),
            presence: memory,
        };
        (engine, health)
    }

    async fn node(&self) -> TestServer {
        TestServer::start(suite::builder().engine(self.engine())).await
    }

    /// A node that answers everything in its own way.
    fn add(&self, answer: impl Fn(NodeReplySender) + Send + Sync + 'static) {
        let deliver: Deliver = Arc::new(move |arrival| {
            if let Arrival::NodeRequest { reply: to, .. } = arrival {
                answer(to);
            }
        });
        self.nodes.lock().unwrap().push(deliver);
    }
}

struct Linked {
    memory: Arc<MemoryEngine>,
    links: Links,
    this: OnceLock<Deliver>,
    health: Arc<Mutex<Health>>,
}

#[async_trait]
impl Broker for Linked {
    async fn start(&self, deliver: Deliver) -> Result<(), EngineError> {
        assert!(self.this.set(Arc::clone(&deliver)).is_ok());
        self.links.nodes.lock().unwrap().push(Arc::clone(&deliver));
        self.memory.start(deliver).await
    }

    async fn publish(
        &self,
        publication: Publication,
        retention: Retention,
    ) -> Result<Published, EngineError> {
        self.memory.publish(publication, retention).await
    }

    async fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
        retention: Retention,
    ) -> Result<History, EngineError> {
        self.memory.history(channel, range, retention).await
    }

    async fn clear_history(&self, channel: &ChannelName) -> Result<(), EngineError> {
        self.memory.clear_history(channel).await
    }

    fn set_interest(&self, channel: &ChannelName, retention: Retention, wanted: bool) {
        self.memory.set_interest(channel, retention, wanted);
    }

    async fn interested(&self, channel: &ChannelName) -> Result<(), EngineError> {
        self.memory.interested(channel).await
    }

    async fn request(&self, request: Bytes) -> Result<Vec<Bytes>, EngineError> {
        let this = self.this.get().unwrap();
        let others: Vec<Deliver> = {
            let nodes = self.links.nodes.lock().unwrap();
            let others = nodes.iter().filter(|node| !Arc::ptr_eq(node, this));
            others.cloned().collect()
        };
        let asked = others.len();
        let mut waiting = Vec::new();
        for node in others {
            let (reply, awaited) = NodeReplySender::channel();
            let body = request.clone();
            node(Arrival::NodeRequest { body, reply });
            waiting.push(awaited);
        }
        let mut answers = Vec::new();
        for awaited in waiting {
            answers.extend(within("an answer or its loss", awaited).await.ok());
        }
        let answered = answers.len();
        if answered < asked {
            return Err(EngineError::Incomplete { answered, asked });
        }
        Ok(answers)
    }

    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    async fn close(&self) {
        self.memory.close().await;
    }
}

async fn enter(server: &TestServer, user: &str) -> Socket {
    let token = format!("user:{user}");
    Door::at(server.address).bearer(&token).enter().await
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn id(socket: &Socket) -> SocketId {
    socket.id.parse().unwrap()
}

#[tokio::test]
async fn numbers_and_names_are_of_all_nodes() {
    let links = Links::default();
    let (one, two) = (links.node().await, links.node().await);
    let job = Publisher::connect(links.engine()).await.unwrap();
    let mut ann = enter(&one, "ann").await;
    let mut phone = enter(&two, "ann").await;
    let mut ben = enter(&two, "ben").await;
    for socket in [&mut ann, &mut phone, &mut ben] {
        socket.subscribe("orders").await;
    }
    ben.subscribe("offers").await;
    for asking in [&*one.events, &*two.events, &job] {
        assert_eq!(asking.subscriber_count("orders").await.unwrap(), 3);
        assert_eq!(asking.subscriber_count("nothing").await.unwrap(), 0);
        assert!(asking.has_subscribers("offers").await.unwrap());
        assert!(!asking.has_subscribers("nothing").await.unwrap());
        assert_eq!(asking.connection_count().await.unwrap(), 3);
        let channels = asking.channels().await.unwrap();
        let channels: Vec<&str> = channels.iter().map(ChannelName::as_str).collect();
        assert_eq!(channels, ["offers", "orders", "user:ann", "user:ben"]);
        let mut of_ann = asking.connections_of(&user("ann")).await.unwrap();
        of_ann.sort_unstable_by_key(ToString::to_string);
        let mut expected = [id(&ann), id(&phone)];
        expected.sort_unstable_by_key(ToString::to_string);
        assert_eq!(of_ann, expected);
    }
    job.close().await.unwrap();
}

#[tokio::test]
async fn an_order_reaches_the_connection_wherever_it_is() {
    let links = Links::default();
    let (one, two) = (links.node().await, links.node().await);
    let mut far = enter(&two, "ben").await;
    let far_id = id(&far);
    one.events.subscribe(far_id, "private-x").await.unwrap();
    far.expect(json!({ "type": "subscription_succeeded", "channel": "private-x" }))
        .await;
    one.events.unsubscribe(far_id, "private-x").await.unwrap();
    far.expect(json!({ "type": "unsubscribed", "code": 4318 }))
        .await;
    let nobody = SocketId::from_bits(7);
    let error = one.events.subscribe(nobody, "x").await.unwrap_err();
    assert!(matches!(error, ClusterError::NoSuchConnection { socket } if socket == nobody));

    let mut near = enter(&one, "ben").await;
    assert_eq!(one.events.disconnect_user(&user("ben")).await.unwrap(), 2);
    assert_eq!(near.closed().await.0, 4005);
    assert_eq!(far.closed().await.0, 4005);

    let mut ann = enter(&two, "ann").await;
    one.events.drop_connection(id(&ann)).await.unwrap();
    assert_eq!(ann.next().await, None, "no message, no close frame");
}

#[tokio::test]
async fn a_silent_node_makes_an_error_and_never_a_wrong_number() {
    let links = Links::default();
    let (one, _two) = (links.node().await, links.node().await);
    let mut ann = enter(&one, "ann").await;
    ann.subscribe("orders").await;
    links.add(drop);
    let error = one.events.subscriber_count("orders").await.unwrap_err();
    assert_eq!(error.to_string(), "only 1 of 2 other nodes answered");
    // What is known here is enough for this one.
    assert!(one.events.has_subscribers("orders").await.unwrap());
    assert!(one.events.has_subscribers("offers").await.is_err());
    assert!(one.events.channels().await.is_err());
    // The connection is here: nobody needs to be asked.
    one.events.subscribe(id(&ann), "offers").await.unwrap();
    let error = one.events.disconnect_user(&user("ann")).await.unwrap_err();
    assert!(matches!(
        error,
        ClusterError::Incomplete {
            answered: 1,
            asked: 2
        }
    ));
    ann.expect(json!({ "type": "disconnect", "code": 4005 }))
        .await;
}

#[tokio::test]
async fn a_node_of_another_release_that_does_not_understand_counts_as_silent() {
    let links = Links::default();
    let one = links.node().await;
    links.add(|answer| answer.send(Bytes::from_static(br#"{"is":"unknown"}"#)));
    let error = one.events.connection_count().await.unwrap_err();
    assert_eq!(error.to_string(), "only 0 of 1 other nodes answered");
}

#[tokio::test]
async fn servers_and_publishers_on_one_redis_are_one() {
    let redis = redis::shared().await;
    let url = format!("{}?prefix={}", redis.url(), redis::prefix("cluster"));
    let engine = || Engine::redis(url.parse().unwrap());
    let node = async || TestServer::start(suite::builder().engine(engine())).await;
    let (one, two) = (node().await, node().await);
    let job = Publisher::connect(engine()).await.unwrap();
    let mut near = enter(&one, "ann").await;
    let mut far = enter(&two, "ann").await;
    for socket in [&mut near, &mut far] {
        socket.subscribe("orders").await;
    }
    for asking in [&*one.events, &*two.events, &job] {
        assert_eq!(asking.subscriber_count("orders").await.unwrap(), 2);
        assert_eq!(asking.connection_count().await.unwrap(), 2);
        let of_ann = asking.connections_of(&user("ann")).await.unwrap();
        assert_eq!(of_ann.len(), 2);
        asking.broadcast("orders", "e", &1).await.unwrap();
        let note = asking.send_to_user(&user("ann"), "note", &1).await;
        note.unwrap();
        for socket in [&mut near, &mut far] {
            socket
                .expect(json!({ "event": "e", "channel": "orders" }))
                .await;
            socket.expect(json!({ "event": "note" })).await;
        }
    }
    // A publisher that is gone without a word is nobody that is waited for.
    drop(job);
    assert_eq!(one.events.connection_count().await.unwrap(), 2);
    one.events.subscribe(id(&far), "private-x").await.unwrap();
    far.expect(json!({ "type": "subscription_succeeded", "channel": "private-x" }))
        .await;
    assert_eq!(one.events.disconnect_user(&user("ann")).await.unwrap(), 2);
    assert_eq!(near.closed().await.0, 4005);
    assert_eq!(far.closed().await.0, 4005);
    // Who has stopped is not asked any more.
    two.stop().await;
    eventually("the last connection to be gone", async || {
        one.events.connection_count().await.unwrap() == 0
    })
    .await;
    one.stop().await;
}

#[tokio::test]
async fn readiness_follows_the_engine_and_a_long_stall_refuses_connections() {
    let (engine, health) = Links::default().engine_and_health();
    let server = TestServer::start(Server::builder().engine(engine)).await;
    let ready = async || {
        let answer = http::request(server.address, "GET", "/health/ready", &[], "").await;
        (answer.status, answer.json())
    };
    assert_eq!(ready().await, (200, json!({ "ready": true })));
    let stall = |since: Instant| {
        *health.lock().unwrap() = Health::Stalled {
            since,
            reason: "nothing arrives from the store".to_owned(),
        };
    };
    stall(Instant::now());
    let reason = "nothing arrives from the store";
    let unready = json!({ "ready": false, "reason": reason });
    assert_eq!(ready().await, (503, unready.clone()));
    // The clients that are there stay, and for a while new ones may come.
    let mut early = Socket::connect(server.address).await;
    let long_ago = Instant::now().checked_sub(Duration::from_secs(11));
    stall(long_ago.unwrap());
    let refused = Door::at(server.address).open().await.unwrap_err();
    assert_eq!(refused.status(), 503);
    early.is_quiet().await;
    let live = http::request(server.address, "GET", "/health/live", &[], "").await;
    assert_eq!((live.status, live.json()), (200, json!({ "live": true })));
    *health.lock().unwrap() = Health::Refused {
        since: long_ago.unwrap(),
        reason: reason.to_owned(),
    };
    assert_eq!(ready().await, (503, unready));
    Socket::connect(server.address).await;
    *health.lock().unwrap() = Health::Flowing;
    assert_eq!(ready().await.0, 200);
    Socket::connect(server.address).await;
}
