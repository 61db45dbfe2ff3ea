//! How a joining subscription becomes gap-free: what the history says, and what arrived meanwhile, become one run.
//!
//! Pure. The order around it is fixed: join the hub first, read the history second, merge third.

use fanfare_protocol::{Link, Position};

use crate::delivery::{Delivery, History};

/// What a joining subscription asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Only what comes from now on.
    Live,
    /// What came after a position.
    Since(Position),
    /// The last events, as many as were read.
    Rewind,
}

/// A joined subscription.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    /// The position that the reply speaks of.
    pub(crate) position: Position,
    /// Whether everything since the position asked for is in `events`.
    pub(crate) recovered: bool,
    /// What belongs into the reply, oldest first, up to `position`.
    pub(crate) events: Vec<Delivery>,
    /// What came after `position` already: it follows the reply.
    pub(crate) live: Vec<Delivery>,
}

/// History and buffer do not join without a hole; a new read of the history may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole;

/// Merges a history that was read after joining with what was buffered since.
///
/// `snapshot` is the position of a presence snapshot that the reply carries: the reply reaches at least to it, so that
/// snapshot and diffs compose.
///
/// # Errors
/// [`Hole`] when the two do not join.
pub(crate) fn merge(
    wish: Wish,
    history: History,
    snapshot: Option<Position>,
    buffered: Vec<Delivery>,
    bytes_max: usize,
) -> Result<Joined, Hole> {
    let top = history.top;
    let mut live = follow(top, buffered)?;
    let (mut events, recovered) = match wish {
        Wish::Live => (Vec::new(), false),
        Wish::Since(since) => continue_from(since, top, history.entries),
        Wish::Rewind => (history.entries, false),
    };
    let mut position = top;
    if let Some(snapshot) = snapshot {
        if snapshot.epoch != top.epoch {
            return Err(Hole);
        }
        let reached = live
            .iter()
            .take_while(|delivery| offset(delivery) <= snapshot.offset)
            .count();
        let rest = live.split_off(reached);
        position = live
            .last()
            .and_then(|delivery| delivery.position)
            .unwrap_or(top);
        if position.offset < snapshot.offset {
            return Err(Hole);
        }
        if recovered || wish == Wish::Rewind {
            events.append(&mut live);
        }
        live = rest;
    }
    let bytes: usize = events.iter().map(|delivery| delivery.data.len()).sum();
    if bytes > bytes_max {
        return Ok(Joined {
            position,
            recovered: false,
            events: Vec::new(),
            live,
        });
    }
    Ok(Joined {
        position,
        recovered,
        events,
        live,
    })
}

/// What of the buffer comes after `top`, checked link by link.
fn follow(top: Position, buffered: Vec<Delivery>) -> Result<Vec<Delivery>, Hole> {
    let mut at = top;
    let mut after = Vec::new();
    for delivery in buffered {
        let Some(position) = delivery.position else {
            return Err(Hole);
        };
        match at.link(position, delivery.previous) {
            Link::Next => {
                at = position;
                after.push(delivery);
            }
            Link::Duplicate => {}
            Link::Gap { .. } | Link::Diverged => return Err(Hole),
        }
    }
    Ok(after)
}

/// The entries after `since`, if they lead from it to `top` without a hole.
fn continue_from(since: Position, top: Position, entries: Vec<Delivery>) -> (Vec<Delivery>, bool) {
    let mut at = since;
    let mut missed = Vec::new();
    for delivery in entries {
        let Some(position) = delivery.position else {
            return (Vec::new(), false);
        };
        match at.link(position, delivery.previous) {
            Link::Next => {
                at = position;
                missed.push(delivery);
            }
            Link::Duplicate => {}
            Link::Gap { .. } | Link::Diverged => return (Vec::new(), false),
        }
    }
    if at == top {
        (missed, true)
    } else {
        (Vec::new(), false)
    }
}

fn offset(delivery: &Delivery) -> u64 {
    delivery.position.map_or(0, |position| position.offset)
}

#[cfg(test)]
mod tests;
