//! Who is in a presence channel, as a list.

use alloc::vec::Vec;
use fanfare_protocol::{Member, Presence, UserId};

use crate::wire::Change;

/// The members that are known.
#[derive(Debug)]
pub(crate) struct Members<P> {
    /// Ordered by id.
    list: Vec<Member<P>>,
    /// How many there are; more than `list` holds where the server or [`MEMBERS_MAX`] caps it.
    count: u64,
    /// How many the server listed of more: what fits into its list.
    listed_max: usize,
}

impl<P: Clone> Members<P> {
    pub(crate) const fn new() -> Self {
        Self {
            list: Vec::new(),
            count: 0,
            listed_max: 0,
        }
    }

    pub(crate) fn list(&self) -> &[Member<P>] {
        &self.list
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Takes the server's word for all of them.
    pub(crate) fn replace(&mut self, presence: Presence<P>) {
        self.list.clear();
        for member in presence.members {
            if let Err(at) = self.find(&member.id) {
                self.list.insert(at, member);
            }
        }
        self.list.truncate(MEMBERS_MAX);
        self.count = presence.count.max(self.list.len() as u64);
        self.listed_max = self.list.len();
    }

    /// Whether members are missing that a new list would have: all of them, or many.
    pub(crate) fn is_incomplete(&self) -> bool {
        let listed = self.list.len();
        let is_partial = (listed as u64) < self.count;
        is_partial && (self.count <= self.listed_max as u64 || listed < self.listed_max / 2)
    }

    /// Takes a change in. Gives what was known about a member who left.
    pub(crate) fn change(&mut self, change: Change<P>) -> Option<P> {
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
            Change::Updated(member) => {
                // Where only some are listed it may be one of the others.
                if let Ok(at) = self.find(&member.id) {
                    self.list[at] = member;
                }
                None
            }
            Change::Removed(id, _) => match self.find(&id) {
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
