//! Random histories of presence over several nodes, on the real scripts in a real Redis whose clock the test moves.

mod faults;
mod ledger;
mod room;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_protocol::{ChannelName, Member, RawJson, SocketId, UserId};
use fanfare_server::delivery::Retention;
use fanfare_server::engine::redis::RedisOptions;
use fanfare_server::engine::redis::scripted::{Next, ScriptedPresence};
use fanfare_tests::redis::{self, Redis};
use tokio::task::JoinSet;

use self::faults::{FAULTS, Fault};
use self::room::Outcome;
use self::world::World;

/// Random runs, unless `FANFARE_MODEL_SEEDS` says more.
const SEEDS: u64 = 50;
const STEPS: u64 = 400;

/// Runs at the same time: most of the time is spent on the way to Redis and back.
const WORKERS: usize = 4;

/// Scripts that take the time from a key beside the channel's position, with a fault in them or without.
fn scripts(redis: &Redis, prefix: &str, fault: Option<&Fault>) -> ScriptedPresence {
    let options: RedisOptions = redis.url().parse().unwrap();
    let options = options.with_prefix(prefix).unwrap();
    ScriptedPresence::new(options, |name, text| edit(name, text, fault))
}

fn edit(name: &'static str, text: String, fault: Option<&Fault>) -> String {
    let clock =
        "local time = redis.call('TIME')\n  return time[1] * 1000 + math.floor(time[2] / 1000)";
    let mut edited = text.replace(
        clock,
        "return tonumber(redis.call('GET', KEYS[1] .. ':clock'))",
    );
    if !name.starts_with("presence_") {
        return edited;
    }
    assert_ne!(edited, text, "{name} reads the time as expected");
    for (from, to) in fault.map_or(&[][..], |fault| fault.edits) {
        let script = fault.map_or("", |fault| fault.script);
        if script.is_empty() || script == name {
            assert_eq!(
                edited.matches(from).count(),
                1,
                "{from:?} stands in {name} once"
            );
            edited = edited.replace(from, to);
        }
    }
    edited
}

async fn run(
    redis: &Redis,
    prefix: &str,
    fault: Option<&Fault>,
    seed: u64,
    steps: u64,
) -> Outcome<u64> {
    let connection = redis.connect().await.unwrap();
    let newcomer = || scripts(redis, prefix, fault);
    let world = World::open(&newcomer, connection, seed).await?;
    let ran = world.run(steps).await;
    ran.map_err(|error| format!("seed {seed}: {error}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long to search is not configuration"
)]
fn seeds() -> u64 {
    let asked = std::env::var("FANFARE_MODEL_SEEDS");
    asked.map_or(SEEDS, |seeds| seeds.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_over_several_nodes_keep_every_promise() {
    let redis = redis::shared().await;
    let prefix: Arc<str> = redis::prefix("model").into();
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (prefix, next) = (Arc::clone(&prefix), Arc::clone(&next));
        workers.spawn(async move {
            let mut steps = 0;
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds() {
                    return Ok::<u64, String>(steps);
                }
                steps += run(redis, &prefix, None, seed, STEPS).await?;
            }
        });
    }
    let mut steps = 0;
    while let Some(ran) = workers.join_next().await {
        steps += ran.unwrap().unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(steps, seeds() * STEPS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_planted_in_the_scripts_is_found() {
    let redis = redis::shared().await;
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let next = Arc::clone(&next);
        workers.spawn(async move {
            let mut unnoticed = Vec::new();
            while let Some(fault) = FAULTS.get(next.fetch_add(1, Ordering::Relaxed)) {
                if !is_found(redis, fault).await {
                    unnoticed.push(fault.what);
                }
            }
            unnoticed
        });
    }
    let unnoticed = workers.join_all().await.concat();
    assert_eq!(unnoticed, [""; 0], "faults that the model does not notice");
}

async fn is_found(redis: &Redis, fault: &Fault) -> bool {
    let prefix = redis::prefix("faults");
    for seed in 0..20 {
        if run(redis, &prefix, Some(fault), seed, STEPS).await.is_err() {
            return true;
        }
    }
    false
}

/// So many are silent that no one call takes them out.
#[tokio::test]
async fn many_silent_members_go_in_steps() {
    const COUNT: u64 = 450;
    let redis = redis::shared().await;
    let presence = scripts(redis, &redis::prefix("many"), None);
    let room = ChannelName::new("presence-many").unwrap();
    let clock = presence.keys(&room).swap_remove(0) + ":clock";
    let at = async |second: &str| {
        let time = format!("40000000{second}000");
        redis.command(&["SET", &clock, &time]).await;
    };
    let kept = Retention::new(10_000, Duration::from_secs(300));
    let ann = Member {
        id: UserId::new("ann").unwrap(),
        info: RawJson::null(),
    };
    at("00").await;
    for number in 0..COUNT {
        let member = Member {
            id: UserId::new(&format!("user-{number}")).unwrap(),
            ..ann.clone()
        };
        let connection = SocketId::from_bits(u128::from(number));
        presence
            .join(&room, connection, &member, kept)
            .await
            .unwrap();
    }
    let offset = async || {
        presence
            .told_after(&room, 0, kept)
            .await
            .unwrap()
            .top
            .offset
    };
    at("20").await;
    for second in ["00", "05", "10", "15", "20"] {
        let heard = format!("40000000{second}000").parse().unwrap();
        presence.hear(&room, heard).await.unwrap();
    }
    let late = SocketId::from_bits(u128::MAX);
    presence.join(&room, late, &ann, kept).await.unwrap();
    assert_eq!(offset().await, COUNT + 50 + 1, "a join takes some along");
    let next = presence.evict_expired(&room).await.unwrap();
    assert_eq!(next, Next::In(Duration::ZERO), "some are left");
    assert_eq!(offset().await, COUNT + 50 + 1 + 200);
    let members = presence.members(&room).await.unwrap();
    assert_eq!((members.count, members.members), (1, vec![ann]));
    assert_eq!(members.position.offset, 2 * COUNT + 1);
}
