//! A track between a store that forgets and a network that loses, against what a subscriber must see.

use fanfare_protocol::Epoch;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::tests::delivery;
use super::*;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A message is published; the network delivers it, or does not.
    Publish { arrives: bool },
    /// The oldest message under way arrives.
    Arrive,
    /// A message under way arrives a second time.
    Repeat,
    /// The subscription ends; what was under way is gone.
    Cut,
    /// The subscription stands again.
    Subscribe,
    /// The queue before the track was full: what was under way is gone and the track is told.
    Overflow,
    /// A read that was asked for starts.
    BeginRead,
    /// It comes back with what the store says now.
    EndRead,
    /// The store is asked where it stands.
    BeginSync,
    /// The answer is there.
    EndSync,
    /// The store loses its newest messages, and what was under way stays under way.
    Rewind(u8),
    /// The store loses everything.
    Lose,
    /// The oldest messages are trimmed.
    Trim(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<bool>().prop_map(|arrives| Step::Publish { arrives }),
        4 => Just(Step::Publish { arrives: true }),
        12 => Just(Step::Arrive),
        1 => Just(Step::Repeat),
        2 => Just(Step::Cut),
        4 => Just(Step::Subscribe),
        1 => Just(Step::Overflow),
        6 => Just(Step::BeginRead),
        6 => Just(Step::EndRead),
        2 => Just(Step::BeginSync),
        2 => Just(Step::EndSync),
        1 => (1_u8..4).prop_map(Step::Rewind),
        1 => Just(Step::Lose),
        1 => (1_u8..4).prop_map(Step::Trim),
    ]
}

/// What happens in one run. In every other one the network loses nothing silently and the store forgets nothing.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let steps = proptest::collection::vec(step(), 1..120);
    (any::<bool>(), steps).prop_map(|(is_honest, mut steps)| {
        for step in steps.iter_mut().filter(|_| is_honest) {
            match step {
                Step::Publish { arrives } => *arrives = true,
                Step::Rewind(_) | Step::Lose => *step = Step::Arrive,
                _ => {}
            }
        }
        steps
    })
}

/// What can be wrong around a track, planted to see whether the property notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The position is read before the subscription stands.
    ReadBeforeSubscribed,
    /// A read's messages come newest first.
    FeedReversed,
    /// A read's oldest message is left out.
    SkipFirstRead,
    /// The store is never compared.
    NeverSync,
    /// A lost connection is not told to the track.
    HideCut,
    /// An overflow is not told to the track.
    HideOverflow,
    /// A read counts for losses that came after it began.
    TrustOldReads,
    /// What the store says is compared with where the track stands when the answer comes.
    CompareLate,
}

impl Fault {
    const ALL: &[Self] = &[
        Self::ReadBeforeSubscribed,
        Self::FeedReversed,
        Self::SkipFirstRead,
        Self::NeverSync,
        Self::HideCut,
        Self::HideOverflow,
        Self::TrustOldReads,
        Self::CompareLate,
    ];
}

/// The store, the network and the subscribers' view.
struct World {
    fault: Option<Fault>,
    track: Track,
    out: Vec<Output>,
    now: Instant,
    is_subscribed: bool,
    is_read_due: bool,
    reading: Option<(Reading, History)>,
    /// What the store held when the subscription was not there yet.
    early_read: Option<History>,
    /// Where the track and the store stood when the store was asked.
    sync: Option<(Position, Position)>,
    epoch: u64,
    top: Position,
    entries: VecDeque<Delivery>,
    next_tag: u64,
    under_way: VecDeque<Delivery>,
    /// Where a subscriber stands; none before the first position.
    seen: Option<Position>,
    has_lost_history: bool,
    /// Whether something happened that only the next message or a comparison can show.
    needs_sync: bool,
    /// Whether the store is another one than when the read was made.
    changed_while_reading: bool,
    resets: usize,
    delivered: Vec<Position>,
}

/// 4: a read is often cut short.
const READ_MAX: usize = 4;

impl World {
    fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            early_read: None,
            track: Track::new(true),
            out: Vec::new(),
            now: Instant::now(),
            is_subscribed: false,
            is_read_due: false,
            reading: None,
            sync: None,
            epoch: 1,
            top: Position::start(Epoch(1)),
            entries: VecDeque::new(),
            next_tag: 1,
            under_way: VecDeque::new(),
            seen: None,
            has_lost_history: false,
            needs_sync: false,
            changed_while_reading: false,
            resets: 0,
            delivered: Vec::new(),
        }
    }

    fn publish(&mut self, arrives: bool) {
        let position = Position {
            epoch: Epoch(self.epoch),
            offset: self.top.offset + 1,
            tag: Tag(self.next_tag),
        };
        self.next_tag += 1;
        let message = delivery(Some(position), Some(self.top.tag));
        self.top = position;
        self.entries.push_back(message.clone());
        if arrives && self.is_subscribed {
            self.under_way.push_back(message);
        }
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.changed_while_reading |= matches!(
            step,
            Step::Publish { .. } | Step::Rewind(_) | Step::Lose | Step::Trim(_)
        );
        match step {
            Step::Publish { arrives } => {
                self.needs_sync |= self.is_subscribed && !arrives;
                self.publish(arrives);
            }
            Step::Arrive => {
                if let Some(message) = self.under_way.pop_front() {
                    self.track.arrived(message, None, self.now, &mut self.out);
                }
            }
            Step::Repeat => {
                if let Some(message) = self.under_way.front().cloned() {
                    self.track.arrived(message, None, self.now, &mut self.out);
                }
            }
            Step::Cut => self.cut(),
            Step::Subscribe => self.subscribe(),
            Step::Overflow => {
                self.under_way.clear();
                if self.fault != Some(Fault::HideOverflow) {
                    self.track.dropped(self.now, &mut self.out);
                }
            }
            Step::BeginRead if self.reading.is_none() && self.is_read_due => {
                self.is_read_due = false;
                self.changed_while_reading = false;
                let reading = self.track.begin_reading();
                self.reading = reading.map(|reading| (reading, self.read(reading)));
            }
            Step::BeginRead => {}
            Step::EndRead => {
                if let Some((mut reading, history)) = self.reading.take() {
                    if self.fault == Some(Fault::TrustOldReads) {
                        reading.generation = self.track.generation;
                    }
                    self.track.read(reading, history, &mut self.out);
                }
            }
            Step::BeginSync => {
                self.sync = self.track.live_position().map(|at| (at, self.top));
            }
            Step::EndSync => self.end_sync(),
            Step::Rewind(count) => {
                self.needs_sync = true;
                self.rewind(count);
            }
            Step::Lose => {
                self.needs_sync = true;
                self.has_lost_history = true;
                self.epoch += 1;
                self.top = Position::start(Epoch(self.epoch));
                self.entries.clear();
            }
            Step::Trim(count) => {
                self.has_lost_history = true;
                for _ in 0..count {
                    self.entries.pop_front();
                }
            }
        }
        self.take_outputs()
    }

    fn cut(&mut self) {
        self.is_subscribed = false;
        self.under_way.clear();
        if self.fault != Some(Fault::HideCut) {
            self.track.cut(self.now);
        }
    }

    fn subscribe(&mut self) {
        if self.is_subscribed {
            return;
        }
        self.early_read.get_or_insert_with(|| History {
            top: Position::start(Epoch(1)),
            entries: Vec::new(),
        });
        self.is_subscribed = true;
        if self.fault != Some(Fault::HideCut) || self.track.position().is_none() {
            self.track.subscribed(&mut self.out);
        }
    }

    fn end_sync(&mut self) {
        let Some((mut asked_at, found)) = self.sync.take() else {
            return;
        };
        match self.fault {
            Some(Fault::NeverSync) => return,
            Some(Fault::CompareLate) => asked_at.offset = 0,
            _ => {}
        }
        let verdict = self.track.compare(asked_at, found, &mut self.out);
        if verdict == Verdict::Ahead {
            // The second look comes when everything under way has arrived.
            while let Some(message) = self.under_way.pop_front() {
                self.track.arrived(message, None, self.now, &mut self.out);
            }
            self.track.overdue(found, &mut self.out);
        }
    }

    fn rewind(&mut self, count: u8) {
        for _ in 0..count {
            let Some(message) = self.entries.pop_back() else {
                return;
            };
            let position = message.position.unwrap();
            self.has_lost_history = true;
            self.top = Position {
                offset: position.offset - 1,
                tag: message.previous.unwrap(),
                ..position
            };
        }
    }

    /// What a read brings, spoiled by the fault that is planted.
    fn read(&mut self, reading: Reading) -> History {
        let mut history = self.history(reading.after);
        match self.fault {
            Some(Fault::FeedReversed) => history.entries.reverse(),
            Some(Fault::SkipFirstRead) if history.entries.len() > 1 => {
                history.entries.remove(0);
            }
            Some(Fault::ReadBeforeSubscribed) if reading.after.is_none() => {
                history = self.early_read.take().unwrap_or(history);
            }
            _ => {}
        }
        history
    }

    fn history(&self, after: Option<u64>) -> History {
        let offset_of = |entry: &Delivery| entry.position.unwrap().offset;
        let wanted = self
            .entries
            .iter()
            .filter(|entry| after.is_none_or(|after| offset_of(entry) > after));
        let mut entries: Vec<Delivery> = wanted.cloned().collect();
        if after.is_some() {
            entries.truncate(READ_MAX);
        }
        let top = self.top;
        History { top, entries }
    }

    fn take_outputs(&mut self) -> Result<(), TestCaseError> {
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Read => {
                    prop_assert!(!self.is_read_due, "a second read of one channel");
                    self.is_read_due = true;
                }
                Output::Deliver(message) => {
                    let position = message.position.unwrap();
                    let at = self.seen.expect("a message passed before the position");
                    prop_assert_eq!(position.epoch, at.epoch);
                    prop_assert_eq!(position.offset, at.offset + 1);
                    prop_assert_eq!(message.previous, Some(at.tag));
                    self.seen = Some(position);
                    self.delivered.push(position);
                }
                Output::Adopt { history, is_whole } => {
                    prop_assert!(
                        self.seen.is_none() || self.seen == Some(history.top),
                        "a new beginning that nobody was told of"
                    );
                    let kept = self.history(None);
                    let is_all = kept.entries.len() == history.entries.len();
                    prop_assert!(!is_whole || self.changed_while_reading || is_all);
                    self.seen = Some(history.top);
                }
                Output::Reset(position, _) => {
                    self.resets += 1;
                    self.seen = Some(position);
                }
                Output::Gap(_) => prop_assert!(false, "a gap where history should help"),
            }
        }
        prop_assert_eq!(self.seen, self.track.position());
        Ok(())
    }

    /// The network is calm again, and the store is compared where nothing else can help: afterwards the subscribers stand where
    /// the store stands.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.apply(Step::Subscribe)?;
        for _ in 0..200 {
            self.apply(Step::EndRead)?;
            while !self.under_way.is_empty() {
                self.apply(Step::Arrive)?;
            }
            if self.needs_sync {
                self.apply(Step::BeginSync)?;
                self.apply(Step::EndSync)?;
            }
            self.apply(Step::BeginRead)?;
            if self.reading.is_none() && self.track.live_position() == Some(self.top) {
                return Ok(());
            }
        }
        prop_assert!(false, "it never settles");
        Ok(())
    }
}

/// Whatever happens: a subscriber sees an unbroken chain, or is told.
fn check(steps: Vec<Step>, fault: Option<Fault>) -> Result<(), TestCaseError> {
    let mut world = World::new(fault);
    for step in steps {
        world.apply(step)?;
    }
    world.settle()?;
    if !world.has_lost_history {
        prop_assert_eq!(world.resets, 0, "nothing was lost, yet a reset was told");
        let first = world.delivered.first();
        let first = first.map_or(world.top.offset + 1, |first| first.offset);
        let expected: Vec<u64> = (first..=world.top.offset).collect();
        let offsets: Vec<u64> = world.delivered.iter().map(|at| at.offset).collect();
        prop_assert_eq!(offsets, expected, "every message once and in order");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn subscribers_see_an_unbroken_chain_or_are_told(
        steps in steps(),
    ) {
        check(steps, None)?;
    }
}

#[test]
fn every_planted_fault_is_noticed() {
    for fault in Fault::ALL {
        let config = ProptestConfig {
            cases: 300,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..ProptestConfig::default()
        };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let found = runner.run(&steps(), |steps| check(steps, Some(*fault)));
        assert!(found.is_err(), "{fault:?} goes unnoticed");
    }
}
