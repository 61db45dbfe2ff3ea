//! The chain rule, judged against histories written out message by message.

use fanfare_protocol::{Epoch, Link, Position, Tag};

/// How long the histories are: long enough for every order of fork, client and message.
const LENGTH: u64 = 6;

/// A history whose first `shared` messages are those of the true one and whose others were written anew.
#[derive(Clone, Copy)]
struct History {
    shared: u64,
}

impl History {
    /// Tags never repeat: those of rewritten messages are other numbers.
    fn tag(self, offset: u64) -> Tag {
        match offset {
            0 => Tag(0),
            offset if offset <= self.shared => Tag(offset),
            offset => Tag(offset + 100),
        }
    }

    fn position(self, offset: u64) -> Position {
        Position {
            epoch: Epoch(7),
            offset,
            tag: self.tag(offset),
        }
    }
}

/// What someone who holds the true messages 1 to `seen` can know about message `next` of another history, by looking at what
/// they hold.
fn judged_by_hand(seen: u64, next: u64, history: History, is_told_previous: bool) -> Link {
    let truth = History { shared: LENGTH };
    let held: Vec<Tag> = (0..=seen).map(|offset| truth.tag(offset)).collect();
    let missing: Vec<u64> = (1..next).filter(|offset| *offset > seen).collect();
    if let (Some(&from), Some(&to)) = (missing.first(), missing.last()) {
        return Link::Gap { from, to };
    }
    if next > seen {
        let follows_what_is_held = history.tag(next - 1) == held[held.len() - 1];
        return if follows_what_is_held || !is_told_previous {
            Link::Next
        } else {
            Link::Diverged
        };
    }
    // Only the last tag is remembered, so only there a rewritten message shows.
    if next == seen && history.tag(next) != held[held.len() - 1] {
        return Link::Diverged;
    }
    Link::Duplicate
}

#[test]
fn every_message_of_every_rewritten_history_is_judged_as_by_hand() {
    let truth = History { shared: LENGTH };
    for shared in 0..=LENGTH {
        let history = History { shared };
        for seen in 0..LENGTH {
            for next in 1..=LENGTH {
                for previous in [None, Some(history.tag(next - 1))] {
                    let found = truth.position(seen).link(history.position(next), previous);
                    let expected = judged_by_hand(seen, next, history, previous.is_some());
                    assert_eq!(
                        found, expected,
                        "seen {seen}, next {next}, rewritten after {shared}, previous {previous:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_true_history_read_in_order_is_accepted_whole() {
    let truth = History { shared: LENGTH };
    let mut position = Position::start(Epoch(7));
    for offset in 1..=LENGTH {
        let next = truth.position(offset);
        assert_eq!(position.link(next, Some(position.tag)), Link::Next);
        position = next;
    }
}

#[test]
fn no_message_of_another_epoch_is_accepted() {
    let seen = Position::start(Epoch(7));
    for offset in 0..=LENGTH {
        for tag in [Tag(0), Tag(1)] {
            let next = Position {
                epoch: Epoch(8),
                offset,
                tag,
            };
            assert_eq!(seen.link(next, Some(Tag(0))), Link::Diverged);
        }
    }
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let seen = Position {
        epoch: Epoch(u64::MAX),
        offset: u64::MAX,
        tag: Tag(u64::MAX),
    };
    assert_eq!(seen.link(seen, None), Link::Duplicate);
    let first = Position { offset: 0, ..seen };
    let gap = Link::Gap {
        from: 1,
        to: u64::MAX - 1,
    };
    assert_eq!(first.link(seen, None), gap);
}
