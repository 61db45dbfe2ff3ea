//! Presence in a Redis Cluster: slots that move, and masters that are away or slow.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::ChannelName;
use fanfare_server::engine::Engine;
use fanfare_tests::eventually;
use fanfare_tests::redis::Cluster;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Node, SHORT, all_leases_end, connection, news, options_at, room, set};
use crate::redis::topologies::cluster_url;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_members_move_with_their_slot() {
    let cluster = Cluster::start(0).await;
    let options = options_at(&cluster_url(&cluster), SHORT);
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    let room = room();
    one.join(&room, connection(), "ann").await;
    two.join(&room, connection(), "ben").await;
    let slot = cluster.slot(&format!("{{{room}}}")).await;
    let from = cluster.until_owned(slot).await;
    cluster.move_slot(slot, from, (from + 1) % 3).await;
    one.join(&room, connection(), "cat").await;
    assert_eq!(two.users(&room).await, set(&["ann", "ben", "cat"]));
    two.crash().await;
    eventually("the crashed node's member to go", async || {
        one.told(&room).await.len() == 4
    })
    .await;
    let told = news(&one.told(&room).await);
    assert_eq!(told, ["+ann", "+ben", "+cat", "-ben lost"]);
    assert_eq!(one.users(&room).await, set(&["ann", "cat"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_away_costs_no_members_at_the_others() {
    const LEASE: Duration = Duration::from_secs(6);
    let mut cluster = Cluster::start(0).await;
    let mut options = options_at(&cluster_url(&cluster), LEASE);
    options.connect_deadline = Duration::from_millis(300);
    let options = options.with_budget(Duration::from_secs(20));
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    let mut rooms = Vec::new();
    for number in 0..60 {
        let room = ChannelName::new(&format!("presence-room.{number}")).unwrap();
        let slot = cluster.slot(room.as_str()).await;
        one.join(&room, connection(), "ann").await;
        rooms.push((room, cluster.until_owned(slot).await));
    }
    cluster.servers[0].kill();
    all_leases_end(&cluster.servers[1], LEASE).await;
    rooms.retain(|(_, owner)| *owner != 0);
    assert!((20..60).contains(&rooms.len()), "{rooms:?}");
    for (room, _) in &rooms {
        assert_eq!(two.users(room).await, set(&["ann"]), "{room}");
        assert_eq!(news(&two.told(room).await), ["+ann"], "{room}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_stays_half_moved_for_longer_than_a_lease_shows_nobody_as_gone() {
    const LEASE: Duration = Duration::from_secs(6);
    let cluster = Cluster::start(0).await;
    let (connect, command) = (Duration::from_millis(500), Duration::from_millis(500));
    let options = options_at(&cluster_url(&cluster), LEASE).with_deadlines(connect, command);
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    // In contact with every server all the time, and never in need of the slot.
    let stranger = Node::start(&options).await;
    let room = room();
    one.join(&room, connection(), "ann").await;
    two.join(&room, connection(), "ben").await;
    let slot = cluster.slot(room.as_str()).await;
    let from = cluster.until_owned(slot).await;
    let to = (from + 1) % 3;
    cluster.begin_move(slot, from, to).await;
    assert!(cluster.move_keys(slot, from, to, 1).await);
    all_leases_end(&cluster.servers[from], LEASE).await;
    while cluster.move_keys(slot, from, to, 10).await {}
    cluster.end_move(slot, from, to).await;
    assert_eq!(stranger.users(&room).await, set(&["ann", "ben"]));
    two.crash().await;
    eventually("the crashed node's member to go", async || {
        stranger.users(&room).await == set(&["ann"])
    })
    .await;
    let told = news(&stranger.told(&room).await);
    assert_eq!(told, ["+ann", "+ben", "-ben lost"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_left_open_keeps_nobody_who_has_gone() {
    let cluster = Cluster::start(0).await;
    let (connect, command) = (Duration::from_millis(500), Duration::from_millis(500));
    let options = options_at(&cluster_url(&cluster), SHORT).with_deadlines(connect, command);
    let (one, two) = (Node::start(&options).await, Node::start(&options).await);
    let room = room();
    one.join(&room, connection(), "ann").await;
    two.join(&room, connection(), "ben").await;
    let slot = cluster.slot(room.as_str()).await;
    let from = cluster.until_owned(slot).await;
    cluster.begin_move(slot, from, (from + 1) % 3).await;
    two.crash().await;
    eventually("the crashed node's member to go", async || {
        news(&one.told(&room).await).contains(&"-ben lost".to_owned())
    })
    .await;
    assert_eq!(one.users(&room).await, set(&["ann"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_master_costs_no_members_at_one_that_is_back() {
    const LEASE: Duration = Duration::from_secs(6);
    const SLOW_ROOMS: usize = 1_600;
    let cluster = Cluster::start(0).await;
    let (connect, command) = (Duration::from_millis(500), Duration::from_millis(1_500));
    let options = options_at(&cluster_url(&cluster), LEASE).with_deadlines(connect, command);
    let options = options.with_budget(Duration::from_secs(20));
    let (node, stranger) = (Node::start(&options).await, Node::start(&options).await);
    let room = room();
    node.join(&room, connection(), "ann").await;
    let back = cluster.until_owned(cluster.slot(room.as_str()).await).await;
    let slow = (back + 1) % 3;
    let slow_rooms = cluster.names_at(slow, "presence-slow.").take(SLOW_ROOMS);
    for name in slow_rooms {
        let room = ChannelName::new(&name).unwrap();
        node.join(&room, connection(), "bob").await;
    }
    // A round of this server takes longer than everybody has to speak to one that is back.
    let enough = CancellationToken::new();
    let slowing = async {
        let mut connection = cluster.servers[slow].connect().await.unwrap();
        while !enough.is_cancelled() {
            let slept = connection.command(&["DEBUG", "SLEEP", "0.3"]).await;
            assert!(!slept.as_ref().unwrap().is_error(), "{slept:?}");
        }
    };
    let away_and_back = async {
        let _enough = enough.clone().drop_guard();
        cluster.servers[back].pause();
        all_leases_end(&cluster.servers[3 - back - slow], LEASE).await;
        cluster.servers[back].resume();
        // From the first answer on; it takes the stranger 2.5 s until it judges.
        stranger.users(&room).await;
        let until = Instant::now() + LEASE;
        eventually("the stranger to have judged for a while", async || {
            assert_eq!(stranger.users(&room).await, set(&["ann"]));
            Instant::now() > until
        })
        .await;
        assert_eq!(news(&stranger.told(&room).await), ["+ann"]);
    };
    tokio::join!(slowing, away_and_back);
    node.crash().await;
    eventually("the stranger to take out who is gone", async || {
        stranger.users(&room).await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_may_not_ask_for_moves_is_refused_at_the_start() {
    let cluster = Cluster::start(0).await;
    let limited = "ACL SETUSER app on >secret ~* &* +@all -cluster|nodes";
    let limited: Vec<&str> = limited.split(' ').collect();
    for server in &cluster.servers {
        let set = server.command(&limited).await;
        assert!(!set.is_error(), "{set:?}");
    }
    let url = cluster_url(&cluster).replace("://", "://app:secret@");
    let engine = Engine::redis(options_at(&url, SHORT));
    let refused = engine.broker.start(Arc::new(|_| ())).await.unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("slots are on their way"), "{refused}");
    assert!(refused.contains("no permissions"), "{refused}");
    assert!(!refused.contains("secret"), "{refused}");
}
