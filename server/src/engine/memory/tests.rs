//! What is particular to the memory engine; what every engine promises is in the contract suite.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_protocol::position::OFFSET_MAX;
use fanfare_protocol::{EventName, IdempotencyKey, Position, RawJson, UserId};
use tokio::time::{Instant, advance};

use super::*;

/// An engine with what it delivered counted.
async fn started(options: MemoryOptions) -> (MemoryEngine, Arc<AtomicUsize>) {
    let engine = MemoryEngine::new(options);
    let delivered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&delivered);
    let deliver: Deliver = Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    engine.start(deliver).await.unwrap();
    (engine, delivered)
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn publication(name: &str, bytes: usize) -> Publication {
    let data = format!("\"{}\"", "x".repeat(bytes));
    Publication::new(
        channel(name),
        EventName::new("e").unwrap(),
        RawJson::trusted(data),
    )
}

fn keyed(name: &str, key: &str) -> Publication {
    publication(name, 1).with_key(IdempotencyKey::new(key).unwrap())
}

fn member(id: &str) -> Member {
    Member {
        id: UserId::new(id).unwrap(),
        info: RawJson::null(),
    }
}

const KEPT: Retention = Retention::new(1_000, Duration::from_mins(5));

const ALL: HistoryRange = HistoryRange::After {
    offset: 0,
    limit: u32::MAX,
};

/// Channels and bytes held by all shards.
fn held(engine: &MemoryEngine) -> (usize, usize) {
    let shards = engine.stores.slots.iter();
    shards.fold((0, 0), |(channels, bytes), slot| {
        let held = lock(&slot.shard).held();
        (channels + held.0, bytes + held.1)
    })
}

async fn position(engine: &MemoryEngine, name: &str) -> Position {
    let last = HistoryRange::Last { limit: 0 };
    engine
        .history(&channel(name), last, KEPT)
        .await
        .unwrap()
        .top
}

/// Sweeps happen every 10 s; the paused clock runs on while nothing else is to do.
async fn pass(time: Duration) {
    advance(time).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
}

#[tokio::test(start_paused = true)]
async fn live_only_channels_leave_nothing_behind() {
    let (engine, delivered) = started(MemoryOptions::default()).await;
    for index in 0..100_000 {
        let once = publication(&format!("once.{index}"), 10);
        engine.publish(once, Retention::NONE).await.unwrap();
    }
    assert_eq!(delivered.load(Ordering::Relaxed), 100_000);
    assert_eq!(held(&engine), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_channels_history_is_bounded_in_bytes() {
    let options = MemoryOptions::default().with_channel_bytes_max(10_000);
    let (engine, _) = started(options).await;
    for _ in 0..100 {
        engine.publish(publication("c", 1_000), KEPT).await.unwrap();
    }
    let (_, bytes) = held(&engine);
    assert!(bytes <= 10_000, "{bytes}");
    let history = engine.history(&channel("c"), ALL, KEPT).await.unwrap();
    assert!((5..10).contains(&history.entries.len()));
    assert_eq!(history.entries.last().unwrap().position, Some(history.top));

    engine
        .publish(publication("c", 50_000), KEPT)
        .await
        .unwrap();
    let history = engine.history(&channel("c"), ALL, KEPT).await.unwrap();
    assert_eq!(history.entries.len(), 1, "the newest message always stays");
}

#[tokio::test(start_paused = true)]
async fn full_memory_takes_the_quietest_history_and_leaves_its_position() {
    let options = MemoryOptions::default().with_history_bytes_max(SHARDS * 100_000);
    let (engine, _) = started(options).await;
    engine
        .publish(publication("quiet", 100), KEPT)
        .await
        .unwrap();
    let before = position(&engine, "quiet").await;
    for index in 0..2_000 {
        advance(Duration::from_millis(1)).await;
        let busy = publication(&format!("busy.{index}"), 5_000);
        engine.publish(busy, KEPT).await.unwrap();
        let (_, bytes) = held(&engine);
        assert!(bytes <= SHARDS * 100_000, "{bytes}");
    }
    let history = engine.history(&channel("quiet"), ALL, KEPT).await.unwrap();
    assert!(history.entries.is_empty());
    assert_eq!(history.top, before, "whoever was up to date still is");
    let newest = engine
        .history(&channel("busy.1999"), ALL, KEPT)
        .await
        .unwrap();
    assert_eq!(newest.entries.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn too_many_channels_take_the_quietest_that_nobody_uses() {
    let options = MemoryOptions::default().with_channels_max(SHARDS * 8);
    let (engine, _) = started(options).await;
    engine.set_interest(&channel("wanted"), KEPT, true);
    engine
        .publish(publication("wanted", 1), KEPT)
        .await
        .unwrap();
    let inhabited = channel("presence-inhabited");
    let connection = SocketId::from_bits(1);
    engine
        .join(&inhabited, connection, member("ann"), KEPT)
        .await
        .unwrap();
    engine
        .publish(publication("unused", 1), KEPT)
        .await
        .unwrap();
    let unused = position(&engine, "unused").await;
    for index in 0..10_000 {
        advance(Duration::from_millis(1)).await;
        let busy = publication(&format!("busy.{index}"), 1);
        engine.publish(busy, KEPT).await.unwrap();
        assert!(held(&engine).0 <= SHARDS * 8);
    }
    assert_eq!(position(&engine, "wanted").await.offset, 1);
    assert_eq!(engine.members(&inhabited, None).await.unwrap().count, 1);
    assert_ne!(position(&engine, "unused").await.epoch, unused.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_shard_full_of_channels_in_use_refuses_one_more() {
    let options = MemoryOptions::default().with_channels_max(1);
    let (engine, _) = started(options).await;
    let mut refused = 0;
    for index in 0..100 {
        let name = format!("used.{index}");
        engine.set_interest(&channel(&name), KEPT, true);
        match engine.publish(publication(&name, 1), KEPT).await {
            Ok(_) => {}
            Err(EngineError::Full { limit: 1, .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(held(&engine).0, 100 - refused);
    assert!(refused >= 100 - SHARDS);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_channel_loses_its_history_first_and_its_position_later() {
    let (engine, _) = started(MemoryOptions::default()).await;
    engine.publish(publication("c", 100), KEPT).await.unwrap();
    let stood = lock(&engine.stores.slot(&channel("c")).shard)
        .channel(&channel("c"))
        .unwrap()
        .position();
    pass(KEPT.ttl).await;
    assert_eq!(held(&engine), (1, 0), "swept without a reader");
    pass(KEPT.ttl * 9).await;
    assert_eq!(held(&engine), (0, 0));
    assert_ne!(position(&engine, "c").await.epoch, stood.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_wanted_channel_keeps_its_position_however_quiet_it_is() {
    let (engine, _) = started(MemoryOptions::default()).await;
    engine.set_interest(&channel("c"), KEPT, true);
    engine.publish(publication("c", 100), KEPT).await.unwrap();
    let stood = position(&engine, "c").await;
    pass(KEPT.ttl * 100).await;
    assert_eq!(position(&engine, "c").await, stood);
    engine.set_interest(&channel("c"), KEPT, false);
    pass(KEPT.ttl * 10).await;
    assert_eq!(held(&engine), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_channel_keeps_its_members() {
    let (engine, _) = started(MemoryOptions::default()).await;
    let name = channel("presence-c");
    let ann = engine.join(&name, SocketId::from_bits(1), member("ann"), KEPT);
    ann.await.unwrap();
    pass(KEPT.ttl * 100).await;
    assert_eq!(held(&engine), (1, 0));
    assert_eq!(engine.members(&name, None).await.unwrap().count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_history_gives_its_bytes_back() {
    let (engine, _) = started(MemoryOptions::default()).await;
    engine.publish(publication("c", 100), KEPT).await.unwrap();
    engine.clear_history(&channel("c")).await.unwrap();
    assert_eq!(held(&engine), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_idempotency_keys_are_forgotten_when_there_are_too_many() {
    let options = MemoryOptions::default().with_keys_max(SHARDS * 10);
    let (engine, delivered) = started(options).await;
    for index in 0..11 {
        let fresh = engine.publish(keyed("c", &format!("k{index}")), Retention::NONE);
        assert!(!fresh.await.unwrap().is_duplicate);
    }
    assert!(
        engine
            .publish(keyed("c", "k1"), KEPT)
            .await
            .unwrap()
            .is_duplicate
    );
    assert!(
        !engine
            .publish(keyed("c", "k0"), KEPT)
            .await
            .unwrap()
            .is_duplicate
    );
    assert_eq!(delivered.load(Ordering::Relaxed), 12);
    let shard = lock(&engine.stores.slot(&channel("c")).shard).sweep(Instant::now());
    assert_eq!(shard.keys, 2, "what went early is counted");
}

#[tokio::test(start_paused = true)]
async fn offsets_end_below_2_to_the_53_and_start_over_in_a_new_epoch() {
    let (engine, _) = started(MemoryOptions::default()).await;
    engine.set_interest(&channel("c"), KEPT, true);
    let first = position(&engine, "c").await;
    lock(&engine.stores.slot(&channel("c")).shard)
        .channel(&channel("c"))
        .unwrap()
        .skip_to(OFFSET_MAX - 1);
    let last = engine.publish(publication("c", 1), KEPT).await.unwrap();
    assert_eq!(last.position.unwrap().offset, OFFSET_MAX);
    assert_eq!(last.position.unwrap().epoch, first.epoch);
    let next = engine.publish(publication("c", 1), KEPT).await.unwrap();
    assert_eq!(next.position.unwrap().offset, 1);
    assert_ne!(next.position.unwrap().epoch, first.epoch);
    let history = engine.history(&channel("c"), ALL, KEPT).await.unwrap();
    assert_eq!(history.entries.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_large_channel_lists_some_members_and_counts_all() {
    let (engine, _) = started(MemoryOptions::default()).await;
    let name = channel("presence-large");
    for index in 0..1_500 {
        let connection = SocketId::from_bits(index);
        let member = member(&format!("user-{index:04}"));
        engine.join(&name, connection, member, KEPT).await.unwrap();
    }
    let members = engine.members(&name, None).await.unwrap();
    assert_eq!(members.count, 1_500);
    assert_eq!(members.members.len(), 1_000);
    assert_eq!(members.members[999].id.as_str(), "user-0999");
    for (index, listed) in [(7, 1_000), (999, 1_000), (1_000, 1_001), (1_499, 1_001)] {
        let caller = Some(SocketId::from_bits(index));
        let members = engine.members(&name, caller).await.unwrap();
        assert_eq!((members.count, members.members.len()), (1_500, listed));
        let own = format!("user-{index:04}");
        let found = members.members.iter().filter(|one| one.id.as_str() == own);
        assert_eq!(found.count(), 1, "{own} finds itself once");
    }
    let stranger = Some(SocketId::from_bits(9_999));
    let members = engine.members(&name, stranger).await.unwrap();
    assert_eq!(members.members.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn nothing_works_before_start_or_after_close() {
    let engine = MemoryEngine::new(MemoryOptions::default());
    let refused = engine.publish(publication("c", 1), KEPT).await.unwrap_err();
    assert!(matches!(refused, EngineError::Unavailable { .. }));
    engine.close().await;

    let (engine, _) = started(MemoryOptions::default()).await;
    assert!(engine.start(Arc::new(|_| {})).await.is_err(), "only once");
    let connection = SocketId::from_bits(1);
    let name = channel("presence-c");
    engine
        .join(&name, connection, member("ann"), KEPT)
        .await
        .unwrap();
    engine
        .leave(&name, connection, Departure::Lost)
        .await
        .unwrap();
    engine.close().await;
    assert!(engine.tasks.is_empty());
    let refused = engine.members(&name, None).await.unwrap_err();
    assert!(matches!(refused, EngineError::Unavailable { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_waits_for_the_delivery_that_is_under_way() {
    let engine = Arc::new(MemoryEngine::new(MemoryOptions::default()));
    let (stop, begun) = (engine.stores.stop.clone(), Arc::new(Notify::new()));
    let (log, begin) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&begun));
    let delivered = Arc::clone(&log);
    let deliver: Deliver = Arc::new(move |_| {
        begin.notify_one();
        while !stop.is_cancelled() {
            std::thread::yield_now();
        }
        // Time enough for a close that does not wait.
        (0..10_000).for_each(|_| std::thread::yield_now());
        lock(&delivered).push("delivered");
    });
    engine.start(deliver).await.unwrap();
    let publisher = Arc::clone(&engine);
    let published = tokio::spawn(async move { publisher.publish(publication("c", 1), KEPT).await });
    begun.notified().await;
    engine.close().await;
    lock(&log).push("closed");
    published.await.unwrap().unwrap();
    assert_eq!(*lock(&log), ["delivered", "closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_engine_takes_its_task_along() {
    let (engine, _) = started(MemoryOptions::default()).await;
    let stores = Arc::downgrade(&engine.stores);
    let tasks = engine.tasks.clone();
    drop(engine);
    tasks.wait().await;
    assert!(stores.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_a_message_is_remembered_as_long_as_it_has_subscribers() {
    let (engine, _) = started(MemoryOptions::default()).await;
    let mut most = 0;
    for index in 0..90_000 {
        let name = format!("visited.{index}");
        engine.set_interest(&channel(&name), KEPT, true);
        position(&engine, &name).await;
        engine.set_interest(&channel(&name), KEPT, false);
        if index % 1_000 == 0 {
            most = most.max(held(&engine).0);
        }
    }
    assert!(most <= 10 * SHARDS, "{most} channels are held by nobody");
    for index in 0..90_000 {
        let name = format!("crowded.{index}");
        engine.set_interest(&channel(&name), KEPT, true);
        position(&engine, &name).await;
    }
    let (channels, _) = held(&engine);
    assert!(channels >= 90_000);
    for index in 0..90_000 {
        engine.set_interest(&channel(&format!("crowded.{index}")), KEPT, false);
    }
    pass(Duration::ZERO).await;
    assert_eq!(held(&engine), (0, 0));
    let slots = &engine.stores.slots;
    let room: usize = slots.iter().map(|slot| lock(&slot.shard).room()).sum();
    assert!(room <= SHARDS * 4_096, "room for {room} channels is kept");
    // Reading alone, without subscribing, leaves nothing either.
    position(&engine, "read").await;
    engine
        .members(&channel("presence-read"), None)
        .await
        .unwrap();
    assert_eq!(held(&engine), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_to_a_channel_without_a_message_finds_it_as_it_was() {
    let (engine, _) = started(MemoryOptions::default()).await;
    engine.set_interest(&channel("c"), KEPT, true);
    let before = position(&engine, "c").await;
    engine.set_interest(&channel("c"), KEPT, false);
    pass(Duration::from_hours(1)).await;
    assert_eq!(held(&engine), (0, 0));
    assert_eq!(position(&engine, "c").await, before);
    let first = engine.publish(publication("c", 1), KEPT).await.unwrap();
    assert_eq!(first.position.unwrap().epoch, before.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_position_before_messages_that_are_forgotten_never_comes_again() {
    let (engine, _) = started(MemoryOptions::default()).await;
    let before = position(&engine, "c").await;
    let subscribed = channel("subscribed");
    engine.set_interest(&subscribed, KEPT, true);
    let standing = position(&engine, "subscribed").await;
    engine.publish(publication("c", 100), KEPT).await.unwrap();
    pass(KEPT.ttl * 10).await;
    assert_ne!(position(&engine, "c").await.epoch, before.epoch);
    // Who has subscribers stands where it stood.
    assert_eq!(position(&engine, "subscribed").await, standing);

    let before = position(&engine, "d").await;
    engine.publish(publication("d", 100), KEPT).await.unwrap();
    engine.clear_history(&channel("d")).await.unwrap();
    pass(KEPT.ttl * 10).await;
    assert_eq!(held(&engine).0, 1, "the subscribed one");
    assert_ne!(position(&engine, "d").await.epoch, before.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_presence_channel_without_a_history_of_its_own_is_forgotten_soon() {
    let (engine, _) = started(MemoryOptions::default()).await;
    let (name, connection) = (channel("presence-c"), SocketId::from_bits(1));
    let join = engine.join(&name, connection, member("ann"), KEPT.for_presence());
    join.await.unwrap();
    let left = engine.leave(&name, connection, Departure::Goodbye);
    left.await.unwrap();
    pass(KEPT.ttl * 2).await;
    assert_eq!(held(&engine), (0, 0));
}
