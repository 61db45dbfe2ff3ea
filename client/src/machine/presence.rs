//! Who is in a presence channel: which changes a snapshot has, and which came after it. The host keeps the list.

use alloc::vec::Vec;

use fanfare_protocol::Position;

use crate::machine::backoff::Random;
use crate::time::Millis;

/// How far the members of a channel are known.
#[derive(Debug)]
pub(crate) struct Members<C> {
    /// There was a snapshot.
    are_known: bool,
    /// Changes up to here are in the snapshot.
    valid_at: Option<Position>,
    resync: Option<Resync<C>>,
    /// The host's list lacks some that there is room for.
    incomplete: Option<Incomplete>,
    /// No snapshot is asked for earlier because of that.
    complete_from: Millis,
    /// When a snapshot was last asked for.
    asked_at: Option<Millis>,
    /// From when on the next one is asked for, because messages were lost.
    resync_at: Option<Millis>,
}

/// A list that lacks members.
#[derive(Debug, Clone, Copy)]
struct Incomplete {
    /// The longest to wait: all the others in the channel ask for the same list.
    spread: u64,
    /// When a snapshot is asked for, once the machine has drawn it.
    due: Option<Millis>,
}

/// A snapshot that was asked for, and what happened meanwhile.
#[derive(Debug)]
struct Resync<C> {
    /// The command's id.
    id: u64,
    until: Millis,
    log: Vec<(C, Option<Position>)>,
    is_overrun: bool,
}

/// What became of a snapshot that was asked for.
#[derive(Debug)]
pub(crate) enum Snapshot<C> {
    /// It counts, and these changes came after it.
    Since(Vec<C>),
    /// Too much happened meanwhile: ask again.
    Overrun,
}

impl<C: Clone> Members<C> {
    pub(crate) const fn new() -> Self {
        Self {
            are_known: false,
            valid_at: None,
            resync: None,
            incomplete: None,
            complete_from: Millis(0),
            asked_at: None,
            resync_at: None,
        }
    }

    /// Takes the server's word for all of them.
    pub(crate) fn replace(&mut self, position: Option<Position>) {
        self.are_known = true;
        self.valid_at = position;
        self.resync = None;
        self.incomplete = None;
        self.resync_at = None;
    }

    /// Takes a change in; `false` when the snapshot has it already.
    pub(crate) fn apply(&mut self, change: &C, position: Option<Position>) -> bool {
        if self.is_in_snapshot(position) {
            return false;
        }
        if let Some(resync) = &mut self.resync {
            if resync.log.len() < LOG_MAX {
                resync.log.push((change.clone(), position));
            } else {
                resync.is_overrun = true;
            }
        }
        true
    }

    /// The host's list lacks some that there is room for, of so many.
    pub(crate) fn lacks_some(&mut self, count: u64) {
        let spread = COMPLETE_EVERY.min(count.saturating_mul(COMPLETE_TURN));
        self.incomplete
            .get_or_insert(Incomplete { spread, due: None });
    }

    /// When to call [`Members::complete`] because the host's list lacks some.
    pub(crate) fn complete_at(&self) -> Option<Millis> {
        let is_asked = self.resync_at.is_some() || self.resync.is_some();
        let incomplete = self.incomplete.filter(|_| !is_asked)?;
        Some(incomplete.due.unwrap_or(Millis(0)))
    }

    /// Answers whether the time to ask for a snapshot has come; the first time it is only drawn.
    pub(crate) fn complete(&mut self, random: &mut Random, now: Millis) -> bool {
        let Some(incomplete) = &mut self.incomplete else {
            return false;
        };
        if incomplete.due.is_some() {
            return true;
        }
        let drawn = now + random.up_to(incomplete.spread);
        incomplete.due = Some(drawn.max(self.complete_from));
        false
    }

    /// Messages were lost, and with them perhaps changes: a snapshot is to be asked for. One at a time, and one per [`PAUSE`], however
    /// often a server says that it lost something.
    pub(crate) fn queue_snapshot(&mut self, now: Millis) {
        if let Some(resync) = &mut self.resync {
            resync.is_overrun = true;
        } else if self.are_known && self.resync_at.is_none() {
            let at = self.asked_at.map_or(now, |asked_at| asked_at + PAUSE);
            self.resync_at = Some(at);
        }
    }

    /// From when on a snapshot is to be asked for, as soon as the pace allows.
    pub(crate) const fn resync_at(&self) -> Option<Millis> {
        self.resync_at
    }

    /// A snapshot was asked for with this command.
    pub(crate) fn await_snapshot(&mut self, id: u64, now: Millis, until: Millis) {
        self.incomplete = None;
        self.complete_from = now + COMPLETE_EVERY;
        self.asked_at = Some(now);
        self.resync_at = None;
        self.resync = Some(Resync {
            id,
            until,
            log: Vec::new(),
            is_overrun: false,
        });
    }

    pub(crate) fn awaits_snapshot(&self, id: u64) -> bool {
        self.resync.as_ref().is_some_and(|resync| resync.id == id)
    }

    /// When the snapshot is late.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.resync.as_ref().map(|resync| resync.until)
    }

    /// A snapshot that is late will not come: another is asked for.
    pub(crate) fn give_up(&mut self, now: Millis) {
        if (self.resync.take_if(|resync| resync.until <= now)).is_some() {
            self.resync_at = Some(now + PAUSE);
        }
    }

    /// The snapshot was refused: another is asked for later.
    pub(crate) fn put_off(&mut self, wait: u64, now: Millis) {
        self.resync = None;
        self.resync_at = Some(now + wait.max(PAUSE));
    }

    /// No snapshot will come.
    pub(crate) fn forget_snapshot(&mut self) {
        self.resync = None;
        self.incomplete = None;
        self.resync_at = None;
    }

    /// The snapshot that was asked for is there.
    pub(crate) fn take_snapshot(&mut self, position: Option<Position>) -> Snapshot<C> {
        let resync = self.resync.take();
        if resync.as_ref().is_some_and(|resync| resync.is_overrun) {
            return Snapshot::Overrun;
        }
        self.replace(position);
        let mut since = Vec::new();
        for (change, at) in resync.map_or(Vec::new(), |resync| resync.log) {
            if !self.is_in_snapshot(at) {
                since.push(change);
            }
        }
        Snapshot::Since(since)
    }

    /// The changes that wait for a snapshot.
    pub(crate) fn held(&self) -> impl Iterator<Item = &C> {
        let logs = self.resync.iter().flat_map(|resync| &resync.log);
        logs.map(|(change, _)| change)
    }

    fn is_in_snapshot(&self, position: Option<Position>) -> bool {
        match (self.valid_at, position) {
            (Some(valid), Some(at)) => at.epoch == valid.epoch && at.offset <= valid.offset,
            _ => false,
        }
    }
}

/// 30 s: a list may be a megabyte, and a large channel changes all the time.
const COMPLETE_EVERY: u64 = 30_000;

/// 30 ms per member: about 33 lists a second, however many of them ask.
const COMPLETE_TURN: u64 = 30;

/// 1 s: the pause between two snapshots that are asked for because of gaps.
const PAUSE: u64 = 1_000;

/// 256: more changes than this within one round trip, and the snapshot is asked for again.
const LOG_MAX: usize = 256;
