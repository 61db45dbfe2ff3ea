//! The version of what nodes write to Redis and send to each other. Nodes of two formats never work together.
//!
//! Every node puts its format on the list of live nodes. A node that finds another format there does not start; where nodes of
//! another format came onto the list all the same, because their release knows of no formats, the other nodes are not ready.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "servers whose formats differ meet on one Redis".

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::{error, info};

use crate::clock::Instant;
use crate::engine::redis::connection::ENGINE;
use crate::engine::{EngineError, Health};

/// The format of this release. It goes up when the release before would not understand what this one writes to Redis or says to
/// other nodes, or would spoil it.
pub(crate) const FORMAT: u32 = 3;

/// A node on the list: `2:5f3a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) format: u32,
    pub(crate) incarnation: u64,
}

impl Listed {
    /// Reads an entry. Releases that knew of no formats wrote no more than the incarnation: theirs is 1.
    pub(crate) fn parse(entry: &str) -> Option<Self> {
        let (format, incarnation) = entry.split_once(':').unwrap_or(("1", entry));
        Some(Self {
            format: format.parse().ok()?,
            incarnation: u64::from_str_radix(incarnation, 16).ok()?,
        })
    }
}

/// Live nodes of other formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherFormats {
    own: u32,
    /// How many nodes, by their format.
    nodes: BTreeMap<u32, usize>,
}

impl OtherFormats {
    /// The nodes on the list whose format is another one than `own`, if there are any.
    pub(crate) fn among(listed: &[Listed], own: u32) -> Option<Self> {
        let mut nodes = BTreeMap::new();
        for other in listed.iter().filter(|listed| listed.format != own) {
            *nodes.entry(other.format).or_default() += 1;
        }
        (!nodes.is_empty()).then_some(Self { own, nodes })
    }
}

impl fmt::Display for OtherFormats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.own;
        write!(f, "this node speaks format {own} and there are ")?;
        for (index, (format, count)) in self.nodes.iter().enumerate() {
            let between = if index == 0 { "" } else { " and " };
            write!(f, "{between}{count} live nodes of format {format}")?;
        }
        f.write_str(" with the same Redis and prefix: stop all nodes of one format first")
    }
}

/// What a node knows of nodes of other formats.
#[derive(Debug, Default)]
pub(crate) struct Formats {
    others: Mutex<Option<(OtherFormats, Instant)>>,
    /// Others were found.
    pub(crate) found: Notify,
}

impl Formats {
    /// Notes the live nodes of other formats.
    pub(crate) fn note(&self, others: Option<OtherFormats>, now: Instant) {
        let mut known = self.lock();
        match (others, known.as_ref()) {
            (Some(others), known_before) => {
                if known_before.is_none_or(|(before, _)| *before != others) {
                    error!("{others}");
                }
                let since = known_before.map_or(now, |(_, since)| *since);
                *known = Some((others, since));
                self.found.notify_one();
            }
            (None, Some(_)) => {
                info!("all live nodes guard_publish the same format again");
                *known = None;
            }
            (None, None) => {}
        }
    }

    /// Whether what this node delivers can be relied on.
    pub(crate) fn health(&self) -> Health {
        match self.lock().as_ref() {
            None => Health::Flowing,
            Some((others, since)) => Health::Stalled {
                since: *since,
                reason: others.to_string(),
            },
        }
    }

    /// The error of what is not done beside nodes of other formats, if there are any.
    pub(crate) fn refusal(&self, attempted: &'static str) -> Option<EngineError> {
        let known = self.lock();
        let (others, _) = known.as_ref()?;
        Some(EngineError::Refused {
            engine: ENGINE,
            attempted,
            detail: others.to_string(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<(OtherFormats, Instant)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_other_formats_are_counted_in_one_sentence() {
        let listed =
            ["2:a1", "3:b2", "c3", "1:d4", "2:e5"].map(|entry| Listed::parse(entry).unwrap());
        let others = OtherFormats::among(&listed, 2).unwrap();
        assert_eq!(
            others.to_string(),
            "this node speaks format 2 and there are 2 live nodes of format 1 and 1 live nodes of format 3 with the same \
             Redis and prefix: stop all nodes of one format first"
        );
        assert_eq!(OtherFormats::among(&listed[..1], 2), None);
        assert_eq!(Listed::parse("x:y"), None);
    }

    #[test]
    fn others_are_known_until_they_are_gone() {
        let (formats, now) = (Formats::default(), Instant::now());
        let others = OtherFormats::among(&[Listed::parse("c3").unwrap()], 2);
        formats.note(others.clone(), now);
        formats.note(others, now + std::time::Duration::from_secs(1));
        assert!(matches!(formats.health(), Health::Stalled { since, .. } if since == now));
        assert!(formats.refusal("publishing").is_some());
        formats.note(None, now);
        assert_eq!(formats.health(), Health::Flowing);
        assert!(formats.refusal("publishing").is_none());
    }
}
