//! The suite that every engine passes, on a single server, on the master that sentinels name, and on a cluster.

use std::time::Duration;

use async_trait::async_trait;
use fanfare_server::engine::Engine;
use fanfare_server::engine::contract::{Features, Harness, SCENARIOS, run};
use fanfare_server::engine::redis::RedisOptions;
use fanfare_tests::redis::{self, Cluster, Sentinel};
use fanfare_tests::resp::Connection;
use tokio::sync::Mutex;

use super::topologies::{cluster_url, sentinel_url};

/// Redis, whose time can only be waited out: by its own clock.
struct Waiting {
    url: String,
    /// To a server of this machine, as all of them are.
    clock: Mutex<Connection>,
}

/// Short enough to wait out, long enough for a busy machine.
const GRACE: Duration = Duration::from_millis(800);
const KEY_TTL: Duration = Duration::from_millis(1_600);
const HISTORY_TTL: Duration = Duration::from_millis(1_200);

#[async_trait]
impl Harness for Waiting {
    fn features(&self) -> Features {
        Features::new(GRACE)
            .with_history_ttl(HISTORY_TTL)
            .with_key_ttl(KEY_TTL)
            .with_model(2, 40)
    }

    async fn open(&self) -> Engine {
        let options: RedisOptions = self.url.parse().unwrap();
        let options = options.with_prefix(redis::prefix("contract")).unwrap();
        Engine::redis(options.with_presence_grace(GRACE).with_key_ttl(KEY_TTL))
    }

    async fn advance(&self, by: Duration) {
        // Nobody ever pushes there.
        let seconds = by.as_secs_f64().to_string();
        let words = ["BLPOP".to_owned(), "nothing".to_owned(), seconds];
        let mut clock = self.clock.lock().await;
        clock.send(&words).await.unwrap();
        clock.receive().await.unwrap();
    }
}

async fn keeps_every_promise(url: String) {
    let clock = redis::shared().await.connect().await.unwrap();
    let clock = Mutex::new(clock);
    let failed = run(&Waiting { url, clock }, SCENARIOS).await;
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_server_keeps_every_promise() {
    let redis = redis::shared().await;
    keeps_every_promise(redis.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_that_sentinels_name_keeps_every_promise() {
    let sentinel = Sentinel::start(1).await;
    keeps_every_promise(sentinel_url(&sentinel)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_every_promise() {
    let cluster = Cluster::start(0).await;
    keeps_every_promise(cluster_url(&cluster)).await;
}
