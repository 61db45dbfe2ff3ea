use fanfare_protocol::{ChannelName, Epoch, EventName, RawJson, Tag};
use proptest::prelude::*;

use super::*;
use crate::delivery::Publication;

const BYTES_MAX: usize = 1 << 20;

/// The tag of an offset in the one true history of these tests.
fn tag(offset: u64) -> Tag {
    Tag(if offset == 0 { 0 } else { offset * 1_000 + 7 })
}

fn at(offset: u64) -> Position {
    Position {
        epoch: Epoch(1),
        offset,
        tag: tag(offset),
    }
}

fn delivery(offset: u64) -> Delivery {
    let channel = ChannelName::new("c").unwrap();
    let publication = Publication::new(
        channel,
        EventName::new("e").unwrap(),
        RawJson::encode(&offset).unwrap(),
    );
    Delivery::new(publication, Some(at(offset)), Some(tag(offset - 1)))
}

fn run(range: impl IntoIterator<Item = u64>) -> Vec<Delivery> {
    range.into_iter().map(delivery).collect()
}

fn history(top: u64, entries: impl IntoIterator<Item = u64>) -> History {
    History {
        top: at(top),
        entries: run(entries),
    }
}

fn offsets(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(offset).collect()
}

#[track_caller]
fn check(
    wish: Wish,
    history: History,
    snapshot: Option<u64>,
    buffered: impl IntoIterator<Item = u64>,
    expect: Option<(u64, bool, &[u64], &[u64])>,
) {
    let merged = merge(wish, history, snapshot.map(at), run(buffered), BYTES_MAX);
    let found = merged.as_ref().ok().map(|joined| {
        (
            joined.position.offset,
            joined.recovered,
            offsets(&joined.events),
            offsets(&joined.live),
        )
    });
    let expect = expect.map(|(position, recovered, events, live)| {
        (position, recovered, events.to_vec(), live.to_vec())
    });
    assert_eq!(found, expect);
}

#[test]
fn a_fresh_subscription_starts_at_the_top_and_goes_on_with_the_buffer() {
    check(
        Wish::Live,
        history(5, []),
        None,
        [],
        Some((5, false, &[], &[])),
    );
    check(
        Wish::Live,
        history(5, []),
        None,
        [4, 5, 6, 7],
        Some((5, false, &[], &[6, 7])),
    );
}

#[test]
fn a_returning_subscription_gets_exactly_what_it_missed() {
    check(
        Wish::Since(at(3)),
        history(5, [4, 5]),
        None,
        [],
        Some((5, true, &[4, 5], &[])),
    );
    check(
        Wish::Since(at(3)),
        history(5, [4, 5]),
        None,
        [5, 6],
        Some((5, true, &[4, 5], &[6])),
    );
    check(
        Wish::Since(at(5)),
        history(5, []),
        None,
        [],
        Some((5, true, &[], &[])),
    );
}

#[test]
fn what_the_history_no_longer_has_is_not_recovered() {
    check(
        Wish::Since(at(2)),
        history(5, [4, 5]),
        None,
        [6],
        Some((5, false, &[], &[6])),
    );
    check(
        Wish::Since(at(3)),
        history(5, [4]),
        None,
        [],
        Some((5, false, &[], &[])),
    );
    check(
        Wish::Since(at(9)),
        history(5, []),
        None,
        [],
        Some((5, false, &[], &[])),
    );
}

#[test]
fn another_history_is_not_recovered_even_with_the_same_offsets() {
    let other_epoch = Position {
        epoch: Epoch(2),
        ..at(3)
    };
    check(
        Wish::Since(other_epoch),
        history(5, [4, 5]),
        None,
        [],
        Some((5, false, &[], &[])),
    );
    let other_tag = Position {
        tag: Tag(1),
        ..at(3)
    };
    check(
        Wish::Since(other_tag),
        history(5, [4, 5]),
        None,
        [],
        Some((5, false, &[], &[])),
    );
    let other_tag_at_the_top = Position {
        tag: Tag(1),
        ..at(5)
    };
    check(
        Wish::Since(other_tag_at_the_top),
        history(5, []),
        None,
        [],
        Some((5, false, &[], &[])),
    );
}

#[test]
fn a_buffer_that_does_not_continue_the_history_is_a_hole() {
    check(Wish::Live, history(5, []), None, [7], None);
    check(Wish::Live, history(5, []), None, [6, 8], None);
    let mut diverged = delivery(6);
    diverged.previous = Some(Tag(1));
    assert!(merge(Wish::Live, history(5, []), None, vec![diverged], BYTES_MAX).is_err());
}

#[test]
fn a_reply_with_a_snapshot_reaches_at_least_to_it() {
    check(
        Wish::Live,
        history(5, []),
        Some(5),
        [6],
        Some((5, false, &[], &[6])),
    );
    check(
        Wish::Live,
        history(5, []),
        Some(7),
        [6, 7, 8],
        Some((7, false, &[], &[8])),
    );
    check(
        Wish::Since(at(4)),
        history(5, [5]),
        Some(6),
        [6, 7],
        Some((6, true, &[5, 6], &[7])),
    );
    check(Wish::Live, history(5, []), Some(7), [6], None);
    let elsewhere = Some(Position {
        epoch: Epoch(2),
        ..at(5)
    });
    assert!(merge(Wish::Live, history(5, []), elsewhere, Vec::new(), BYTES_MAX).is_err());
}

#[test]
fn a_rewind_brings_what_was_read_and_claims_nothing() {
    check(
        Wish::Rewind,
        history(5, [4, 5]),
        None,
        [5, 6],
        Some((5, false, &[4, 5], &[6])),
    );
}

#[test]
fn a_recovery_that_is_too_large_is_none() {
    let joined = merge(Wish::Since(at(3)), history(5, [4, 5]), None, run([6]), 1).unwrap();
    assert_eq!(
        (joined.recovered, joined.events.len(), offsets(&joined.live)),
        (false, 0, vec![6])
    );
}

proptest! {
    /// Whatever is lost, repeated or altered on the way: what a subscription is given continues without a hole, or it is
    /// told. Compared with the one true history, offset by offset.
    #[test]
    fn no_hole_is_ever_accepted(
        since in 0_u64..20,
        first_kept in 1_u64..20,
        top in 0_u64..20,
        seen in proptest::collection::vec((1_u64..26, 0_u8..12), 0..12),
        snapshot in proptest::option::of(0_u64..24),
    ) {
        let kept: Vec<_> = (first_kept..=top).filter(|offset| *offset > since).collect();
        let mut buffered = run(seen.iter().map(|(offset, _)| *offset));
        for (delivery, (_, fault)) in buffered.iter_mut().zip(&seen) {
            if *fault == 0 {
                delivery.previous = Some(Tag(3));
            }
        }
        let Ok(joined) = merge(Wish::Since(at(since)), history(top, kept), snapshot.map(at), buffered, BYTES_MAX) else {
            return Ok(());
        };
        let from = if joined.recovered { since } else { joined.position.offset };
        let given: Vec<_> = joined.events.iter().chain(&joined.live).map(offset).collect();
        let expect: Vec<_> = (from + 1..).take(given.len()).collect();
        prop_assert_eq!(&given, &expect);
        prop_assert!(joined.recovered || joined.events.is_empty());
        prop_assert!(joined.position.offset >= top.max(snapshot.unwrap_or(0)));
        if joined.recovered {
            prop_assert_eq!(joined.events.len() as u64, joined.position.offset - since);
        }
    }
}
