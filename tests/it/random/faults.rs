//! The question is only worth something if it can be answered with no: faults planted into a history, and into the network.

use fanfare_server::protocol::ChannelName;
use fanfare_tests::checker::{self, History, Invariant, Observation, Observed, Recorder};
use fanfare_tests::eventually;
use fanfare_tests::proxy::{Fault, Proxy};
use fanfare_tests::socket::Door;

use super::follower::Follower;
use super::incarnation::{self, Incarnation};
use super::world::World;

fn is_message(observed: &Observed) -> bool {
    matches!(
        observed.what,
        Observation::Message {
            position: Some(_),
            ..
        }
    )
}

/// Somewhere in a random client's log: a message with a message before and after it.
fn somewhere<'a>(
    random: &mut fastrand::Rng,
    history: &'a mut History,
) -> (&'a mut Vec<Observed>, usize) {
    let mut places = Vec::new();
    for (key, log) in &history.logs {
        for at in 1..log.len().saturating_sub(1) {
            if log[at - 1..=at + 1].iter().all(is_message) {
                places.push((key.clone(), at));
            }
        }
    }
    let (key, at) = random.choice(places).unwrap();
    (history.logs.get_mut(&key).unwrap(), at)
}

/// Swaps what two entries say; when they say it stays.
fn swap(log: &mut [Observed], one: usize, other: usize) {
    let what = log[one].what.clone();
    log[one].what = std::mem::replace(&mut log[other].what, what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_planted_into_a_real_history_are_found() {
    let good = World::new(1_000).await.live(60).await;
    assert!(checker::check(&good).is_empty());
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..20 {
        for (fault, expected) in [
            (Fault::Drop, Invariant::I2),
            (Fault::Double, Invariant::I1),
            (Fault::Delay, Invariant::I1),
            (Fault::Alter, Invariant::I4),
        ] {
            let mut bad = good.clone();
            let (log, at) = somewhere(&mut random, &mut bad);
            match fault {
                Fault::Drop => {
                    log.remove(at);
                }
                Fault::Double => log.insert(at, log[at].clone()),
                Fault::Delay => swap(log, at, at + 1),
                Fault::Alter => {
                    let Observation::Message { payload, .. } = &mut log[at].what else {
                        unreachable!("it was a message a moment ago");
                    };
                    payload.push('!');
                }
            }
            assert!(
                is_found(&bad, expected),
                "{fault:?}: {:?}",
                checker::check(&bad)
            );
        }
    }
}

fn is_found(history: &History, expected: Invariant) -> bool {
    let violations = checker::check(history);
    violations
        .iter()
        .any(|violation| violation.invariant() == expected)
}

/// What a client sees and says when something goes wrong on the way to it.
async fn with_fault(channel: &str, fault: Fault) -> History {
    let recorder = Recorder::default();
    let channel: ChannelName = channel.parse().unwrap();
    let server = Incarnation::start(&recorder).await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    proxy.plant(fault, 10);
    let channels = [channel.clone()];
    let victim = Follower::start("victim", Door::at(proxy.address()), &channels, &recorder);
    eventually("the victim to be in", async || victim.is_subscribed_to(1)).await;
    for number in 0..30 {
        let order = incarnation::Order {
            channel: channel.clone(),
            payload: format!("message-{number}"),
            except: None,
        };
        server.publish(0, order).await;
    }
    eventually("the last message", async || {
        victim.has_seen(&channel, "message-29")
    })
    .await;
    recorder.history()
}

#[tokio::test]
async fn faults_on_the_way_to_a_client_are_found() {
    for (fault, expected) in [
        (Fault::Drop, Invariant::I2),
        (Fault::Double, Invariant::I1),
        (Fault::Delay, Invariant::I1),
        (Fault::Alter, Invariant::I4),
    ] {
        for channel in ["h-a", "l-a"] {
            let history = with_fault(channel, fault).await;
            assert!(
                is_found(&history, expected),
                "{fault:?} on {channel}: {:?}",
                checker::check(&history)
            );
        }
    }
}
