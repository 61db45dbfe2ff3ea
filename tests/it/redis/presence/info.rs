//! Which info of a member is shown, on several nodes that share a Redis.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, EventName, Member, RawJson, SocketId, UserId};
use fanfare_server::delivery::{Delivery, Departure, Members};
use fanfare_server::engine::EngineError;
use fanfare_tests::eventually;
use fanfare_tests::redis::{self, Redis};
use tokio::task::JoinSet;

use super::{KEPT, Node, PATIENT, SHORT, connection, options, room};

impl Node {
    async fn join_with(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        user: &str,
        info: impl ToString,
    ) {
        let member = Member {
            id: UserId::new(user).unwrap(),
            info: RawJson::trusted(info.to_string()),
        };
        let joined = self.0.presence.join(channel, connection, member, KEPT);
        joined.await.unwrap();
    }

    async fn try_update(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        info: impl ToString,
    ) -> Result<bool, EngineError> {
        let info = RawJson::trusted(info.to_string());
        let presence = &self.0.presence;
        presence.update(channel, connection, info, KEPT).await
    }

    async fn update(&self, channel: &ChannelName, connection: SocketId, info: impl ToString) {
        let is_here = self.try_update(channel, connection, info).await;
        assert!(is_here.unwrap(), "the connection is here");
    }

    async fn infos(&self, channel: &ChannelName) -> BTreeMap<String, String> {
        infos(&self.members(channel).await)
    }
}

fn infos(members: &Members) -> BTreeMap<String, String> {
    let members = members.members.iter();
    members
        .map(|one| (one.id.to_string(), one.info.as_str().to_owned()))
        .collect()
}

/// `+ann 1` for a user who came, `ann 2` for an info that is shown instead, `-ann lost` for a user who left.
fn news(told: &[Delivery]) -> Vec<String> {
    let news = told.iter().filter(|one| one.event.is_reserved());
    news.map(|delivery| {
        let data: serde_json::Value = delivery.data.decode().unwrap();
        let user = data["id"].as_str().unwrap();
        match delivery.event.as_str() {
            EventName::MEMBER_ADDED => format!("+{user} {}", data["info"]),
            EventName::MEMBER_UPDATED => format!("{user} {}", data["info"]),
            _ => format!("-{user} {}", data["reason"].as_str().unwrap()),
        }
    })
    .collect()
}

/// The infos that messages leave behind.
fn folded<'a>(told: impl IntoIterator<Item = &'a Delivery>) -> BTreeMap<String, String> {
    let mut folded = BTreeMap::new();
    for delivery in told {
        let data: serde_json::Value = delivery.data.decode().unwrap();
        let user = data["id"].as_str().unwrap().to_owned();
        match delivery.event.as_str() {
            EventName::MEMBER_REMOVED => {
                assert!(folded.remove(&user).is_some(), "{user} was not here");
            }
            event => {
                let before = folded.insert(user, data["info"].to_string());
                let is_added = event == EventName::MEMBER_ADDED;
                assert_eq!(before.is_none(), is_added, "{data}");
                assert_ne!(before, Some(data["info"].to_string()), "{data} is no news");
            }
        }
    }
    folded
}

#[tokio::test]
async fn a_second_tab_with_another_info_is_told_once_on_all_nodes() {
    let redis = redis::shared().await;
    let options = options(redis, PATIENT);
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    let room = room();
    let (phone, laptop) = (connection(), connection());
    one.join_with(&room, phone, "ann", 1).await;
    two.join_with(&room, laptop, "ann", 2).await;
    two.join_with(&room, connection(), "ben", 1).await;
    for node in [&one, &two] {
        let told = node.told(&room).await;
        assert_eq!(news(&told), ["+ann 1", "ann 2", "+ben 1"]);
        assert_eq!(node.infos(&room).await, folded(&told));
    }
    // The same once more is nothing new, and what is not shown goes unnoticed.
    two.update(&room, laptop, 2).await;
    one.join_with(&room, phone, "ann", 1).await;
    one.leave(&room, phone, Departure::Goodbye).await;
    one.join_with(&room, phone, "ann", 3).await;
    two.update(&room, laptop, 4).await;
    two.leave(&room, laptop, Departure::Removed).await;
    let told = two.told(&room).await;
    assert_eq!(news(&told)[3..], ["ann 3", "ann 4", "ann 3"]);
    for node in [&one, &two] {
        assert_eq!(node.infos(&room).await, folded(&told));
    }
    let nowhere = two.try_update(&room, laptop, 5).await;
    assert!(!nowhere.unwrap(), "it has left");
    assert_eq!(two.told(&room).await.len(), told.len());
}

#[tokio::test]
async fn who_is_back_on_another_node_within_the_grace_shows_its_new_info() {
    let redis = redis::shared().await;
    let options = options(redis, PATIENT);
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    let room = room();
    let (before, after) = (connection(), connection());
    one.join_with(&room, before, "ann", 1).await;
    one.0.presence.hand_over(PATIENT).await;
    one.leave(&room, before, Departure::Lost).await;
    two.join_with(&room, after, "ann", 2).await;
    two.leave(&room, after, Departure::Goodbye).await;
    // The lost one is still here, and shown again.
    assert_eq!(two.infos(&room).await["ann"], "1");
    two.join_with(&room, after, "ann", 1).await;
    let told = two.told(&room).await;
    assert_eq!(news(&told), ["+ann 1", "ann 2", "ann 1"]);
    assert_eq!(one.infos(&room).await, folded(&told));
}

#[tokio::test]
async fn when_the_shown_connection_expires_the_other_one_is_shown() {
    let redis = redis::shared().await;
    let options = options(redis, SHORT);
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    let room = room();
    let (phone, laptop) = (connection(), connection());
    one.join_with(&room, phone, "ann", 1).await;
    two.join_with(&room, laptop, "ann", 2).await;
    two.join_with(&room, connection(), "ann", 3).await;
    // Over its grace at one node, and by the end of its node.
    one.join_with(&room, connection(), "ben", 1).await;
    two.crash().await;
    eventually("the crashed node's connections to go", async || {
        one.infos(&room).await["ann"] == "1"
    })
    .await;
    let told = one.told(&room).await;
    assert_eq!(one.infos(&room).await, folded(&told));
    let later = connection();
    one.join_with(&room, later, "ann", 4).await;
    one.leave(&room, later, Departure::Lost).await;
    assert_eq!(one.infos(&room).await["ann"], "4", "within its grace");
    eventually("the grace to end", async || {
        news(&one.told(&room).await).ends_with(&["ann 4".to_owned(), "ann 1".to_owned()])
    })
    .await;
    assert_eq!(one.infos(&room).await["ann"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_put_back_with_their_present_info() {
    let redis = Redis::start().await;
    let options = options(&redis, Duration::from_secs(6));
    let nodes = [Node::start(&options).await, Node::start(&options).await];
    let room = room();
    let (phone, laptop, tablet) = (connection(), connection(), connection());
    nodes[0].join_with(&room, phone, "ann", 1).await;
    nodes[1].join_with(&room, laptop, "ben", 1).await;
    nodes[1].join_with(&room, tablet, "cat", 1).await;
    nodes[0].update(&room, phone, 2).await;
    nodes[1].update(&room, laptop, 2).await;
    let before = nodes[0].members(&room).await;
    redis.command(&["FLUSHALL"]).await;
    // An update finds the place that Redis has forgotten, and puts it back itself.
    nodes[1].update(&room, laptop, 3).await;
    eventually("the members to be back", async || {
        nodes[0].members(&room).await.count == 3
    })
    .await;
    let after = nodes[1].members(&room).await;
    assert_ne!(before.position.epoch, after.position.epoch);
    let expected = [("ann", "2"), ("ben", "3"), ("cat", "1")];
    let expected = expected.map(|(user, info)| (user.to_owned(), info.to_owned()));
    assert_eq!(infos(&after), expected.into());
    assert_eq!(folded(&nodes[0].told(&room).await), infos(&after));
}

#[tokio::test]
async fn a_redis_without_memory_updates_nobody() {
    let redis = Redis::start().await;
    let options = options(&redis, SHORT).with_budget(Duration::from_millis(200));
    let node = Node::start(&options).await;
    let room = room();
    let phone = connection();
    node.join_with(&room, phone, "ann", 1).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = node.try_update(&room, phone, 2).await;
    assert!(
        matches!(refused, Err(EngineError::Full { .. })),
        "{refused:?}"
    );
    assert_eq!(node.infos(&room).await["ann"], "1");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    redis.command(&["FLUSHALL"]).await;
    eventually("the member to be back", async || {
        node.members(&room).await.count == 1
    })
    .await;
    assert_eq!(
        node.infos(&room).await["ann"],
        "1",
        "what was refused is not shown"
    );
    assert_eq!(news(&node.told(&room).await), ["+ann 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn infos_of_any_nodes_list_are_the_sum_of_the_messages_before_it() {
    let redis = redis::shared().await;
    let options = options(redis, PATIENT);
    let nodes = [Node::start(&options).await, Node::start(&options).await].map(Arc::new);
    let room = room();
    let mut visitors = JoinSet::new();
    for number in 0..12_usize {
        let (node, room) = (Arc::clone(&nodes[number % 2]), room.clone());
        visitors.spawn(async move {
            let user = format!("user-{}", number / 4);
            for round in 0..10 {
                let phone = connection();
                node.join_with(&room, phone, &user, number).await;
                node.update(&room, phone, round).await;
                node.leave(&room, phone, Departure::Goodbye).await;
            }
        });
    }
    let mut snapshots = Vec::new();
    while !visitors.is_empty() {
        for node in &nodes {
            snapshots.push(node.members(&room).await);
        }
        while let Some(visitor) = visitors.try_join_next() {
            visitor.unwrap();
        }
    }
    let told = nodes[1].told(&room).await;
    for snapshot in &snapshots {
        let before = told.iter().filter(|one| {
            let position = one.position.unwrap();
            position.offset <= snapshot.position.offset
        });
        assert_eq!(infos(snapshot), folded(before));
    }
    let is_update = |one: &&Delivery| one.event.as_str() == EventName::MEMBER_UPDATED;
    assert!(
        told.iter().filter(is_update).count() > 10,
        "{:?}",
        news(&told)
    );
}
