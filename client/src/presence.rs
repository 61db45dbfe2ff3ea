//! Who is in a presence channel: a snapshot and the comings and goings since.

use alloc::vec::Vec;
use fanfare_protocol::{Member, Position, Presence, UserId};

use crate::time::Millis;

/// The members that are known.
#[derive(Debug)]
pub(crate) struct Members<P> {
    /// Ordered by id.
    list: Vec<Member<P>>,
    /// How many there are; more than `list` holds where the server or [`MEMBERS_MAX`] caps it.
    count: u64,
    /// Changes up to here are in the snapshot.
    valid_at: Option<Position>,
    resync: Option<Resync<P>>,
}

/// A snapshot that was asked for, and what happened meanwhile.
#[derive(Debug)]
struct Resync<P> {
    /// The command's id.
    id: u64,
    until: Millis,
    log: Vec<(Change<P>, Option<Position>)>,
    is_overrun: bool,
}

/// A coming or a going.
#[derive(Debug, Clone)]
pub(crate) enum Change<P> {
    Added(Member<P>),
    Removed(UserId),
}

/// What became of a snapshot that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    /// It counts now.
    Done,
    /// Too much happened meanwhile: ask again.
    Overrun,
}

impl<P: Clone> Members<P> {
    pub(crate) const fn new() -> Self {
        Self {
            list: Vec::new(),
            count: 0,
            valid_at: None,
            resync: None,
        }
    }

    pub(crate) fn list(&self) -> &[Member<P>] {
        &self.list
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Takes the server's word for all of them.
    pub(crate) fn replace(&mut self, presence: Presence<P>, position: Option<Position>) {
        self.list.clear();
        // One by one: a library's sort adds 4 KB to the browser's client.
        for member in presence.members {
            if let Err(at) = self.find(&member.id) {
                self.list.insert(at, member);
            }
        }
        self.list.truncate(MEMBERS_MAX);
        self.count = presence.count.max(self.list.len() as u64);
        self.valid_at = position;
        self.resync = None;
    }

    /// Takes a change in. Gives what was known about a member who left; `None` when the snapshot has the change already.
    pub(crate) fn apply(
        &mut self,
        change: Change<P>,
        position: Option<Position>,
    ) -> Option<Option<P>> {
        if self.is_in_snapshot(position) {
            return None;
        }
        if let Some(resync) = &mut self.resync {
            if resync.log.len() < LOG_MAX {
                resync.log.push((change.clone(), position));
            } else {
                resync.is_overrun = true;
            }
        }
        Some(self.change(change))
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

    /// The snapshot that was asked for: what happened meanwhile is applied to it.
    pub(crate) fn sync(&mut self, presence: Presence<P>, position: Option<Position>) -> Synced {
        let Some(resync) = self.resync.take() else {
            return Synced::Done;
        };
        if resync.is_overrun {
            return Synced::Overrun;
        }
        self.replace(presence, position);
        for (change, at) in resync.log {
            if !self.is_in_snapshot(at) {
                self.change(change);
            }
        }
        Synced::Done
    }

    fn is_in_snapshot(&self, position: Option<Position>) -> bool {
        match (self.valid_at, position) {
            (Some(valid), Some(at)) => at.epoch == valid.epoch && at.offset <= valid.offset,
            _ => false,
        }
    }

    fn change(&mut self, change: Change<P>) -> Option<P> {
        match change {
            Change::Added(member) => {
                match self.find(&member.id) {
                    Ok(at) => self.list[at] = member,
                    Err(at) => {
                        self.count += 1;
                        if self.list.len() < MEMBERS_MAX {
                            self.list.insert(at, member);
                        }
                    }
                }
                None
            }
            Change::Removed(id) => match self.find(&id) {
                Ok(at) => {
                    self.count -= 1;
                    Some(self.list.remove(at).info)
                }
                Err(_) => {
                    self.count = self.count.saturating_sub(1).max(self.list.len() as u64);
                    None
                }
            },
        }
    }

    fn find(&self, id: &UserId) -> Result<usize, usize> {
        self.list.binary_search_by(|member| member.id.cmp(id))
    }
}

/// 10,000: a list that a page can still draw; beyond it only the count is kept.
const MEMBERS_MAX: usize = 10_000;

/// 256: more changes than this within one round trip, and the snapshot is asked for again.
const LOG_MAX: usize = 256;
