//! The table of faults: what is done to the system, on which store, and what it must not cost.

mod cluster;
mod lines;
mod nodes;
mod sentinel;
mod single;

use futures_util::future::LocalBoxFuture;

use super::stage::Stage;
use super::store::StoreKind;
use crate::checker::{History, Observation, Outcome, Sighting};

/// One kind of fault.
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    /// What is done to the system.
    pub fault: &'static str,
    /// What the nodes stand on.
    pub store: StoreKind,
    /// Whether it belongs to the short form.
    pub is_short: bool,
    /// Whether faults are planted in the records: then they must be found.
    pub is_planted: bool,
    /// Does it, for as long as the stage says; what went wrong meanwhile.
    pub play: fn(&mut Stage) -> LocalBoxFuture<'_, Vec<String>>,
    /// Looks at the history for what this fault must not cost.
    pub look: fn(&History) -> Vec<String>,
}

/// Every row, in the order in which they run.
pub const ROWS: &[Row] = &[
    Row {
        name: "P",
        fault: "one planted fault for each invariant, to be found",
        store: StoreKind::Memory,
        is_short: true,
        is_planted: true,
        play: |_| Box::pin(async { Vec::new() }),
        look: nothing_more,
    },
    Row {
        name: "M",
        fault: "one node without a Redis: cut all clients at once, again and again",
        store: StoreKind::Memory,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(nodes::storms(stage)),
        look: no_new_start_with_history,
    },
    Row {
        name: "C1",
        fault: "kill one node after the other",
        store: StoreKind::Bare,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(nodes::kills(stage)),
        look: no_new_start_with_history,
    },
    Row {
        name: "C2",
        fault: "a rolling deploy of all nodes",
        store: StoreKind::Bare,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(nodes::deploy(stage)),
        look: nobody_notices,
    },
    Row {
        name: "C3",
        fault: "stop a node for a while, and let it go on",
        store: StoreKind::Bare,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(nodes::pauses(stage)),
        look: nothing_more,
    },
    Row {
        name: "C4",
        fault: "kill Redis and start it again with its append-only file",
        store: StoreKind::AppendOnly,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(single::restarts(stage)),
        look: no_new_start_with_history,
    },
    Row {
        name: "C5",
        fault: "kill Redis and start it again with nothing",
        store: StoreKind::Bare,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(single::restarts_empty(stage)),
        look: some_are_reset,
    },
    Row {
        name: "C6",
        fault: "start Redis again with an old snapshot",
        store: StoreKind::Snapshots,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(single::restarts_from_old(stage)),
        look: some_are_reset,
    },
    Row {
        name: "C7",
        fault: "Sentinel: kill the master",
        store: StoreKind::Sentinel,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(sentinel::kills(stage)),
        look: nothing_more,
    },
    Row {
        name: "C8",
        fault: "Sentinel with min-replicas-to-write: cut the master and half of the nodes off, promote, mend",
        store: StoreKind::CarefulSplit,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(sentinel::partition(stage)),
        look: nothing_more,
    },
    Row {
        name: "C8b",
        fault: "Sentinel: cut the old master off without min-replicas-to-write: two masters accept",
        store: StoreKind::Split,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(sentinel::partition(stage)),
        look: nothing_more,
    },
    Row {
        name: "C9",
        fault: "lose the last messages of a channel, then publish exactly as many",
        store: StoreKind::Snapshots,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(single::as_many_new_as_lost(stage)),
        look: some_are_reset,
    },
    Row {
        name: "C10",
        fault: "Sentinel: stop the master until it is replaced, let it come back",
        store: StoreKind::Sentinel,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(sentinel::comes_back(stage)),
        look: nothing_more,
    },
    Row {
        name: "C11",
        fault: "cut all connections to Redis and refuse the first dials that follow, until 200 were refused",
        store: StoreKind::Proxied,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(lines::refusals(stage)),
        look: no_new_start_with_history,
    },
    Row {
        name: "C11b",
        fault: "Sentinel: kill the master while one of the sentinels is silent for 30 s",
        store: StoreKind::Sentinel,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(sentinel::kills_beside_a_silent_sentinel(stage)),
        look: nothing_more,
    },
    Row {
        name: "C12",
        fault: "CLIENT KILL TYPE pubsub, every 2 s",
        store: StoreKind::Bare,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(single::kills_subscribers(stage)),
        look: no_new_start_with_history,
    },
    Row {
        name: "C13",
        fault: "lose exactly one pub/sub message, again and again",
        store: StoreKind::Proxied,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(lines::lost_messages(stage)),
        look: no_new_start_with_history,
    },
    Row {
        name: "C14",
        fault: "client lines: late, in slices, slow, reset, half-open",
        store: StoreKind::Bare,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(lines::bad_lines(stage)),
        look: nothing_more,
    },
    Row {
        name: "C15",
        fault: "lose the reply of a publish that has happened, again and again",
        store: StoreKind::Proxied,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(lines::lost_replies(stage)),
        look: no_false_error,
    },
    Row {
        name: "C16",
        fault: "CLIENT PAUSE, DEBUG SLEEP, and a script that does not end",
        store: StoreKind::Bare,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(single::stalls(stage)),
        look: no_new_start_with_history,
    },
    Row {
        name: "C19",
        fault: "Cluster: move the slots of half of the channels",
        store: StoreKind::Cluster,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(cluster::moves(stage)),
        look: no_new_start_with_history,
    },
    Row {
        name: "C20",
        fault: "Cluster: kill a master that has a replica",
        store: StoreKind::Cluster,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(cluster::kills(stage)),
        look: nothing_more,
    },
    Row {
        name: "C21",
        fault: "clients that do not read, on a channel that says much",
        store: StoreKind::Bare,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(nodes::slow_readers(stage)),
        look: nobody_is_disconnected,
    },
    Row {
        name: "C22",
        fault: "cut all clients at once, again and again",
        store: StoreKind::Bare,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(nodes::storms(stage)),
        look: no_new_start_with_history,
    },
    Row {
        name: "C23",
        fault: "Sentinel: stop the master with publishes in its sockets, let it go on when they were repeated at the next",
        store: StoreKind::Sentinel,
        is_short: false,
        is_planted: false,
        play: |stage| Box::pin(sentinel::wakes_with_publishes(stage)),
        look: nothing_more,
    },
    Row {
        name: "C24",
        fault: "Cluster: stop a master with publishes in its sockets, let it go on when they were repeated at its replica",
        store: StoreKind::Cluster,
        is_short: true,
        is_planted: false,
        play: |stage| Box::pin(cluster::wakes_with_publishes(stage)),
        look: nothing_more,
    },
];

/// How often a channel with history was begun anew, was reset or had a gap, all clients together. Guests do not count.
fn new_starts(history: &History) -> usize {
    let is_meant =
        |client: &str, channel: &str| client.starts_with("client-") && channel.starts_with("h-");
    let logs = history.logs.iter();
    let logs = logs.filter(|((client, channel), _)| is_meant(client, channel.as_str()));
    logs.map(|(_, log)| {
        let count = |is_one: fn(&Observation) -> bool| {
            log.iter().filter(|observed| is_one(&observed.what)).count()
        };
        let joined = count(|what| matches!(what, Observation::Joined { .. }));
        let told =
            count(|what| matches!(what, Observation::Gap { .. } | Observation::Reset { .. }));
        joined.saturating_sub(1) + told
    })
    .sum()
}

/// The invariants are all that is asked for.
fn nothing_more(_: &History) -> Vec<String> {
    Vec::new()
}

/// Channels with history go on as if nothing had been.
fn no_new_start_with_history(history: &History) -> Vec<String> {
    let count = new_starts(history);
    let objection = format!("{count} gaps, resets or new starts on channels with history");
    (count > 0).then_some(objection).into_iter().collect()
}

/// The store has lost what some had seen: they must have been told.
fn some_are_reset(history: &History) -> Vec<String> {
    let objection = "nobody had to start anew: nothing was tested".to_owned();
    (new_starts(history) == 0)
        .then_some(objection)
        .into_iter()
        .collect()
}

/// Nobody loses anything, and no member seems to leave.
fn nobody_notices(history: &History) -> Vec<String> {
    let mut objections = no_new_start_with_history(history);
    let begun = history.faults.first().map(|fault| fault.from);
    let sights = history.sights.values().flatten();
    let flaps = sights.filter(|sight| {
        matches!(sight.what, Sighting::Went(_)) && begun.is_some_and(|begun| sight.at > begun)
    });
    let flaps = flaps.count();
    if flaps > 0 {
        objections.push(format!("members seemed to leave {flaps} times"));
    }
    objections
}

/// Whoever reads is not disturbed by those who do not.
fn nobody_is_disconnected(history: &History) -> Vec<String> {
    let logs = history.logs.iter();
    let logs = logs.filter(|((client, _), _)| client.starts_with("client-"));
    let resumed = logs
        .flat_map(|(_, log)| log)
        .filter(|one| one.what == Observation::Resumed);
    let count = resumed.count();
    let objection = format!("{count} subscriptions of clients that read were interrupted");
    (count > 0).then_some(objection).into_iter().collect()
}

/// No publication is said to have failed.
fn no_false_error(history: &History) -> Vec<String> {
    let mut objections = no_new_start_with_history(history);
    let refused = history.publishes.iter();
    let refused = refused
        .filter(|publish| publish.outcome == Outcome::Refused)
        .count();
    if refused > 0 {
        objections.push(format!("{refused} publishes were refused without a reason"));
    }
    objections
}
