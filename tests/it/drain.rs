//! What a stop costs the clients: from the close to usable again on another server, beside what a crash costs.

use std::net::SocketAddr;
use std::time::Duration;

use fanfare_client::SubscribeOptions;
use fanfare_client::native::{NativeClient, NativeOptions, Subscription};
use fanfare_server::{Server, ServerBuilder};
use fanfare_tests::node::Node;
use fanfare_tests::proxy::Proxy;
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::{eventually, http, within};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

/// The longest that a client is away is 1 s; a test on a busy machine allows ten times that.
const AWAY_MAX: Duration = Duration::from_secs(10);

/// Half of the clients are back within 20 ms or so, which makes this a hundred times the usual.
const USUALLY_AWAY_MAX: Duration = Duration::from_secs(2);

/// The client of the SDK.
struct Visitor {
    client: NativeClient,
    orders: Subscription,
}

impl Visitor {
    async fn enter(address: SocketAddr) -> Self {
        let url = format!("ws://{address}/ws");
        let client = NativeClient::connect(&url, NativeOptions::default()).unwrap();
        let channel = "orders".parse().unwrap();
        let options = SubscribeOptions::default();
        let orders = client.subscribe(channel, options).await.unwrap();
        let subscribed = within("a subscription", orders.subscribed()).await;
        subscribed.unwrap();
        Self { client, orders }
    }

    /// How long it is away, the next time that it loses its connection.
    async fn away(&self) -> Duration {
        let before = self.client.status().socket_id;
        let is_lost = self.client.wait_for(|status| status.socket_id != before);
        within("the loss", is_lost).await.unwrap();
        let lost = Instant::now();
        let is_back = self.client.wait_for(|status| status.socket_id.is_some());
        within("the return", is_back).await.unwrap();
        let subscribed = within("the subscription", self.orders.subscribed()).await;
        subscribed.unwrap();
        lost.elapsed()
    }
}

/// How long a page without any library is away that does what it is told.
async fn plain_away(mut socket: Socket, address: SocketAddr) -> Duration {
    let told = json!({ "type": "disconnect", "code": 4200, "reconnect": true, "after": 0 });
    socket.expect(told).await;
    assert_eq!(socket.closed().await.0, 4200);
    let lost = Instant::now();
    let door = Door::at(address);
    let mut back = None;
    eventually("a connection", async || {
        back = door.attempt().await.ok();
        back.is_some()
    })
    .await;
    let mut back = back.unwrap();
    back.greeted().await;
    back.subscribe("orders").await;
    lost.elapsed()
}

/// Shows the figures, and checks them.
#[track_caller]
fn check(what: &str, mut away: Vec<Duration>) {
    away.sort();
    let longest = *away.last().unwrap();
    let median = away[away.len() / 2];
    println!(
        "{what}: {} clients away for {median:?} (median), {longest:?} (longest)",
        away.len()
    );
    assert!(longest < AWAY_MAX, "{what}: away for {longest:?}");
    assert!(median < USUALLY_AWAY_MAX, "{what}: away for {median:?}");
}

/// Ends an embedded server by its handle, as a load balancer sees it, and answers how long everybody was away.
async fn stop_embedded(old: TestServer, new: TestServer) -> Vec<Duration> {
    let balancer = Proxy::start(old.address).await.unwrap();
    let address = balancer.address();
    let (mut visitors, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        visitors.push(Visitor::enter(address).await);
        let mut socket = Socket::connect(address).await;
        socket.subscribe("orders").await;
        plain.push(plain_away(socket, address));
    }
    let readiness = async || {
        let answer = http::request(old.address, "GET", "/health/ready", &[], "").await;
        answer.status
    };
    assert_eq!(readiness().await, 200);
    let ending = tokio::spawn({
        let events = old.events.clone();
        async move { events.shutdown().await }
    });
    let waiting = async {
        let away = visitors.iter().map(Visitor::away);
        let (mut away, plain) = tokio::join!(join_all(away), join_all(plain));
        away.extend(plain);
        away
    };
    let balancing = async {
        eventually("readiness to end", async || readiness().await == 503).await;
        balancer.retarget(new.address);
    };
    let (away, ()) = tokio::join!(waiting, balancing);
    within("the end", ending).await.unwrap();
    for visitor in visitors {
        visitor.client.close().await;
    }
    away
}

fn builder() -> ServerBuilder {
    Server::builder()
}

#[tokio::test]
async fn a_stop_of_an_embedded_server_with_its_own_accept_loop_is_short_for_everybody() {
    let old = TestServer::start(builder()).await;
    let new = TestServer::start(builder()).await;
    check("serve", stop_embedded(old, new).await);
}

#[tokio::test]
async fn a_stop_of_an_embedded_server_in_axum_is_short_for_everybody() {
    let old = TestServer::start_in_axum(builder(), |server| server.router()).await;
    let new = TestServer::start(builder()).await;
    check("router", stop_embedded(old, new).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_costs_a_client_no_more_than_a_crash() {
    let mut nodes = [Node::start(&[], &[]).await, Node::start(&[], &[]).await];
    let balancer = Proxy::start(nodes[0].address()).await.unwrap();
    let mut visitors = Vec::new();
    for _ in 0..50 {
        visitors.push(Visitor::enter(balancer.address()).await);
    }
    balancer.balance(nodes.iter().map(Node::address).collect());
    let away = || join_all(visitors.iter().map(Visitor::away));

    let (killed, ()) = tokio::join!(away(), async { nodes[0].kill() });
    check("kill -9", killed);
    nodes[0].restart().await;
    let (terminated, ()) = tokio::join!(away(), async { nodes[1].terminate() });
    check("SIGTERM", terminated);
    eventually("the node to end", async || nodes[1].outcome().is_some()).await;
    assert_eq!(nodes[1].outcome().unwrap().code(), Some(0));
}
