//! Who is in a presence channel: which changes a snapshot has, and which came after it. The host keeps the list.

use alloc::vec::Vec;

use fanfare_protocol::Position;

use crate::time::Millis;

/// How far the members of a channel are known.
#[derive(Debug)]
pub(crate) struct Members<C> {
    /// There was a snapshot.
    are_known: bool,
    /// Changes up to here are in the snapshot.
    valid_at: Option<Position>,
    resync: Option<Resync<C>>,
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
        }
    }

    pub(crate) const fn are_known(&self) -> bool {
        self.are_known
    }

    /// Takes the server's word for all of them.
    pub(crate) fn replace(&mut self, position: Option<Position>) {
        self.are_known = true;
        self.valid_at = position;
        self.resync = None;
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

    /// A snapshot was asked for with this command.
    pub(crate) fn await_snapshot(&mut self, id: u64, until: Millis) {
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

    /// A snapshot that is late will not come.
    pub(crate) fn give_up(&mut self, now: Millis) {
        self.resync.take_if(|resync| resync.until <= now);
    }

    /// No snapshot will come.
    pub(crate) fn forget_snapshot(&mut self) {
        self.resync = None;
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

/// 256: more changes than this within one round trip, and the snapshot is asked for again.
const LOG_MAX: usize = 256;
