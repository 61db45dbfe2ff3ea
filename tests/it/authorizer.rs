//! An authorizer that is slow for some is not slow for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fanfare_server::auth::{Authorizer, Caller, Credentials, Denied, Grant, Identity};
use fanfare_server::protocol::{ChannelName, UserId};
use fanfare_server::{Limits, Server};
use fanfare_tests::eventually;
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use serde_json::json;

/// Answers at once, except about channels that begin with `stuck-`: there its database hangs.
#[derive(Clone, Default)]
struct HalfStuck {
    stuck: Arc<AtomicUsize>,
}

#[async_trait]
impl Authorizer for HalfStuck {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        let token = credentials.token.ok_or(Denied::NoCredentials)?;
        let user = UserId::new(token.expose()).map_err(|_| Denied::refused("no user"))?;
        Ok(Identity::new(user))
    }

    async fn subscribe(&self, _: &Caller, channel: &ChannelName) -> Result<Grant, Denied> {
        if channel.as_str().starts_with("stuck-") {
            self.stuck.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
        Ok(Grant::default())
    }
}

#[tokio::test]
async fn connections_that_wait_for_a_stuck_authorizer_delay_nobody_else() {
    let authorizer = HalfStuck::default();
    let builder = Server::builder()
        .authorizer(authorizer.clone())
        .allow_anonymous();
    let server = TestServer::start(builder).await;
    let mut attackers = Vec::new();
    for _ in 0..60 {
        let mut attacker = Socket::connect(server.address).await;
        for number in 0..Limits::default().channels_max {
            let subscribe = json!({ "type": "subscribe", "channel": format!("stuck-{number}") });
            attacker.send(subscribe).await;
        }
        attackers.push(attacker);
    }
    eventually("the authorizer to be busy", async || {
        authorizer.stuck.load(Ordering::Relaxed) >= 240
    })
    .await;
    let mut slowest = Duration::ZERO;
    for number in 0..50 {
        let begun = Instant::now();
        let user = format!("victim-{number}");
        let mut victim = Door::at(server.address).bearer(&user).enter().await;
        victim.subscribe("quick").await;
        slowest = slowest.max(begun.elapsed());
    }
    println!("slowest connect and subscribe beside 6,000 stuck calls: {slowest:?}");
    assert!(
        authorizer.stuck.load(Ordering::Relaxed) >= 240,
        "it was busy all the time"
    );
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}
