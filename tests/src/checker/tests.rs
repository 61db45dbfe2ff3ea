//! The checker finds nothing in a good history and every fault that is planted in it.

use fanfare_protocol::{ChannelName, Epoch, Position, Tag};

use super::*;

/// A channel with history.
const KEPT: &str = "kept";
/// A channel without.
const LIVE: &str = "live";

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn at(epoch: u64, offset: u64) -> Position {
    Position {
        epoch: Epoch(epoch),
        offset,
        tag: Tag(epoch * 100 + offset),
    }
}

/// Payloads tell where they belong: `1.3` is offset 3 of epoch 1.
fn kept(epoch: u64, offset: u64) -> Observation {
    Observation::Message {
        position: Some(at(epoch, offset)),
        payload: format!("{epoch}.{offset}"),
    }
}

fn live(payload: &str) -> Observation {
    Observation::Message {
        position: None,
        payload: payload.to_owned(),
    }
}

struct Story(Recorder);

impl Story {
    fn keep(&self, epoch: u64, offset: u64) {
        let id = self
            .0
            .call(&channel(KEPT), &format!("{epoch}.{offset}"), None);
        self.0.accepted(id, Some(at(epoch, offset)));
    }

    fn publish(&self, payload: &str, except: Option<&str>) {
        let id = self.0.call(&channel(LIVE), payload, except);
        self.0.accepted(id, None);
    }

    fn sees(&self, client: &str, name: &str, what: impl IntoIterator<Item = Observation>) {
        for what in what {
            self.0.saw(client, &channel(name), what);
        }
    }
}

/// Two clients; one loses its connection and recovers, the store loses its state, messages are lost and this is said.
fn good() -> History {
    let story = Story(Recorder::default());
    let start = Some(Position::start(Epoch(1)));
    story.sees("ann", KEPT, [Observation::Joined { at: start }]);
    story.keep(1, 1);
    story.keep(1, 2);
    story.sees("ann", KEPT, [kept(1, 1), kept(1, 2)]);
    story.sees("bob", KEPT, [Observation::Joined { at: Some(at(1, 2)) }]);
    story.sees("ann", KEPT, [Observation::Left]);
    story.keep(1, 3);
    story.sees("bob", KEPT, [Observation::Skipped { position: at(1, 3) }]);
    story.keep(1, 4);
    story.sees("ann", KEPT, [Observation::Resumed, kept(1, 3), kept(1, 4)]);
    story.sees("bob", KEPT, [kept(1, 4)]);
    // No answer came, and yet it had happened; another was refused.
    _ = story.0.call(&channel(KEPT), "1.5", None);
    let refused = story.0.call(&channel(KEPT), "refused", None);
    story.0.refused(refused);
    story.sees("ann", KEPT, [kept(1, 5)]);
    story.sees("bob", KEPT, [kept(1, 5)]);
    // The store loses everything: one is told while subscribed, one when it comes back.
    story.sees("ann", KEPT, [Observation::Left]);
    story.keep(2, 1);
    story.sees("ann", KEPT, [Observation::Joined { at: Some(at(2, 1)) }]);
    story.sees("bob", KEPT, [Observation::Reset { at: at(2, 1) }]);
    story.keep(2, 2);
    story.sees("ann", KEPT, [kept(2, 2)]);
    story.sees("bob", KEPT, [kept(2, 2)]);

    story.sees("ann", LIVE, [Observation::Joined { at: None }]);
    story.sees("bob", LIVE, [Observation::Joined { at: None }]);
    story.publish("a", None);
    story.publish("b", Some("bob"));
    story.publish("c", None);
    story.sees("ann", LIVE, [live("a"), live("b"), live("c")]);
    story.sees("bob", LIVE, [live("a"), live("c")]);
    story.publish("lost", None);
    story.sees("ann", LIVE, [live("lost")]);
    story.publish("d", None);
    story.sees("bob", LIVE, [live("d"), Observation::Gap { at: None }]);
    story.sees("ann", LIVE, [live("d"), Observation::Left]);
    story.publish("e", None);
    story.sees("bob", LIVE, [live("e")]);
    story.0.history()
}

/// Plants a fault into the log of a client and has the checker find it, and nothing of another kind.
#[track_caller]
fn planted(
    client: &str,
    name: &str,
    plant: impl FnOnce(&mut Vec<Observed>),
    expected: &[Invariant],
) -> Vec<Wrong> {
    let mut history = good();
    plant(
        history
            .logs
            .get_mut(&(client.to_owned(), channel(name)))
            .unwrap(),
    );
    found(&history, expected)
}

#[track_caller]
fn found(history: &History, expected: &[Invariant]) -> Vec<Wrong> {
    let violations = check(history);
    let mut invariants: Vec<Invariant> = violations.iter().map(Violation::invariant).collect();
    invariants.sort_unstable();
    invariants.dedup();
    assert_eq!(invariants, expected, "{violations:#?}");
    violations
        .into_iter()
        .map(|violation| violation.wrong)
        .collect()
}

fn index_of(log: &[Observed], what: &Observation) -> usize {
    let index = log.iter().position(|observed| observed.what == *what);
    index.expect("the good history has it")
}

fn drop_one(what: Observation) -> impl FnOnce(&mut Vec<Observed>) {
    move |log| {
        log.remove(index_of(log, &what));
    }
}

fn replace(what: Observation, by: Observation) -> impl FnOnce(&mut Vec<Observed>) {
    move |log| {
        let index = index_of(log, &what);
        log[index].what = by;
    }
}

use Invariant::{I1, I2, I3, I4};

#[test]
fn a_good_history_is_found_good() {
    found(&good(), &[]);
}

#[test]
fn a_message_that_comes_twice() {
    let twice = |what: Observation| {
        move |log: &mut Vec<Observed>| {
            let index = index_of(log, &what);
            log.insert(index, log[index].clone());
        }
    };
    planted("ann", KEPT, twice(kept(1, 2)), &[I1]);
    let wrong = planted("ann", LIVE, twice(live("b")), &[I1]);
    assert_eq!(
        wrong,
        [Wrong::Twice {
            payload: "b".to_owned()
        }]
    );
}

#[test]
fn two_messages_that_are_swapped() {
    let swap = |one: Observation, other: Observation| {
        move |log: &mut Vec<Observed>| {
            let (one, other) = (index_of(log, &one), index_of(log, &other));
            let what = log[one].what.clone();
            log[one].what = log[other].what.clone();
            log[other].what = what;
        }
    };
    let live = planted("ann", LIVE, swap(live("a"), live("b")), &[I1]);
    let overtaken = Wrong::Overtaken {
        late: "a".to_owned(),
        before: "b".to_owned(),
    };
    assert_eq!(live, [overtaken]);
    let kept = planted("ann", KEPT, swap(kept(1, 3), kept(1, 4)), &[I1, I2]);
    assert!(
        kept.iter()
            .any(|one| matches!(one, Wrong::OutOfOrder { .. }))
    );
}

#[test]
fn an_offset_that_is_used_twice() {
    let reused = Observation::Message {
        position: Some(at(1, 3)),
        payload: "1.4".to_owned(),
    };
    planted("ann", KEPT, replace(kept(1, 4), reused), &[I1, I2, I3]);
}

#[test]
fn a_lost_message() {
    let wrong = planted("ann", KEPT, drop_one(kept(1, 1)), &[I2]);
    assert!(matches!(wrong[0], Wrong::SilentGap { .. }));
    planted(
        "bob",
        KEPT,
        drop_one(Observation::Skipped { position: at(1, 3) }),
        &[I2],
    );
    planted("ann", LIVE, drop_one(live("b")), &[I2]);
}

#[test]
fn a_message_lost_while_away_of_a_client_that_says_it_recovered() {
    planted("ann", KEPT, drop_one(kept(1, 3)), &[I2]);
}

#[test]
fn a_lost_message_with_nothing_behind_it() {
    let wrong = planted("ann", KEPT, drop_one(kept(2, 2)), &[I2]);
    let missing = Wrong::Missing {
        payload: "2.2".to_owned(),
    };
    assert_eq!(wrong, [missing]);
    planted("bob", LIVE, drop_one(live("e")), &[I2]);
}

#[test]
fn a_gap_that_is_not_told() {
    planted("bob", LIVE, drop_one(Observation::Gap { at: None }), &[I2]);
}

#[test]
fn a_new_epoch_that_is_not_told() {
    planted(
        "bob",
        KEPT,
        drop_one(Observation::Reset { at: at(2, 1) }),
        &[I1, I2],
    );
}

#[test]
fn one_position_with_two_messages() {
    let other = Observation::Message {
        position: Some(at(1, 4)),
        payload: "1.5".to_owned(),
    };
    let exchange = |log: &mut Vec<Observed>| {
        let (four, five) = (index_of(log, &kept(1, 4)), index_of(log, &kept(1, 5)));
        log[four].what = other;
        log[five].what = Observation::Message {
            position: Some(at(1, 5)),
            payload: "1.4".to_owned(),
        };
        // It was seen when it was there to be seen.
        log[four].at = log[five].at;
    };
    let wrong = planted("bob", KEPT, exchange, &[I1, I3]);
    let disagreements = wrong
        .iter()
        .filter(|one| matches!(one, Wrong::Disagreement { .. }));
    assert_eq!(disagreements.count(), 2);
}

#[test]
fn two_clients_that_go_on_with_different_histories() {
    let forked = Observation::Message {
        position: Some(Position {
            tag: Tag(7),
            ..at(2, 2)
        }),
        payload: "2.2".to_owned(),
    };
    let wrong = planted("bob", KEPT, replace(kept(2, 2), forked.clone()), &[I3]);
    assert!(matches!(wrong[..], [Wrong::Diverged { .. }]));
    // Not so when it was told to start anew.
    let told = |log: &mut Vec<Observed>| {
        replace(kept(2, 2), forked)(log);
        let at = log.last().unwrap().at;
        let position = self::at(2, 2);
        log.push(Observed {
            at,
            what: Observation::Reset { at: position },
        });
    };
    planted("bob", KEPT, told, &[]);
}

#[test]
fn a_message_that_nobody_published() {
    let wrong = planted("ann", LIVE, replace(live("a"), live("forged")), &[I2, I4]);
    assert!(wrong.contains(&Wrong::Phantom {
        payload: "forged".to_owned()
    }));
}

#[test]
fn a_message_of_another_channel() {
    let stray = |log: &mut Vec<Observed>| {
        let at = log.last().unwrap().at;
        log.push(Observed {
            at,
            what: live("2.2"),
        });
    };
    planted("bob", LIVE, stray, &[I4]);
}

#[test]
fn a_message_that_was_refused() {
    let refused = |log: &mut Vec<Observed>| {
        let at = log.last().unwrap().at;
        let payload = "refused".to_owned();
        let what = Observation::Message {
            position: Some(self::at(2, 3)),
            payload,
        };
        log.push(Observed { at, what });
    };
    planted("bob", KEPT, refused, &[I4]);
}

#[test]
fn a_message_before_it_was_published() {
    let early = |log: &mut Vec<Observed>| {
        let index = index_of(log, &live("e"));
        log[index].at = 1;
    };
    planted("bob", LIVE, early, &[I2, I4]);
}

#[test]
fn a_message_for_all_but_the_one_that_gets_it() {
    let wrong = planted(
        "bob",
        LIVE,
        |log| {
            let index = index_of(log, &live("c"));
            let at = log[index].at;
            log.insert(
                index,
                Observed {
                    at,
                    what: live("b"),
                },
            );
        },
        &[I4],
    );
    assert_eq!(
        wrong,
        [Wrong::NotExcluded {
            payload: "b".to_owned()
        }]
    );
}

#[test]
fn a_message_after_the_end_of_a_subscription() {
    let late = |log: &mut Vec<Observed>| {
        let at = log.last().unwrap().at + 100;
        log.push(Observed {
            at,
            what: live("e"),
        });
    };
    planted("ann", LIVE, late, &[I4]);
}

#[test]
fn a_repetition_may_be_the_only_copy_but_only_in_a_new_epoch() {
    let again = |epoch: u64, attempts: u32| {
        let mut history = good();
        let publish = history
            .publishes
            .iter_mut()
            .find(|one| one.payload == "2.2");
        publish.unwrap().attempts = attempts;
        for client in ["ann", "bob"] {
            let log = (client.to_owned(), channel(KEPT));
            let log = history.logs.get_mut(&log).unwrap();
            let at = log.last().unwrap().at;
            let start = Position::start(Epoch(3));
            if epoch == 3 {
                log.push(Observed {
                    at,
                    what: Observation::Reset { at: start },
                });
            }
            let offset = if epoch == 3 { 1 } else { 3 };
            let what = Observation::Message {
                position: Some(self::at(epoch, offset)),
                payload: "2.2".to_owned(),
            };
            log.push(Observed { at, what });
        }
        history
    };
    found(&again(3, 2), &[]);
    found(&again(3, 1), &[I1]);
    found(&again(2, 2), &[I1]);
}
