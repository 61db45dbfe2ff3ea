//! Random worlds: messages, lost connections, restarts and forgotten histories in any order, over real sockets, and afterwards
//! the question whether every promise was kept (I1 to I4 of the checker).

mod faults;
mod follower;
mod incarnation;
mod world;

use std::time::Duration;

use fanfare_tests::checker::{self, History, Observation, Outcome};
use tokio::time::Instant;

use self::world::World;

/// What happened, so that a test cannot pass because nothing did.
#[derive(Debug, Default)]
struct Tally {
    worlds: usize,
    accepted: usize,
    messages: usize,
    joined: usize,
    resumed: usize,
    resets: usize,
    skipped: usize,
}

impl Tally {
    fn add(&mut self, history: &History) {
        self.worlds += 1;
        let is_accepted = |outcome: &Outcome| matches!(outcome, Outcome::Accepted { .. });
        let outcomes = history.publishes.iter().map(|publish| &publish.outcome);
        self.accepted += outcomes.filter(|outcome| is_accepted(outcome)).count();
        for observed in history.logs.values().flatten() {
            match observed.what {
                Observation::Joined { .. } => self.joined += 1,
                Observation::Resumed => self.resumed += 1,
                Observation::Message { .. } => self.messages += 1,
                Observation::Skipped { .. } => self.skipped += 1,
                Observation::Reset { .. } => self.resets += 1,
                Observation::Gap { .. } | Observation::Left => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_in_random_worlds() {
    const TIME: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    let mut tally = Tally::default();
    for seed in 0.. {
        let history = World::new(seed).await.live(100).await;
        let violations = checker::check(&history);
        let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "seed {seed}:\n{}", list.join("\n"));
        tally.add(&history);
        if begun.elapsed() > TIME {
            break;
        }
    }
    let is_worth_something = tally.accepted > 200 * tally.worlds
        && tally.messages > 3 * tally.accepted
        && tally.resumed > 10 * tally.worlds
        && tally.joined > 20 * tally.worlds
        && tally.resets > 0
        && tally.skipped > 0;
    assert!(is_worth_something, "{tally:?}");
}
