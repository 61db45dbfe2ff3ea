//! The store, the network and the subscribers around one track.

use std::collections::{HashMap, VecDeque};

use fanfare_protocol::{Epoch, Position, Tag};
use proptest::prelude::*;

use super::super::tests::delivery;
use super::super::{Output, Reading, Track, Verdict};
use super::{Fault, Step};
use crate::clock::Instant;
use crate::delivery::{Delivery, History};
use crate::engine::tag::tag_after;

/// The store, the network and the subscribers' view.
pub(super) struct World {
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
    pub(super) top: Position,
    entries: VecDeque<Delivery>,
    /// All messages of the epoch up to the top.
    ids: Vec<u64>,
    /// What was up to each position that there ever was.
    prefixes: HashMap<Position, Vec<u64>>,
    next_id: u64,
    under_way: VecDeque<Delivery>,
    /// Where a subscriber stands; none before the first position.
    seen: Option<Position>,
    /// What that subscriber has, as it believes.
    seen_ids: Vec<u64>,
    pub(super) has_lost_history: bool,
    /// Whether something happened that only the next message or a comparison can show.
    needs_sync: bool,
    /// Whether the store is another one than when the read was made.
    changed_while_reading: bool,
    pub(super) resets: usize,
    pub(super) delivered: Vec<Position>,
}

/// 4: a read is often cut short.
const READ_MAX: usize = 4;

impl World {
    pub(super) fn new(fault: Option<Fault>) -> Self {
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
            ids: Vec::new(),
            prefixes: HashMap::new(),
            next_id: 1,
            under_way: VecDeque::new(),
            seen: None,
            seen_ids: Vec::new(),
            has_lost_history: false,
            needs_sync: false,
            changed_while_reading: false,
            resets: 0,
            delivered: Vec::new(),
        }
    }

    fn publish_new(&mut self, arrives: bool) {
        self.next_id += 1;
        self.publish(self.next_id, arrives);
    }

    fn publish(&mut self, id: u64, arrives: bool) {
        let position = Position {
            epoch: Epoch(self.epoch),
            offset: self.top.offset + 1,
            tag: match self.fault {
                Some(Fault::TagOneMessage) => Tag(id),
                _ => tag_after(self.top.tag, id),
            },
        };
        let mut message = delivery(Some(position), Some(self.top.tag));
        message.event_id = Some(id.to_string().into());
        self.top = position;
        self.ids.push(id);
        self.prefixes.insert(position, self.ids.clone());
        self.entries.push_back(message.clone());
        if arrives && self.is_subscribed {
            self.under_way.push_back(message);
        }
    }

    fn fork(&mut self, lost: u8, repeated: u8) {
        let kept = self.ids.len().saturating_sub(usize::from(lost));
        let gone = self.ids[kept.max(self.ids.len() - self.entries.len())..].to_vec();
        self.rewind(lost);
        let is_repeated = |(at, _): &(usize, u64)| repeated >> at & 1 == 1;
        let again = gone.into_iter().enumerate().filter(is_repeated);
        let mut again: VecDeque<u64> = again.map(|(_, id)| id).collect();
        while let Some(id) = again.pop_front() {
            if again.is_empty() {
                self.publish_new(true);
            }
            self.publish(id, true);
        }
    }

    pub(super) fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.changed_while_reading |= matches!(
            step,
            Step::Publish { .. } | Step::Rewind(_) | Step::Fork { .. } | Step::Lose | Step::Trim(_)
        );
        match step {
            Step::Publish { arrives } => {
                self.needs_sync |= self.is_subscribed && !arrives;
                self.publish_new(arrives);
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
            Step::Fork { lost, repeated } => {
                self.needs_sync = true;
                self.fork(lost, repeated);
            }
            Step::Lose => {
                self.needs_sync = true;
                self.has_lost_history = true;
                self.epoch += 1;
                self.top = Position::start(Epoch(self.epoch));
                self.entries.clear();
                self.ids.clear();
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
            self.ids.pop();
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
                    self.seen_ids.push(id_of(&message));
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
                    self.stand_at(history.top);
                }
                Output::Reset(position, _) => {
                    self.resets += 1;
                    self.stand_at(position);
                }
                Output::Gap(_) => prop_assert!(false, "a gap where history should help"),
            }
        }
        prop_assert_eq!(self.seen, self.track.position());
        Ok(())
    }

    /// The subscriber is told that it has what is up to a position.
    fn stand_at(&mut self, position: Position) {
        if self.seen != Some(position) {
            self.seen_ids = self.prefixes.get(&position).cloned().unwrap_or_default();
        }
        self.seen = Some(position);
    }

    /// The network is calm again, and the store is compared where nothing else can help: afterwards the subscribers stand where
    /// the store stands.
    pub(super) fn settle(&mut self) -> Result<(), TestCaseError> {
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
                prop_assert_eq!(&self.seen_ids, &self.ids, "what a subscriber has");
                return Ok(());
            }
        }
        prop_assert!(false, "it never settles");
        Ok(())
    }
}

fn id_of(message: &Delivery) -> u64 {
    let id = message.event_id.as_deref();
    id.and_then(|id| id.parse().ok()).unwrap()
}
