use fanfare_protocol::{ChannelName, Epoch, EventName, RawJson};

use super::reading::{HELD_MAX, TOO_OLD};
use super::*;
use crate::delivery::Publication;
use crate::engine::redis::channel::envelope::Term;

/// Offset and tag of epoch 1.
fn at(offset: u64, tag: u64) -> Position {
    Position {
        epoch: Epoch(1),
        offset,
        tag: Tag(tag),
    }
}

pub(super) fn delivery(position: Option<Position>, previous: Option<Tag>) -> Delivery {
    let channel = ChannelName::new("room").unwrap();
    let event = EventName::new("counted").unwrap();
    let data = RawJson::trusted("1".to_owned());
    Delivery::new(Publication::new(channel, event, data), position, previous)
}

/// The message at an offset whose tag is ten times the offset, plus what tells two histories apart.
fn message(offset: u64, mark: u64) -> Delivery {
    let previous = if offset == 1 {
        0
    } else {
        tag(offset - 1, mark)
    };
    delivery(Some(at(offset, tag(offset, mark))), Some(Tag(previous)))
}

fn tag(offset: u64, mark: u64) -> u64 {
    offset * 10 + mark
}

fn history(offsets: std::ops::RangeInclusive<u64>, mark: u64) -> History {
    let end = *offsets.end();
    History {
        top: if end == 0 {
            Position::start(Epoch(1))
        } else {
            at(end, tag(end, mark))
        },
        entries: offsets.map(|offset| message(offset, mark)).collect(),
    }
}

struct Bench {
    track: Track,
    now: Instant,
    out: Vec<Output>,
}

impl Bench {
    fn new(is_positioned: bool) -> Self {
        Self {
            track: Track::new(is_positioned),
            now: Instant::now(),
            out: Vec::new(),
        }
    }

    /// A positioned channel that stands at an offset.
    #[expect(clippy::reversed_empty_ranges, reason = "that is an empty history")]
    fn live(offset: u64) -> Self {
        let mut bench = Self::new(true);
        bench.track.subscribed(&mut bench.out);
        let mut read = history(1..=0, 0);
        if offset > 0 {
            read.top = at(offset, tag(offset, 0));
        }
        bench.read(read);
        bench.shown();
        bench
    }

    fn live_only() -> Self {
        let mut bench = Self::new(false);
        bench.track.subscribed(&mut bench.out);
        bench
    }

    fn arrive(&mut self, delivery: Delivery) {
        self.track.arrived(delivery, None, self.now, &mut self.out);
    }

    fn arrive_counted(&mut self, previous: u64, number: u64) {
        self.arrive_in_term((0, 0), previous, number);
    }

    fn arrive_in_term(&mut self, term: (u64, u64), previous: u64, number: u64) {
        self.arrive_as(term, previous, number, fastrand::u64(..));
    }

    fn arrive_as(&mut self, (epoch, since): (u64, u64), previous: u64, number: u64, id: u64) {
        let term = Term { epoch, since };
        let count = Count {
            term,
            previous,
            number,
            id,
        };
        let delivery = delivery(None, None);
        self.track
            .arrived(delivery, Some(count), self.now, &mut self.out);
    }

    fn read(&mut self, history: History) {
        let reading = self.track.begin_reading().expect("a read has its turn");
        self.track.read(reading, history, &mut self.out);
    }

    /// What came out since, in short.
    fn shown(&mut self) -> Vec<String> {
        let shown = self.out.drain(..).map(|output| match output {
            Output::Deliver(delivery) => match delivery.position {
                Some(position) => format!("{}/{}", position.offset, position.tag.0),
                None => "message".to_owned(),
            },
            Output::Read => "read".to_owned(),
            Output::Adopt { history, .. } => format!("adopt {}", history.top.offset),
            Output::Gap(_) => "gap".to_owned(),
            Output::Reset(position, reason) => {
                let why = if reason == TOO_OLD {
                    "too old"
                } else {
                    "master_replaced"
                };
                format!("reset {} {why}", position.offset)
            }
        });
        shown.collect()
    }
}

/// On a channel that stands at 5: what arrives, and what comes out at once.
#[track_caller]
fn check(arriving: Delivery, expected: &[&str]) {
    let mut bench = Bench::live(5);
    bench.arrive(arriving);
    assert_eq!(bench.shown(), expected);
}

#[test]
fn the_next_message_passes_and_anything_doubtful_is_looked_up() {
    check(message(6, 0), &["6/60"]);
    check(message(5, 0), &[]);
    // Lost, rewritten at the end, rewritten before, another history.
    check(message(7, 0), &["read"]);
    check(message(6, 3), &["read"]);
    check(message(5, 3), &["read"]);
    check(message(4, 3), &["read"]);
    let mut stranger = message(6, 0);
    stranger.position = Some(Position {
        epoch: Epoch(2),
        ..at(6, 60)
    });
    check(stranger, &["read"]);
    // A message without a position has no place to miss.
    check(delivery(None, None), &["message"]);
}

#[test]
fn nothing_passes_before_the_position_is_known() {
    let mut bench = Bench::new(true);
    bench.arrive(message(4, 0));
    assert!(bench.shown().is_empty(), "not subscribed");
    bench.track.subscribed(&mut bench.out);
    assert!(!bench.track.is_ready());
    bench.arrive(message(5, 0));
    bench.arrive(message(6, 0));
    assert_eq!(bench.shown(), ["read"]);
    bench.read(history(3..=5, 0));
    assert_eq!(bench.shown(), ["adopt 5", "6/60"]);
    assert!(bench.track.is_ready());
    assert_eq!(bench.track.live_position(), Some(at(6, 60)));
}

#[test]
fn a_lost_message_is_fetched_before_what_follows_passes() {
    let mut bench = Bench::live(5);
    for offset in [7, 8] {
        bench.arrive(message(offset, 0));
    }
    assert_eq!(bench.shown(), ["read"]);
    assert_eq!(bench.track.live_position(), None);
    let reading = bench.track.begin_reading().unwrap();
    assert_eq!(reading.after, Some(5));
    bench.arrive(message(9, 0));
    let found = history(6..=8, 0);
    bench.track.read(reading, found, &mut bench.out);
    assert_eq!(bench.shown(), ["6/60", "7/70", "8/80", "9/90"]);
    assert_eq!(bench.track.live_position(), Some(at(9, 90)));
}

#[test]
fn after_a_cut_the_history_fills_the_hole() {
    let mut bench = Bench::live(5);
    bench.track.cut(bench.now);
    bench.arrive(message(6, 0));
    assert!(
        bench.shown().is_empty(),
        "it arrived on a dead subscription"
    );
    bench.track.subscribed(&mut bench.out);
    assert_eq!(bench.shown(), ["read"]);
    bench.read(history(6..=7, 0));
    assert_eq!(bench.shown(), ["6/60", "7/70"]);
}

#[test]
fn a_message_that_follows_ends_the_waiting() {
    let mut bench = Bench::live(5);
    bench.track.cut(bench.now);
    bench.track.subscribed(&mut bench.out);
    bench.arrive(message(6, 0));
    assert_eq!(bench.shown(), ["read", "6/60"]);
    assert_eq!(bench.track.live_position(), Some(at(6, 60)));
    // A read that is overtaken by the next message says nothing.
    let reading = bench.track.begin_reading().unwrap();
    assert_eq!(reading.after, Some(6));
    bench.arrive(message(7, 0));
    #[expect(clippy::reversed_empty_ranges, reason = "that is an empty history")]
    let mut found = history(7..=6, 0);
    found.top = at(6, 60);
    bench.track.read(reading, found, &mut bench.out);
    assert_eq!(bench.shown(), ["7/70"]);
    assert_eq!(bench.track.live_position(), Some(at(7, 70)));
}

#[test]
fn a_read_that_began_before_the_loss_does_not_make_it_good() {
    let mut bench = Bench::live(5);
    bench.arrive(message(7, 0));
    let reading = bench.track.begin_reading().unwrap();
    bench.track.cut(bench.now);
    bench.track.subscribed(&mut bench.out);
    bench.shown();
    let found = history(6..=7, 0);
    bench.track.read(reading, found, &mut bench.out);
    assert_eq!(bench.shown(), ["6/60", "7/70", "read"]);
    assert_eq!(bench.track.live_position(), None);
    bench.read(history(8..=9, 0));
    assert_eq!(bench.shown(), ["8/80", "9/90"]);
}

/// A message of another epoch.
fn anew(offset: u64) -> Delivery {
    let mut message = message(offset, 7);
    message.position = message.position.map(|position| Position {
        epoch: Epoch(2),
        ..position
    });
    message
}

#[test]
fn the_first_message_of_another_history_passes_at_once() {
    let mut bench = Bench::live(5);
    bench.arrive(anew(1));
    bench.arrive(anew(2));
    assert_eq!(
        bench.shown(),
        ["reset 0 master_replaced", "adopt 0", "1/17", "2/27"]
    );
    assert_eq!(bench.track.live_position(), anew(2).position);
}

#[test]
fn a_new_history_begins_before_its_messages_that_arrived() {
    let mut bench = Bench::live(5);
    bench.arrive(message(6, 0));
    for offset in 2..=4 {
        bench.arrive(anew(offset));
    }
    assert_eq!(bench.shown(), ["6/60", "read"]);
    // The read saw the third message; the fourth came while it was on its way.
    let top = anew(3).position.unwrap();
    let entries = Vec::new();
    bench.read(History { top, entries });
    assert_eq!(bench.shown(), ["read"], "from where the history begins");
    // A channel that keeps nothing: only what has arrived is there.
    let entries = Vec::new();
    bench.read(History { top, entries });
    assert_eq!(
        bench.shown(),
        ["reset 1 master_replaced", "adopt 1", "2/27", "3/37", "4/47"]
    );
    assert_eq!(bench.track.live_position(), anew(4).position);

    // What has not arrived is in the history.
    let mut bench = Bench::live(5);
    bench.track.dropped(bench.now, &mut bench.out);
    bench.shown();
    let top = anew(2).position.unwrap();
    let entries = Vec::new();
    bench.read(History { top, entries });
    assert_eq!(bench.shown(), ["read"]);
    let entries = vec![anew(1), anew(2)];
    bench.read(History { top, entries });
    assert_eq!(
        bench.shown(),
        ["reset 0 master_replaced", "adopt 0", "1/17", "2/27"]
    );
}

#[test]
fn a_history_that_does_not_continue_resets() {
    // Replaced by another one of the same epoch, shorter, longer, and lost altogether.
    for (found, expected) in [
        (
            history(6..=6, 3),
            vec!["reset 6 master_replaced", "adopt 6"],
        ),
        (
            history(4..=4, 0),
            vec!["reset 4 master_replaced", "adopt 4"],
        ),
        (history(7..=9, 0), vec!["reset 9 too old", "adopt 9"]),
    ] {
        let mut bench = Bench::live(5);
        bench.track.dropped(bench.now, &mut bench.out);
        bench.shown();
        bench.read(found);
        assert_eq!(bench.shown(), expected);
    }
}

#[test]
fn what_contradicts_a_position_is_of_another_history_however_far_that_has_come() {
    // Nothing is kept, so that the read shows no more than where the channel stands: only what arrived tells why.
    let next = || delivery(Some(at(6, 63)), Some(Tag(53)));
    for (arriving, why) in [
        (next(), "master_replaced"),
        (message(5, 3), "master_replaced"),
        (message(8, 0), "too old"),
    ] {
        let mut bench = Bench::live(5);
        bench.arrive(arriving);
        let (top, entries) = (at(9, 93), Vec::new());
        bench.read(History { top, entries });
        assert_eq!(bench.shown()[1], format!("reset 9 {why}"));
        // Once told, it says nothing of later losses.
        bench.track.dropped(bench.now, &mut bench.out);
        let (top, entries) = (at(12, 123), Vec::new());
        bench.read(History { top, entries });
        assert!(bench.shown().contains(&"reset 12 too old".to_owned()));
    }
    let mut bench = Bench::live(5);
    bench.track.compare(at(5, 50), at(5, 53), &mut bench.out);
    let (top, entries) = (at(9, 93), Vec::new());
    bench.read(History { top, entries });
    assert_eq!(bench.shown()[1], "reset 9 master_replaced");
}

#[test]
fn after_a_reset_the_new_history_passes() {
    let mut bench = Bench::live(5);
    bench.arrive(message(6, 3));
    bench.shown();
    bench.read(history(6..=6, 3));
    assert_eq!(
        bench.shown(),
        ["reset 5 master_replaced", "adopt 5", "6/63"]
    );
    bench.arrive(message(7, 3));
    assert_eq!(bench.shown(), ["7/73"]);
}

#[test]
fn what_the_history_denies_and_nobody_saw_is_dropped() {
    let mut bench = Bench::live(5);
    bench.arrive(message(6, 3));
    bench.read(history(6..=7, 0));
    assert_eq!(bench.shown(), ["read", "6/60", "7/70"]);
    bench.arrive(message(20, 3));
    assert_eq!(bench.shown(), ["read"]);
    #[expect(clippy::reversed_empty_ranges, reason = "that is an empty history")]
    let mut same = history(8..=7, 0);
    same.top = at(7, 70);
    bench.read(same);
    assert!(bench.shown().is_empty());
    assert_eq!(bench.track.live_position(), Some(at(7, 70)));
}

#[test]
fn holding_back_too_much_costs_another_read_and_no_message() {
    let mut bench = Bench::live(5);
    bench.arrive(message(7, 0));
    let reading = bench.track.begin_reading().unwrap();
    let last = 7 + HELD_MAX as u64 + 10;
    for offset in 8..=last {
        bench.arrive(message(offset, 0));
    }
    assert_eq!(bench.shown(), ["read"]);
    let found = history(6..=20, 0);
    bench.track.read(reading, found, &mut bench.out);
    let shown = bench.shown();
    assert_eq!(
        shown.len(),
        16,
        "fifteen messages and another read: {shown:?}"
    );
    assert_eq!(shown[15], "read");
    bench.read(history(21..=last, 0));
    assert_eq!(bench.shown().len() as u64, last - 20);
    assert_eq!(bench.track.live_position(), Some(at(last, last * 10)));
}

#[test]
fn a_read_that_was_cut_short_goes_on() {
    let mut bench = Bench::live(5);
    bench.track.dropped(bench.now, &mut bench.out);
    bench.shown();
    let reading = bench.track.begin_reading().unwrap();
    let mut part = history(6..=7, 0);
    part.top = at(9, 90);
    bench.track.read(reading, part, &mut bench.out);
    assert_eq!(bench.shown(), ["6/60", "7/70", "read"]);
    bench.read(history(8..=9, 0));
    assert_eq!(bench.shown(), ["8/80", "9/90"]);
}

#[test]
fn the_store_is_compared_with_what_passed() {
    let live = || {
        let mut bench = Bench::live(5);
        bench.arrive(message(6, 0));
        bench.shown();
        bench
    };
    let compare = |bench: &mut Bench, asked_at, found| {
        let asked_at = at(asked_at, asked_at * 10);
        bench.track.compare(asked_at, found, &mut bench.out)
    };
    let mut bench = live();
    assert_eq!(compare(&mut bench, 6, at(6, 60)), Verdict::Agrees);
    // The question went out before the last message passed.
    assert_eq!(compare(&mut bench, 5, at(5, 50)), Verdict::Agrees);
    let ahead = at(8, 80);
    assert_eq!(compare(&mut bench, 6, ahead), Verdict::Ahead);
    assert!(bench.shown().is_empty());
    bench.track.overdue(at(6, 60), &mut bench.out);
    assert!(bench.shown().is_empty(), "it has arrived meanwhile");
    bench.track.overdue(ahead, &mut bench.out);
    assert_eq!(bench.shown(), ["read"]);
    // Rewritten at the end, rewritten before, shorter than it was, another history.
    for (asked_at, found) in [
        (6, at(6, 63)),
        (5, at(5, 53)),
        (6, at(5, 50)),
        (6, Position::start(Epoch(2))),
    ] {
        let mut bench = live();
        let verdict = compare(&mut bench, asked_at, found);
        assert_eq!(verdict, Verdict::Differs, "{found:?}");
        assert_eq!(bench.shown(), ["read"]);
    }
}

#[test]
fn a_fast_channel_is_not_suspended_by_a_comparison() {
    // (messages that passed while the question was on its way, the tag found at 5, the verdict)
    for (count, mark, expected) in [
        (TAGS_MAX as u64 - 1, 0, Verdict::Agrees),
        (TAGS_MAX as u64 - 1, 3, Verdict::Differs),
        (TAGS_MAX as u64, 0, Verdict::Agrees),
        (10 * TAGS_MAX as u64, 0, Verdict::Agrees),
    ] {
        let mut bench = Bench::live(5);
        for offset in 6..=5 + count {
            bench.arrive(message(offset, 0));
        }
        bench.shown();
        let found = at(5, tag(5, mark));
        let verdict = bench.track.compare(at(5, 50), found, &mut bench.out);
        assert_eq!(verdict, expected, "{count} messages, mark {mark}");
        let is_suspended = bench.track.live_position().is_none();
        assert_eq!(is_suspended, expected == Verdict::Differs);
    }
}

#[test]
fn a_live_only_channel_is_told_of_a_cut_once() {
    let mut bench = Bench::live_only();
    assert!(bench.track.is_ready());
    bench.arrive(delivery(None, None));
    bench.track.cut(bench.now);
    assert!(bench.track.is_waiting_to_tell());
    bench.track.subscribed(&mut bench.out);
    bench.arrive(delivery(None, None));
    assert_eq!(bench.shown(), ["message", "gap", "message"]);
    bench.now += Duration::from_secs(60);
    bench.track.tick(bench.now, &mut bench.out);
    assert!(bench.shown().is_empty());
}

#[test]
fn a_cut_that_lasts_is_told_while_it_lasts_and_when_it_ends() {
    let mut bench = Bench::live_only();
    bench.track.cut(bench.now);
    bench.now += CUT_TOLD_AFTER;
    for _ in 0..2 {
        bench.track.tick(bench.now, &mut bench.out);
    }
    assert_eq!(bench.shown(), ["gap"]);
    bench.track.subscribed(&mut bench.out);
    assert_eq!(bench.shown(), ["gap"]);
}

#[test]
fn numbers_show_what_a_live_only_channel_lost() {
    // (the number before and its own, of every message; before which of them a gap is told)
    type Numbers<'a> = &'a [(u64, u64)];
    let rows: &[(Numbers<'_>, Option<usize>)] = &[
        (&[(4, 5), (5, 6), (6, 7)], None),
        (&[(4, 5), (6, 7), (7, 8)], Some(1)),
        // The store had forgotten its count.
        (&[(4, 5), (0, 1_000), (1_000, 1_001)], None),
        (&[(4, 5), (0, 1_000), (1_001, 1_002)], Some(2)),
        // It stands where it stood before.
        (&[(4, 5), (2, 3), (3, 4)], None),
    ];
    for (numbers, gap_before) in rows {
        let mut bench = Bench::live_only();
        for (index, (previous, number)) in numbers.iter().enumerate() {
            bench.arrive_counted(*previous, *number);
            let expected: &[&str] = match *gap_before == Some(index) {
                true => &["gap", "message"],
                false => &["message"],
            };
            assert_eq!(bench.shown(), expected, "{numbers:?}, {index}");
        }
        bench.now += Duration::from_secs(60);
        bench.track.tick(bench.now, &mut bench.out);
        assert!(bench.shown().is_empty(), "{numbers:?}");
    }
}

#[test]
fn a_loss_that_no_message_follows_is_told_after_a_second() {
    for (after, is_told) in [(999, false), (1_000, true)] {
        let mut bench = Bench::live_only();
        bench.arrive_counted(4, 5);
        bench.shown();
        bench.track.possible_loss(bench.now);
        bench.now += Duration::from_millis(after);
        bench.track.tick(bench.now, &mut bench.out);
        assert_eq!(bench.shown().len(), usize::from(is_told), "{after} ms");
    }
}

/// Messages by term, number before and number; whether each passes, and whether a gap is told.
type Terms<'a> = &'a [((u64, u64), u64, u64, bool)];

#[test]
fn what_a_replaced_master_says_late_is_dropped_and_what_the_new_one_says_passes() {
    let (old, new) = ((1, 100), (2, 200));
    let rows: &[(&str, Terms<'_>, bool)] = &[
        (
            "the old master wakes before the new one has note anything: what was heard is not heard again",
            &[(old, 4, 5, true), (old, 3, 4, false), (old, 4, 5, false)],
            false,
        ),
        (
            "the old master wakes later",
            &[
                (old, 4, 5, true),
                (new, 5, 6, true),
                (old, 5, 6, false),
                (old, 6, 7, false),
                (new, 6, 7, true),
            ],
            true,
        ),
        (
            "the new master lacks the last two messages, and gives their numbers to others",
            &[
                (old, 4, 5, true),
                (old, 5, 6, true),
                (new, 4, 5, true),
                (new, 5, 6, true),
                (old, 6, 7, false),
                (new, 6, 7, true),
            ],
            true,
        ),
        (
            "the same server counts on after a start, or without its data",
            &[
                ((1, 100), 4, 5, true),
                ((1, 150), 5, 6, true),
                ((1, 160), 0, 1_000, true),
            ],
            false,
        ),
        (
            "the same server was started with an old copy",
            &[
                ((1, 100), 4, 5, true),
                ((1, 150), 3, 4, true),
                ((1, 150), 4, 5, true),
            ],
            false,
        ),
    ];
    for (what, messages, is_gap) in rows {
        let mut bench = Bench::live_only();
        let mut gaps = 0;
        for (term, previous, number, passes) in *messages {
            bench.arrive_in_term(*term, *previous, *number);
            let shown = bench.shown();
            let passed = shown.last().is_some_and(|last| last == "message");
            assert_eq!(passed, *passes, "{what}: {term:?} {number}");
            gaps += shown.iter().filter(|shown| *shown == "gap").count();
        }
        assert_eq!(gaps, usize::from(*is_gap), "{what}");
    }
}

#[test]
fn what_both_masters_were_given_is_heard_once() {
    let (old, new) = ((1, 100), (2, 200));
    let mut bench = Bench::live_only();
    // The old master wakes while its publishes are only being repeated.
    bench.arrive_as(old, 4, 5, 0xa);
    bench.arrive_as(old, 5, 6, 0xb);
    assert_eq!(bench.shown(), ["message", "message"]);
    bench.arrive_as(new, 4, 5, 0xc);
    assert_eq!(bench.shown(), ["gap", "message"]);
    bench.arrive_as(new, 5, 6, 0xa);
    bench.arrive_as(new, 6, 7, 0xb);
    assert_eq!(bench.shown(), [""; 0]);
    bench.arrive_as(new, 7, 8, 0xd);
    assert_eq!(bench.shown(), ["message"]);
}

#[test]
fn terms_outlast_a_cut_and_are_forgotten_as_the_store_forgets_them() {
    let (old, new) = ((1, 100), (2, 200));
    let mut bench = Bench::live_only();
    bench.arrive_in_term(old, 4, 5);
    bench.track.cut(bench.now);
    bench.track.subscribed(&mut bench.out);
    assert_eq!(bench.shown(), ["message", "gap"]);
    // The new connection hears the old master's messages through the new one.
    bench.arrive_in_term(old, 4, 5);
    assert_eq!(bench.shown(), [""; 0]);
    bench.arrive_in_term(old, 5, 6);
    assert_eq!(bench.shown(), ["message"], "nobody here has heard it");
    bench.track.cut(bench.now);
    bench.track.subscribed(&mut bench.out);
    bench.arrive_in_term(new, 5, 6);
    assert_eq!(bench.shown(), ["gap", "message"]);
    assert!(!bench.track.is_waiting_to_tell(), "the cut was told");
    bench.now += Duration::from_mins(10);
    bench.arrive_in_term(old, 6, 7);
    assert_eq!(bench.shown(), ["message"]);
}

#[test]
fn a_dropped_message_is_one_gap_however_it_is_noticed() {
    let mut bench = Bench::live_only();
    bench.arrive_counted(4, 5);
    bench.track.dropped(bench.now, &mut bench.out);
    bench.track.dropped(bench.now, &mut bench.out);
    bench.arrive_counted(7, 8);
    bench.now += Duration::from_secs(1);
    bench.track.tick(bench.now, &mut bench.out);
    assert_eq!(bench.shown(), ["message", "gap", "message"]);
}

#[test]
fn a_dropped_message_of_a_positioned_channel_is_read() {
    let mut bench = Bench::live(5);
    bench.track.dropped(bench.now, &mut bench.out);
    bench.arrive(message(7, 0));
    assert_eq!(bench.shown(), ["read"]);
    bench.read(history(6..=7, 0));
    assert_eq!(bench.shown(), ["6/60", "7/70"]);
}
