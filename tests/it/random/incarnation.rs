//! One life of a server: on a runtime of its own, so that it can be killed.

use std::net::SocketAddr;
use std::time::Duration;

use fanfare_server::engine::{Engine, EngineError};
use fanfare_server::protocol::{ChannelName, EventName, RawJson, SocketId};
use fanfare_server::{
    ChannelRule, ChannelRules, Handle, Limits, Publication, PublishError, Server, ServerBuilder,
};
use fanfare_tests::checker::Recorder;
use fanfare_tests::server::TestServer;
use fanfare_tests::suite::SuiteAuthorizer;
use fanfare_tests::within;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// One life of a server.
pub(super) struct Incarnation {
    threads: Threads,
    server: TestServer,
    engine: Engine,
    publishers: Vec<mpsc::Sender<Order>>,
}

/// A message for the publishers, who live and die with the server.
pub(super) struct Order {
    pub(super) channel: ChannelName,
    pub(super) payload: String,
    /// The connection and the name of the client that must not get it.
    pub(super) except: Option<(SocketId, String)>,
}

impl Incarnation {
    pub(super) async fn start(recorder: &Recorder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let engine = Engine::memory();
        let builder = builder().engine(engine.clone());
        let starting = runtime.spawn(TestServer::start(builder));
        let server = within("a server", starting).await.unwrap();
        let publishers = (0..PUBLISHERS).map(|_| {
            let (orders, inbox) = mpsc::channel(256);
            runtime.spawn(publish(inbox, server.events.clone(), recorder.clone()));
            orders
        });
        let publishers = publishers.collect();
        Self {
            threads: Threads(Some(runtime)),
            server,
            engine,
            publishers,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Has one of the publishers, all at work at once, publish.
    pub(super) async fn publish(&self, publisher: usize, order: Order) {
        let publisher = &self.publishers[publisher % PUBLISHERS];
        publisher.send(order).await.ok().unwrap();
    }

    /// Drops a channel's history.
    pub(super) async fn clear_history(&self, channel: &ChannelName) {
        self.engine.broker.clear_history(channel).await.unwrap();
    }

    /// How many are subscribed.
    pub(super) async fn subscriber_count(&self, channel: &ChannelName) -> usize {
        let count = self.server.events.subscriber_count(channel.clone());
        count.await.unwrap()
    }

    /// Ends it as one should.
    pub(super) async fn stop(self) {
        self.server.stop().await;
        self.threads.end().await;
    }

    /// Ends it as power cuts do: in the middle of whatever it does.
    pub(super) async fn kill(self) {
        self.threads.end().await;
    }
}

/// What a server runs on.
struct Threads(Option<Runtime>);

impl Threads {
    /// Waits until nothing happens there any more: nothing is accepted by a server that is dead.
    async fn end(mut self) {
        let runtime = self.0.take().unwrap();
        let ending =
            tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10)));
        within("the end of a runtime", ending).await.unwrap();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn builder() -> ServerBuilder {
    let mut limits = Limits::default();
    limits.commands_burst = 1_000_000;
    limits.shutdown_deadline = Duration::from_secs(2);
    // So few that who is away for long misses more.
    let history = ChannelRule::default()
        .with_history(30, Duration::from_secs(300))
        .with_client_publish();
    let live = ChannelRule::default().with_client_publish();
    Server::builder()
        .authorizer(SuiteAuthorizer)
        .allow_anonymous()
        .limits(limits)
        .channel_rules(ChannelRules::new().with("h-", history).with("l-", live))
}

async fn publish(mut inbox: mpsc::Receiver<Order>, events: Handle, recorder: Recorder) {
    while let Some(order) = inbox.recv().await {
        let (except, name) = order.except.unzip();
        let id = recorder.call(&order.channel, &order.payload, name.as_deref());
        let event = EventName::new("n").unwrap();
        let data = RawJson::encode(&order.payload).unwrap();
        let mut publication = Publication::new(order.channel, event, data);
        if let Some(except) = except {
            publication = publication.except(except);
        }
        match events.publish(publication).await {
            Ok(published) => recorder.accepted(id, published.position),
            Err(PublishError::Engine {
                error: EngineError::Unknown { .. },
                ..
            }) => {}
            Err(_) => recorder.refused(id),
        }
    }
}

/// 3: two can be in each other's way, and a third in theirs.
const PUBLISHERS: usize = 3;
