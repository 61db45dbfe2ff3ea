//! The checkers that know the time find nothing in a good history and every fault that is planted in it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_protocol::ChannelName;

use super::resources::{self, Amount};
use super::*;

const ROOM: &str = "presence-room";
const NEWS: &str = "news";

/// A recorder whose clock is set by hand, in seconds.
struct Story {
    recorder: Recorder,
    clock: Arc<AtomicU64>,
}

impl Story {
    fn new() -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let hand = Arc::clone(&clock);
        let recorder =
            Recorder::with_clock(move || Duration::from_secs(hand.load(Ordering::Relaxed)));
        Self { recorder, clock }
    }

    fn at(&self, second: u64) -> &Self {
        assert!(second >= self.clock.swap(second, Ordering::Relaxed));
        self
    }

    fn publish(&self, payload: &str) -> &Self {
        let id = self.recorder.call(&channel(NEWS), payload, None);
        self.recorder.accepted(id, None);
        self
    }

    fn saw(&self, what: Observation) -> &Self {
        self.recorder.saw("ann", &channel(NEWS), what);
        self
    }

    fn got(&self, payload: &str) -> &Self {
        self.saw(Observation::Message {
            position: None,
            payload: payload.to_owned(),
        })
    }

    fn sighted(&self, what: Sighting) -> &Self {
        self.recorder.sighted("ann", &channel(ROOM), what);
        self
    }

    fn came(&self, user: &str) -> StayId {
        self.recorder.came(user, &channel(ROOM))
    }

    #[track_caller]
    fn is_found(&self, expected: &[Invariant]) -> Vec<Wrong> {
        let violations = check_all(&self.recorder.history());
        let mut invariants: Vec<Invariant> = violations.iter().map(Violation::invariant).collect();
        invariants.sort_unstable();
        invariants.dedup();
        assert_eq!(invariants, expected, "{violations:#?}");
        violations
            .into_iter()
            .map(|violation| violation.wrong)
            .collect()
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn users(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const JOINED: Observation = Observation::Joined { at: None };
const GAP: Observation = Observation::Gap { at: None };

use Invariant::{I5, I6, I9, I11};

/// Ann hears the news; the third item is lost and this is said at some time.
fn told_at(second: u64) -> Story {
    let story = Story::new();
    story.at(1).saw(JOINED);
    story.at(2).publish("a").got("a");
    story.at(10).publish("b");
    story.at(second).saw(GAP).publish("c").got("c");
    story
}

#[test]
fn a_loss_that_is_told_in_time_and_one_that_is_not() {
    told_at(40).is_found(&[]);
    let wrong = told_at(50).is_found(&[I5]);
    let told_late = Wrong::ToldLate {
        payload: "b".to_owned(),
        by: Duration::from_secs(5),
    };
    assert_eq!(wrong, [told_late]);
}

#[test]
fn while_a_fault_lasts_the_time_does_not_count() {
    let told = |heals: Option<u64>| {
        let story = Story::new();
        story.at(1).saw(JOINED);
        story.at(10).publish("b");
        let fault = story.recorder.fault("the store is away");
        if let Some(second) = heals {
            story.at(second);
            story.recorder.healed(fault);
        }
        story.at(60).saw(GAP).publish("c").got("c");
        story
    };
    told(Some(30)).is_found(&[]);
    told(Some(20)).is_found(&[I5]);
}

#[test]
fn a_message_that_comes_too_late_though_its_reader_was_there() {
    let late = |is_away: bool| {
        let story = Story::new();
        story.at(1).saw(JOINED);
        story.at(10).publish("a");
        if is_away {
            story.at(11).saw(Observation::Left);
            story.at(79).saw(Observation::Resumed);
        }
        story.at(80).got("a");
        story
    };
    late(true).is_found(&[]);
    let wrong = late(false).is_found(&[I5]);
    assert!(matches!(wrong[..], [Wrong::Late { .. }]));
}

/// Ann watches bob come, lose his connection, and go.
fn bob_goes_at(second: u64) -> Story {
    let story = Story::new();
    _ = story.at(1).came("ann");
    story.sighted(Sighting::Snapshot(users(&["ann"])));
    let bob = story.at(5).came("bob");
    story.sighted(Sighting::Came("bob".to_owned()));
    story.at(20).recorder.went(bob);
    story.at(second).sighted(Sighting::Went("bob".to_owned()));
    story
        .at(second + 1)
        .sighted(Sighting::Asked(users(&["ann"])));
    story
}

#[test]
fn a_member_that_goes_in_time_and_one_that_does_not() {
    bob_goes_at(40).is_found(&[]);
    let wrong = bob_goes_at(50).is_found(&[I6]);
    let user = "bob".to_owned();
    let by = Duration::from_secs(5);
    assert_eq!(wrong, [Wrong::Ghost { user, by }]);
}

#[test]
fn a_leave_that_is_forgotten() {
    let story = Story::new();
    _ = story.at(1).came("ann");
    story.sighted(Sighting::Snapshot(users(&["ann", "bob"])));
    let bob = story.came("bob");
    story.at(5).recorder.went(bob);
    story.at(60).sighted(Sighting::Asked(users(&["ann"])));
    let wrong = story.is_found(&[I6]);
    assert!(
        wrong
            .iter()
            .any(|one| matches!(one, Wrong::OtherMembers { .. }))
    );
    assert!(wrong.iter().any(|one| matches!(one, Wrong::Ghost { .. })));
}

#[test]
fn a_member_that_comes_twice_or_goes_without_having_come() {
    let story = bob_goes_at(40);
    story.at(50).sighted(Sighting::Went("bob".to_owned()));
    let twice = story.is_found(&[I6]);
    assert!(matches!(twice[..], [Wrong::NotInTurn { came: false, .. }]));
    let story = Story::new();
    _ = story.at(1).came("ann");
    story.sighted(Sighting::Snapshot(users(&["ann"])));
    story.sighted(Sighting::Came("ann".to_owned()));
    story.is_found(&[I6]);
}

#[test]
fn somebody_who_is_there_and_never_shown() {
    let story = Story::new();
    _ = story.at(1).came("ann");
    _ = story.came("bob");
    story.sighted(Sighting::Snapshot(users(&["ann"])));
    story
        .at(20)
        .sighted(Sighting::Asked(users(&["ann", "bob"])));
    story.is_found(&[I6]);
    let story = Story::new();
    _ = story.at(1).came("ann");
    _ = story.came("bob");
    story.sighted(Sighting::Snapshot(users(&["ann"])));
    story.at(40).sighted(Sighting::Came("bob".to_owned()));
    let wrong = story.is_found(&[I6]);
    assert!(matches!(wrong[..], [Wrong::Absent { .. }]));
}

#[test]
fn at_rest_the_server_may_not_tell_of_somebody_who_is_gone() {
    let story = bob_goes_at(40);
    story
        .at(60)
        .sighted(Sighting::Snapshot(users(&["ann", "bob"])));
    story.sighted(Sighting::Asked(users(&["ann", "bob"])));
    let wrong = story.is_found(&[I6]);
    assert!(
        wrong
            .iter()
            .any(|one| matches!(one, Wrong::NotTheTruth { .. }))
    );
}

#[test]
fn while_blind_nobody_can_be_wrong_about_members() {
    let story = bob_goes_at(40);
    story.at(50).sighted(Sighting::Blind);
    _ = story.came("eve");
    story
        .at(200)
        .sighted(Sighting::Snapshot(users(&["ann", "eve"])));
    story.sighted(Sighting::Asked(users(&["ann", "eve"])));
    story.is_found(&[]);
}

#[test]
fn a_message_after_the_permission_has_ended() {
    let heard_until = |second: u64| {
        let story = Story::new();
        story.at(1).saw(JOINED);
        let lives = Duration::from_secs(9);
        story.recorder.permitted("ann", &channel(NEWS), lives);
        story.at(second).publish("a").got("a");
        story
    };
    heard_until(15).is_found(&[]);
    heard_until(16).is_found(&[I9]);
}

#[test]
fn what_is_not_given_back() {
    let amounts = |amount: u64| {
        let what = "open files of node 1".to_owned();
        [Amount {
            what,
            amount,
            allowance: 5,
        }]
    };
    assert!(resources::check(&amounts(20), &amounts(25)).is_empty());
    let violations = resources::check(&amounts(20), &amounts(26));
    assert_eq!(violations[0].invariant(), Invariant::I10);
}

#[test]
fn somebody_who_is_not_back_in_time() {
    let back_at = |second: Option<u64>, hears: bool| {
        let story = Story::new();
        story.at(1).saw(JOINED);
        let fault = story.at(10).recorder.fault("a cut");
        story.saw(Observation::Left);
        story.at(20).recorder.healed(fault);
        if let Some(second) = second {
            story.at(second).saw(Observation::Resumed);
            story.publish("a");
            if hears {
                story.got("a");
            }
        }
        story
    };
    back_at(Some(30), true).is_found(&[]);
    back_at(Some(51), true).is_found(&[I11]);
    back_at(None, true).is_found(&[I11]);
    back_at(Some(30), false).is_found(&[Invariant::I2, I11]);
    let told_to = back_at(None, true);
    told_to.recorder.ends("ann");
    told_to.is_found(&[]);
}

#[test]
fn what_the_store_lost_is_owed_to_nobody_and_only_then() {
    let position = |offset: u64, tag: u64| {
        Some(Position {
            epoch: Epoch(1),
            offset,
            tag: Tag(tag),
        })
    };
    let lost = |may_lose: bool, is_contradicted: bool| {
        let story = Story::new();
        let joined = Observation::Joined {
            at: Some(Position::start(Epoch(1))),
        };
        story.at(1).saw(joined);
        let id = story.recorder.call(&channel(NEWS), "lost", None);
        story.recorder.accepted(id, position(1, 7));
        let kept = if is_contradicted {
            position(1, 8)
        } else {
            position(2, 8)
        };
        let id = story.recorder.call(&channel(NEWS), "kept", None);
        story.recorder.accepted(id, kept);
        story.saw(Observation::Message {
            position: kept,
            payload: "kept".to_owned(),
        });
        if may_lose {
            story.recorder.store_may_lose();
        }
        story
    };
    lost(true, true).is_found(&[]);
    lost(false, true).is_found(&[Invariant::I2]);
    lost(true, false).is_found(&[Invariant::I2]);
}

#[test]
fn what_only_one_of_two_masters_knew_is_lost_and_told() {
    let lost = |is_told: bool| {
        let story = Story::new();
        story.at(1).saw(JOINED);
        let fault = story.at(2).recorder.fault("two masters");
        story.recorder.splits(fault);
        story.publish("lost");
        story.at(5).recorder.healed(fault);
        if is_told {
            story.saw(GAP);
        }
        story.at(6).publish("after").got("after");
        story
    };
    lost(true).is_found(&[]);
    lost(false).is_found(&[Invariant::I2]);
}
