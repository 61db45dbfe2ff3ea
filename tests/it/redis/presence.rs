//! Presence over several nodes that share a Redis.

mod cluster;
mod info;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, EventName, Link, Member, Position, RawJson, SocketId, UserId};
use fanfare_server::delivery::{Delivery, Departure, HistoryRange, Members, Retention};
use fanfare_server::engine::redis::RedisOptions;
use fanfare_server::engine::{Engine, EngineError};
use fanfare_tests::proxy::{RedisFault, RedisProxy};
use fanfare_tests::redis::{self, Redis};
use fanfare_tests::{eventually, within};
use tokio::task::JoinSet;

const KEPT: Retention = Retention::new(10_000, Duration::from_secs(300));

/// A node's engine, started. What it delivers is of no interest: the history tells the same.
struct Node(Engine);

impl Node {
    async fn start(options: &RedisOptions) -> Self {
        let engine = Engine::redis(options.clone());
        engine.broker.start(Arc::new(|_| ())).await.unwrap();
        Self(engine)
    }

    /// One that holds no connections and only asks.
    async fn publisher(options: &RedisOptions) -> Self {
        let engine = Engine::redis(options.clone());
        let deliver = Arc::new(|_| ());
        engine.broker.start_publishing(deliver).await.unwrap();
        Self(engine)
    }

    async fn join(&self, channel: &ChannelName, connection: SocketId, user: &str) {
        let joined = self.try_join(channel, connection, user).await;
        joined.unwrap();
    }

    async fn try_join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        user: &str,
    ) -> Result<(), EngineError> {
        let member = Member {
            id: UserId::new(user).unwrap(),
            info: RawJson::trusted("{}"),
        };
        let presence = &self.0.presence;
        presence.join(channel, connection, member, KEPT).await
    }

    async fn leave(&self, channel: &ChannelName, connection: SocketId, departure: Departure) {
        let left = self.0.presence.leave(channel, connection, departure).await;
        left.unwrap();
    }

    async fn members(&self, channel: &ChannelName) -> Members {
        self.0.presence.members(channel, None).await.unwrap()
    }

    async fn users(&self, channel: &ChannelName) -> BTreeSet<String> {
        users(&self.members(channel).await)
    }

    async fn told(&self, channel: &ChannelName) -> Vec<Delivery> {
        let limit = u32::MAX;
        let all = HistoryRange::After { offset: 0, limit };
        let history = self.0.broker.history(channel, all, KEPT).await;
        history.unwrap().entries
    }

    /// Ends without a word, as in a crash.
    async fn crash(self) {
        self.0.broker.close().await;
    }
}

fn options(redis: &Redis, lease: Duration) -> RedisOptions {
    options_at(&redis.url(), lease)
}

fn options_at(url: &str, lease: Duration) -> RedisOptions {
    let options: RedisOptions = url.parse().unwrap();
    options
        .with_prefix(redis::prefix("presence"))
        .unwrap()
        .with_presence_grace(Duration::from_millis(200))
        .with_presence_lease(lease)
}

/// No node that is alive ever misses it, however busy the machine is.
const PATIENT: Duration = Duration::from_secs(60);

/// Short enough to be waited for.
const SHORT: Duration = Duration::from_secs(3);

fn room() -> ChannelName {
    ChannelName::new("presence-room").unwrap()
}

fn connection() -> SocketId {
    SocketId::from_bits(fastrand::u128(..))
}

/// By the clock of a Redis.
async fn all_leases_end(redis: &Redis, lease: Duration) {
    let clock = async || {
        let time = redis.command(&["TIME"]).await.elements()[0].text();
        Duration::from_secs(time.parse().unwrap())
    };
    let over = clock().await + lease + Duration::from_secs(1);
    eventually("all leases to be over", async || clock().await > over).await;
}

fn users(members: &Members) -> BTreeSet<String> {
    let members = members.members.iter();
    members.map(|one| one.id.to_string()).collect()
}

/// `+ann` for a user who came, `-ann lost` for one who left.
fn news(told: &[Delivery]) -> Vec<String> {
    let news = told.iter().filter(|one| one.event.is_reserved());
    news.map(|delivery| {
        let data: serde_json::Value = delivery.data.decode().unwrap();
        let user = data["id"].as_str().unwrap();
        match delivery.event.as_str() {
            EventName::MEMBER_ADDED => format!("+{user}"),
            _ => format!("-{user} {}", data["reason"].as_str().unwrap()),
        }
    })
    .collect()
}

fn set(users: &[&str]) -> BTreeSet<String> {
    users.iter().map(|user| (*user).to_owned()).collect()
}

#[tokio::test]
async fn a_user_comes_and_goes_once_over_all_nodes() {
    let redis = redis::shared().await;
    let options = options(redis, PATIENT);
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    let room = room();
    let (phone, laptop) = (connection(), connection());
    one.join(&room, phone, "ann").await;
    two.join(&room, laptop, "ann").await;
    two.join(&room, connection(), "ben").await;
    one.leave(&room, phone, Departure::Goodbye).await;
    assert_eq!(one.users(&room).await, set(&["ann", "ben"]));
    two.leave(&room, laptop, Departure::Removed).await;
    let (seen_by_one, seen_by_two) = (one.told(&room).await, two.told(&room).await);
    assert_eq!(news(&seen_by_one), ["+ann", "+ben", "-ann removed"]);
    assert_eq!(news(&seen_by_two), news(&seen_by_one));
    assert_eq!(one.users(&room).await, set(&["ben"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_of_any_node_are_the_sum_of_the_messages_before_them() {
    let redis = redis::shared().await;
    let options = options(redis, PATIENT);
    let nodes = [Node::start(&options).await, Node::start(&options).await].map(Arc::new);
    let room = room();
    let mut visitors = JoinSet::new();
    for number in 0..16_usize {
        let (node, room) = (Arc::clone(&nodes[number % 2]), room.clone());
        visitors.spawn(async move {
            // Every user on both nodes.
            let user = format!("user-{}", number / 2);
            for _ in 0..20 {
                let phone = connection();
                node.join(&room, phone, &user).await;
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
    snapshots.push(nodes[0].members(&room).await);
    snapshots.sort_by_key(|snapshot| snapshot.position.offset);
    let told = nodes[1].told(&room).await;
    let mut snapshots = snapshots.into_iter().peekable();
    let mut folded = BTreeSet::new();
    let mut last = Position::start(snapshots.peek().unwrap().position.epoch);
    for delivery in &told {
        let of_now = |snapshot: &Members| snapshot.position == last;
        while let Some(snapshot) = snapshots.next_if(of_now) {
            let listed: BTreeSet<String> = snapshot
                .members
                .iter()
                .map(|one| one.id.to_string())
                .collect();
            assert_eq!(
                (listed, snapshot.count),
                (folded.clone(), folded.len() as u64)
            );
        }
        let position = delivery.position.unwrap();
        assert_eq!(last.link(position, delivery.previous), Link::Next);
        last = position;
        let data: serde_json::Value = delivery.data.decode().unwrap();
        let user = data["id"].as_str().unwrap().to_owned();
        let is_alternating = match delivery.event.as_str() {
            EventName::MEMBER_ADDED => folded.insert(user),
            _ => folded.remove(&user),
        };
        assert!(is_alternating, "{data}");
    }
    assert_eq!(folded, BTreeSet::new());
    let rest: Vec<Members> = snapshots.collect();
    assert!(
        rest.iter()
            .all(|one| one.count == 0 && one.position == last),
        "{rest:?}"
    );
}

#[tokio::test]
async fn the_members_of_a_crashed_node_go_and_nobody_else_does() {
    let redis = redis::shared().await;
    let options = options(redis, SHORT);
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    let room = room();
    one.join(&room, connection(), "ann").await;
    two.join(&room, connection(), "ben").await;
    two.join(&room, connection(), "ann").await;
    two.crash().await;
    // Nobody asks: the node that is left comes by itself.
    eventually("the crashed node's members to go", async || {
        one.told(&room).await.len() == 3
    })
    .await;
    assert_eq!(news(&one.told(&room).await), ["+ann", "+ben", "-ben lost"]);
    assert_eq!(one.users(&room).await, set(&["ann"]));
}

#[tokio::test]
async fn a_restarted_node_keeps_nothing_of_its_predecessor_alive() {
    let redis = redis::shared().await;
    let options = options(redis, SHORT);
    let room = room();
    let before = Node::start(&options).await;
    before.join(&room, connection(), "ann").await;
    before.join(&room, connection(), "ben").await;
    before.crash().await;
    let after = Node::start(&options).await;
    after.join(&room, connection(), "ann").await;
    eventually("what the first one left behind to go", async || {
        after.told(&room).await.len() == 3
    })
    .await;
    assert_eq!(
        news(&after.told(&room).await),
        ["+ann", "+ben", "-ben lost"]
    );
}

#[tokio::test]
async fn a_user_finds_itself_in_a_list_that_is_capped() {
    let redis = redis::shared().await;
    let mut options = options(redis, PATIENT);
    options.members_max = 3;
    let node = Node::start(&options).await;
    let room = room();
    let connections: Vec<SocketId> = (0..6).map(|_| connection()).collect();
    for (number, connection) in connections.iter().enumerate() {
        // Quotes and letters outside ASCII: users are kept as JSON strings.
        let user = format!("\"ü\" {number}");
        node.join(&room, *connection, &user).await;
    }
    for (number, connection) in connections.iter().enumerate() {
        let presence = &node.0.presence;
        let members = presence.members(&room, Some(*connection)).await.unwrap();
        let expected: BTreeSet<String> = [0, 1, 2, number]
            .map(|number| format!("\"ü\" {number}"))
            .into();
        assert_eq!(members.members.len(), expected.len(), "each once");
        assert_eq!((members.count, users(&members)), (6, expected));
    }
    let nobody = node.0.presence.members(&room, Some(connection())).await;
    assert_eq!(nobody.unwrap().members.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_back_after_redis_lost_everything() {
    let redis = Redis::start().await;
    // Refreshed every third of it; and so many members are joined again well within the rest.
    let options = options(&redis, Duration::from_secs(12));
    let nodes = [Node::start(&options).await, Node::start(&options).await].map(Arc::new);
    let room = room();
    let mut joins = JoinSet::new();
    // More than one batch for each node.
    for number in 0..1_200_usize {
        let (node, room) = (Arc::clone(&nodes[number % 2]), room.clone());
        let user = format!("user-{}", number % 900);
        joins.spawn(async move { node.join(&room, connection(), &user).await });
    }
    within("the joins", joins.join_all()).await;
    let before = nodes[0].members(&room).await;
    assert_eq!(before.count, 900);
    redis.command(&["FLUSHALL"]).await;
    eventually("the members to be back", async || {
        nodes[0].members(&room).await.count == 900
    })
    .await;
    let after = nodes[1].members(&room).await;
    assert_ne!(
        before.position.epoch, after.position.epoch,
        "subscribers are told"
    );
    assert_eq!(before.members, after.members);
    let told = news(&nodes[0].told(&room).await);
    assert_eq!(told.len(), 900, "everybody came back once");
}

#[tokio::test]
async fn who_is_lost_while_the_node_hands_over_may_turn_up_elsewhere_in_peace() {
    let redis = redis::shared().await;
    let options = options(redis, PATIENT);
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    let room = room();
    let (phone, tablet, other) = (connection(), connection(), connection());
    one.join(&room, phone, "ann").await;
    one.join(&room, tablet, "cat").await;
    two.join(&room, other, "ben").await;
    one.0.presence.hand_over(PATIENT).await;
    one.leave(&room, phone, Departure::Lost).await;
    // A goodbye is a goodbye.
    one.leave(&room, tablet, Departure::Goodbye).await;
    one.crash().await;
    two.leave(&room, other, Departure::Lost).await;
    eventually("a grace that began later to be over", async || {
        two.told(&room).await.len() == 5
    })
    .await;
    assert_eq!(two.users(&room).await, set(&["ann"]));
    two.join(&room, connection(), "ann").await;
    let told = news(&two.told(&room).await);
    assert_eq!(told, ["+ann", "+cat", "+ben", "-cat left", "-ben lost"]);
}

#[tokio::test]
async fn a_join_that_comes_late_is_taken_out_again() {
    let redis = Redis::start().await;
    let (connect, command) = (Duration::from_millis(200), Duration::from_millis(200));
    let options = options(&redis, SHORT)
        .with_deadlines(connect, command)
        .with_budget(Duration::from_millis(400));
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    let room = room();
    one.join(&room, connection(), "ann").await;
    two.members(&room).await;
    redis.pause();
    let abandoned = one.try_join(&room, connection(), "ben");
    let abandoned = tokio::time::timeout(Duration::from_millis(50), abandoned).await;
    assert!(abandoned.is_err(), "the caller went away");
    let unanswered = one.try_join(&room, connection(), "cat").await;
    assert!(
        matches!(unanswered, Err(EngineError::Unknown { .. })),
        "{unanswered:?}"
    );
    redis.resume();
    eventually("the late joins to be taken out", async || {
        two.told(&room).await.len() == 5
    })
    .await;
    // Not because their leases were over.
    let told = news(&two.told(&room).await);
    assert_eq!(told[..3], ["+ann", "+ben", "+cat"]);
    let left: BTreeSet<String> = told[3..].iter().cloned().collect();
    assert_eq!(left, set(&["-ben removed", "-cat removed"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_away_for_longer_than_a_lease_shows_nobody_as_gone() {
    const LEASE: Duration = Duration::from_secs(6);
    let redis = Redis::start().await;
    let (connect, command) = (Duration::from_millis(300), Duration::from_millis(300));
    let options = options(&redis, LEASE)
        .with_deadlines(connect, command)
        .with_budget(Duration::from_secs(1));
    let nodes = [Node::start(&options).await, Node::start(&options).await];
    let room = room();
    let phone = connection();
    nodes[0].join(&room, phone, "ann").await;
    nodes[1].join(&room, connection(), "ben").await;
    let elsewhere = ChannelName::new("presence-elsewhere").unwrap();
    let bystander = Node::start(&options).await;
    bystander.join(&elsewhere, connection(), "dan").await;
    let publisher = Node::publisher(&options).await;
    publisher.members(&room).await;
    redis.pause();
    all_leases_end(redis::shared().await, LEASE).await;
    redis.resume();
    // Whoever comes new, and whoever asks first, finds both of them.
    let asker = Node::start(&options).await;
    for node in [&asker, &publisher, &bystander].into_iter().chain(&nodes) {
        let mut found = None;
        eventually("Redis to answer", async || {
            found = node.0.presence.members(&room, None).await.ok();
            found.is_some()
        })
        .await;
        assert_eq!(users(&found.unwrap()), set(&["ann", "ben"]));
    }
    all_leases_end(&redis, LEASE).await;
    assert_eq!(asker.users(&room).await, set(&["ann", "ben"]));
    assert_eq!(news(&asker.told(&room).await), ["+ann", "+ben"]);
    // And who is silent goes, as ever.
    let [one, two] = nodes;
    two.crash().await;
    eventually("the crashed node's member to go", async || {
        one.told(&room).await.len() == 3
    })
    .await;
    assert_eq!(news(&one.told(&room).await)[2], "-ben lost");
}

/// The node itself is cut off until everybody else has asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_first_after_an_outage_takes_nobody_out() {
    const AGES: Duration = Duration::from_secs(30);
    let redis = Redis::start().await;
    let proxy = RedisProxy::start(redis.address(), 1).await.unwrap();
    let direct = options(&redis, SHORT);
    let through = options_at(&format!("redis://{}", proxy.address()), SHORT);
    let node = Node::start(&through.with_prefix(&direct.prefix).unwrap()).await;
    let room = room();
    node.join(&room, connection(), "ann").await;
    let publisher = Node::publisher(&direct).await;
    assert_eq!(publisher.users(&room).await, set(&["ann"]));
    proxy.plant(RedisFault::Refuse, u64::MAX, "");
    proxy.cut_all();
    all_leases_end(&redis, SHORT).await;
    // It gives everybody the time to speak that a slow call of theirs might take.
    let newcomer = Node::start(&direct.clone().with_deadlines(AGES, AGES)).await;
    for asker in [&publisher, &newcomer] {
        assert_eq!(asker.users(&room).await, set(&["ann"]));
    }
    let phone = connection();
    newcomer.join(&room, phone, "ben").await;
    newcomer.leave(&room, phone, Departure::Goodbye).await;
    assert_eq!(newcomer.users(&room).await, set(&["ann"]));
    proxy.plant(RedisFault::Refuse, 0, "");
    all_leases_end(&redis, SHORT).await;
    let told = news(&publisher.told(&room).await);
    assert_eq!(told, ["+ann", "+ben", "-ben left"]);
    assert_eq!(publisher.users(&room).await, set(&["ann"]));
    // And who crashes then goes, also when nobody but a publisher asks.
    node.crash().await;
    newcomer.crash().await;
    let _other = Node::start(&direct).await;
    eventually("the crashed node's member to go", async || {
        publisher.users(&room).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_redis_without_memory_throws_nobody_out() {
    let redis = Redis::start().await;
    let options = options(&redis, SHORT).with_budget(Duration::from_millis(200));
    let node = Node::start(&options).await;
    let room = room();
    let phone = connection();
    node.join(&room, connection(), "ann").await;
    node.join(&room, phone, "ben").await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = node.try_join(&room, connection(), "cat").await;
    assert!(
        matches!(refused, Err(EngineError::Full { .. })),
        "{refused:?}"
    );
    all_leases_end(&redis, SHORT).await;
    assert_eq!(news(&node.told(&room).await), ["+ann", "+ben"]);
    node.leave(&room, phone, Departure::Lost).await;
    eventually("who is lost to go all the same", async || {
        node.told(&room).await.len() == 3
    })
    .await;
    assert_eq!(node.users(&room).await, set(&["ann"]));
}

#[tokio::test]
async fn what_presence_keeps_in_redis_ends_by_itself() {
    let redis = redis::shared().await;
    let options = options(redis, PATIENT);
    let node = Node::start(&options).await;
    let room = room();
    let phone = connection();
    node.join(&room, phone, "ann").await;
    let names = ["m", "s", "pc", "px", "pi", "pm"];
    let keys = names.map(|name| format!("{}{{presence-room}}:{name}", options.prefix));
    for key in &keys {
        let left = redis.command(&["PTTL", key]).await.number().unwrap();
        assert!(left > 0, "{key} lives for {left} ms");
    }
    node.leave(&room, phone, Departure::Goodbye).await;
    for (key, is_left) in keys.iter().zip([1, 1, 0, 0, 0, 0]) {
        let exists = redis.command(&["EXISTS", key]).await;
        assert_eq!(exists.number(), Some(is_left), "{key}");
    }
}
