//! A store that does what it was asked and never says so: nobody is shown as here who was told that it did not work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use fanfare_protocol::{ChannelName, Member, RawJson, SocketId};
use fanfare_server::delivery::{Departure, Members, Retention};
use fanfare_server::engine::{Engine, EngineError, PresenceStore};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::Door;
use fanfare_tests::suite;
use serde_json::json;

const ROOM: &str = "presence-room";

/// A store that loses the answer to one join.
struct Forgetful {
    store: Arc<dyn PresenceStore>,
    loses_next: AtomicBool,
}

#[async_trait]
impl PresenceStore for Forgetful {
    async fn join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        member: Member,
        retention: Retention,
    ) -> Result<(), EngineError> {
        self.store
            .join(channel, connection, member, retention)
            .await?;
        if self.loses_next.swap(false, Ordering::SeqCst) {
            return Err(EngineError::Unknown {
                engine: "forgetful",
                attempted: "joining",
            });
        }
        Ok(())
    }

    async fn update(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        info: RawJson,
        retention: Retention,
    ) -> Result<bool, EngineError> {
        let store = &self.store;
        store.update(channel, connection, info, retention).await
    }

    async fn leave(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
    ) -> Result<(), EngineError> {
        self.store.leave(channel, connection, departure).await
    }

    async fn refresh(
        &self,
        held: &[(ChannelName, SocketId)],
    ) -> Result<Vec<(ChannelName, SocketId)>, EngineError> {
        self.store.refresh(held).await
    }

    async fn members(
        &self,
        channel: &ChannelName,
        caller: Option<SocketId>,
    ) -> Result<Members, EngineError> {
        self.store.members(channel, caller).await
    }
}

#[tokio::test]
async fn who_was_refused_for_an_unknown_outcome_is_not_shown() {
    let mut engine = Engine::memory();
    engine.presence = Arc::new(Forgetful {
        store: engine.presence,
        loses_next: AtomicBool::new(true),
    });
    let server = TestServer::start(suite::builder().engine(engine)).await;
    let mut ann = Door::at(server.address).bearer("user:ann").enter().await;
    let ask = json!({ "type": "subscribe", "id": 1, "channel": ROOM });
    ann.send(ask).await;
    ann.expect(json!({ "type": "subscription_error", "id": 1, "code": 4315 }))
        .await;
    let members = server.events.presence_members(ROOM).await.unwrap();
    assert!(members.is_empty(), "{members:?}");
    let joined = ann.subscribe(ROOM).await;
    assert_eq!(joined["presence"]["count"], 1);
}
