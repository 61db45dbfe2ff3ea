use fanfare_protocol::{Epoch, EventName, Position, RawJson, Tag};

use super::*;
use crate::delivery::Publication;

const KEPT: Retention = Retention::new(5, Duration::from_mins(5));

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn at(offset: u64) -> Position {
    Position {
        epoch: Epoch(1),
        offset,
        tag: Tag(offset),
    }
}

fn message(name: &str, offset: u64) -> Delivery {
    let event = EventName::new("counted").unwrap();
    let publication = Publication::new(channel(name), event, RawJson::trusted(offset.to_string()));
    Delivery::new(publication, Some(at(offset)), Some(Tag(offset - 1)))
}

fn history(name: &str, offsets: std::ops::RangeInclusive<u64>, top: u64) -> History {
    History {
        top: at(top),
        entries: offsets.map(|offset| message(name, offset)).collect(),
    }
}

struct Bench {
    recent: Recent,
    now: Instant,
}

impl Bench {
    fn new(channel_bytes_max: usize, bytes_max: usize) -> Self {
        let bounds = Bounds {
            channel_bytes_max,
            bytes_max,
        };
        Self {
            recent: Recent::new(bounds),
            now: Instant::now(),
        }
    }

    fn roomy() -> Self {
        Self::new(1 << 20, 1 << 20)
    }

    fn adopt(&mut self, name: &str, history: &History, is_whole: bool) {
        self.adopt_aged(name, history, &Ages::default(), is_whole);
    }

    fn adopt_aged(&mut self, name: &str, history: &History, ages: &Ages, is_whole: bool) {
        self.recent
            .adopt(&channel(name), KEPT, history, ages, is_whole, self.now);
    }

    fn push(&mut self, name: &str, offset: u64) {
        self.recent
            .push(&message(name, offset), Duration::ZERO, self.now);
    }

    fn after(&mut self, name: &str, offset: u64, limit: u32, top: u64) -> Option<Vec<u64>> {
        let entries = self
            .recent
            .after(&channel(name), offset, limit, top, self.now)?;
        Some(entries.iter().map(offset_of).collect())
    }
}

#[test]
fn what_is_held_is_answered_and_nothing_else() {
    let mut bench = Bench::roomy();
    bench.adopt("a", &history("a", 4..=6, 6), false);
    bench.push("a", 7);
    let rows: &[(u64, u32, Option<&[u64]>)] = &[
        (3, 100, Some(&[4, 5, 6, 7])),
        (5, 100, Some(&[6, 7])),
        (5, 1, Some(&[6])),
        (7, 100, Some(&[])),
        // Older than what is held, and the store may have it.
        (2, 100, None),
        (0, 100, None),
        // Beyond the live position: the client knows more than this node.
        (8, 100, None),
    ];
    for (offset, limit, expected) in rows {
        let answer = bench.after("a", *offset, *limit, 7);
        assert_eq!(answer.as_deref(), *expected, "after {offset}");
    }
    assert_eq!(bench.after("b", 0, 1, 0), None);
}

#[test]
fn when_the_store_has_nothing_older_that_is_the_answer() {
    let mut bench = Bench::roomy();
    bench.adopt("a", &history("a", 4..=6, 6), true);
    assert_eq!(bench.after("a", 0, 100, 6), Some(vec![4, 5, 6]));
    // The oldest leave as they leave the store.
    for offset in 7..=9 {
        bench.push("a", offset);
    }
    assert_eq!(bench.after("a", 0, 100, 9), Some(vec![5, 6, 7, 8, 9]));
    assert_eq!(bench.after("a", 0, 2, 9), Some(vec![5, 6]));
}

#[test]
fn an_empty_history_is_held_too() {
    let mut bench = Bench::roomy();
    let mut empty = history("a", 1..=1, 3);
    empty.entries.clear();
    bench.adopt("a", &empty, true);
    assert_eq!(bench.after("a", 3, 100, 3), Some(vec![]));
    assert_eq!(bench.after("a", 1, 100, 3), Some(vec![]));
    bench.push("a", 4);
    assert_eq!(bench.after("a", 3, 100, 4), Some(vec![4]));
}

#[test]
fn a_read_that_does_not_reach_the_top_begins_nothing() {
    let mut bench = Bench::roomy();
    bench.adopt("a", &history("a", 1..=3, 5), true);
    assert_eq!(bench.after("a", 1, 100, 5), None);
    bench.push("a", 6);
    assert_eq!(bench.after("a", 5, 100, 6), None);
}

#[test]
fn an_offer_replaces_only_what_reaches_less_far() {
    // (the offsets read of a channel at 6, what is answered after 1 by then)
    let rows: &[(std::ops::RangeInclusive<u64>, Option<&[u64]>)] = &[
        (2..=6, Some(&[2, 3, 4, 5, 6])),
        (5..=6, None),
        // Cut short by its limit.
        (2..=4, None),
    ];
    for (read, expected) in rows {
        let mut bench = Bench::roomy();
        bench.adopt("a", &history("a", 4..=6, 6), false);
        let read = history("a", read.clone(), 6);
        bench.recent.offer(
            &channel("a"),
            KEPT,
            &read,
            &Ages::default(),
            false,
            bench.now,
        );
        assert_eq!(bench.after("a", 1, 100, 6).as_deref(), *expected);
        assert_eq!(bench.after("a", 3, 100, 6), Some(vec![4, 5, 6]));
    }
}

#[test]
fn what_bytes_push_out_only_the_store_knows() {
    let one = cost(&message("a", 1));
    let mut bench = Bench::new(2 * one, 100 * one);
    bench.adopt("a", &history("a", 1..=3, 3), true);
    assert_eq!(bench.after("a", 1, 100, 3), Some(vec![2, 3]));
    assert_eq!(bench.after("a", 0, 100, 3), None);
    assert_eq!(bench.recent.bytes(), 2 * one);
}

#[test]
fn the_channel_not_asked_for_longest_goes_first() {
    let one = cost(&message("a", 1));
    let mut bench = Bench::new(100 * one, 6 * one);
    for name in ["a", "b", "c"] {
        bench.adopt(name, &history(name, 1..=2, 2), true);
    }
    assert!(bench.after("a", 0, 1, 2).is_some());
    bench.push("c", 3);
    assert!(bench.after("b", 0, 1, 2).is_none());
    assert!(bench.after("a", 0, 1, 2).is_some());
    assert!(bench.after("c", 0, 1, 3).is_some());
    bench.recent.forget(&channel("a"));
    bench.recent.forget(&channel("c"));
    assert_eq!(bench.recent.bytes(), 0);
    assert!(bench.recent.by_use.is_empty());
}

#[test]
fn what_may_be_too_old_is_asked_there() {
    let mut bench = Bench::roomy();
    bench.adopt("a", &history("a", 1..=3, 3), true);
    bench.now += KEPT.ttl - MARGIN_MAX;
    assert_eq!(bench.after("a", 0, 100, 3), None);
    assert_eq!(bench.after("a", 3, 100, 3), Some(vec![]));
    bench.push("a", 4);
    assert_eq!(bench.after("a", 3, 100, 4), Some(vec![4]));
    assert_eq!(bench.after("a", 2, 100, 4), None);
    // By now it is certainly gone.
    bench.now += 2 * MARGIN_MAX;
    assert_eq!(bench.after("a", 0, 100, 4), Some(vec![4]));
}

#[test]
fn what_was_read_is_as_old_as_it_is() {
    let mut bench = Bench::roomy();
    let (old, new) = (KEPT.ttl - 3 * MARGIN_MAX, Duration::ZERO);
    let ages = [(1, old), (2, old), (3, new)].into_iter().collect();
    bench.adopt_aged("a", &history("a", 1..=3, 3), &ages, true);
    assert_eq!(bench.after("a", 0, 100, 3), Some(vec![1, 2, 3]));
    bench.now += 2 * MARGIN_MAX;
    assert_eq!(bench.after("a", 0, 100, 3), None, "the store may differ");
    bench.now += 2 * MARGIN_MAX;
    assert_eq!(bench.after("a", 0, 100, 3), Some(vec![3]));
    // As old as what catching up brings.
    let message = message("a", 4);
    bench.recent.push(&message, KEPT.ttl, bench.now);
    assert_eq!(bench.after("a", 3, 100, 4), None);
}

#[test]
fn a_publisher_that_keeps_less_makes_the_window_smaller() {
    let mut bench = Bench::roomy();
    bench.adopt("a", &history("a", 1..=4, 4), true);
    bench
        .recent
        .keep(&channel("a"), Retention::new(2, KEPT.ttl));
    assert_eq!(bench.after("a", 0, 100, 4), Some(vec![3, 4]));
    bench
        .recent
        .keep(&channel("a"), Retention::new(0, KEPT.ttl));
    assert_eq!(bench.after("a", 0, 100, 4), Some(vec![]));
    assert_eq!(bench.recent.bytes(), 0);
}

proptest::proptest! {
    /// Whatever is asked: an answer is exactly what the store would say.
    #[test]
    fn an_answer_is_what_the_store_says(
        size in 1_u32..8,
        begin in 0_u64..12,
        steps in proptest::collection::vec((0_u64..25, 1_u32..10, proptest::bool::ANY), 1..40),
    ) {
        let keeps = Retention::new(size, Duration::from_mins(5));
        let mut bench = Bench::new(6 * cost(&message("a", 1)), 1 << 20);
        let mut store: Vec<u64> = (1..=begin).collect();
        let kept = |store: &[u64]| store[store.len().saturating_sub(size as usize)..].to_vec();
        let mut read = history("a", 1..=1, begin);
        read.entries = kept(&store).into_iter().map(|offset| message("a", offset)).collect();
        let ages = Ages::default();
        bench.recent.adopt(&channel("a"), keeps, &read, &ages, true, bench.now);
        for (offset, limit, publishes) in steps {
            let top = store.len() as u64;
            if publishes {
                store.push(top + 1);
                bench.push("a", top + 1);
            } else if let Some(answer) = bench.after("a", offset, limit, top) {
                let expected: Vec<u64> = kept(&store)
                    .into_iter()
                    .filter(|held| *held > offset)
                    .take(limit as usize)
                    .collect();
                proptest::prop_assert_eq!(answer, expected);
            }
        }
    }
}

#[test]
fn what_went_by_a_shorter_measure_is_asked_of_the_store() {
    let mut bench = Bench::roomy();
    bench.adopt("a", &history("a", 1..=3, 3), true);
    let (unkept, kept) = (Retention::new(0, KEPT.ttl), KEPT);
    bench.recent.keep(&channel("a"), unkept);
    // It was published with the longer measure, which this node hears of later.
    bench.push("a", 4);
    bench.recent.keep(&channel("a"), kept);
    assert_eq!(bench.after("a", 0, 100, 4), None);
}
