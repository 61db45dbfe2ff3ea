//! Faults that are planted into a whole run, so that every checker is seen to turn red.

use std::time::Duration;

use super::access;
use super::listener::ListenerConfig;
use super::stage::Stage;
use crate::checker::{Invariant, Violation};
use crate::proxy::Proxy;
use crate::socket::{Door, Socket};

/// A fault in what a client writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A message is written down twice.
    RepeatsAMessage,
    /// A message is not written down.
    LosesAMessage,
    /// A message is written down at its neighbour's position.
    ReusesAPosition,
    /// A message is written down that was never published.
    InventsAMessage,
    /// A message is written down later than is promised.
    HoldsAMessageBack,
    /// It is not written down that members leave.
    ForgetsALeave,
}

/// Who writes down what wrongly, and which promise seems broken by it. Every third client has a room.
const IN_RECORDS: [(usize, Plant, Invariant); 6] = [
    (1, Plant::RepeatsAMessage, Invariant::I1),
    (2, Plant::LosesAMessage, Invariant::I2),
    (4, Plant::ReusesAPosition, Invariant::I3),
    (5, Plant::InventsAMessage, Invariant::I4),
    (7, Plant::HoldsAMessageBack, Invariant::I5),
    (3, Plant::ForgetsALeave, Invariant::I6),
];

impl Plant {
    /// What a client writes down wrongly.
    #[must_use]
    pub fn of(client: usize) -> Option<Self> {
        let mut plants = IN_RECORDS.iter();
        plants.find_map(|(number, plant, _)| (*number == client).then_some(*plant))
    }
}

/// What is kept from the system until it has been looked at.
pub struct Kept {
    _sockets: Vec<Socket>,
    _proxy: Proxy,
}

/// Plants everything that is not in a client's record.
///
/// # Panics
/// When a connection cannot be made.
pub async fn plant(stage: &mut Stage) -> Kept {
    let address = stage.nodes[0].address();
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let door = Door::at(address).bearer(&access::token("nobody-counts-me"));
        sockets.push(door.enter().await);
    }
    let (channels, _) = stage.config.load.channels_of(8);
    stage
        .recorder
        .permitted("client-8", &channels[0], Duration::ZERO);
    // One client has a line of its own, which is cut for good.
    #[expect(clippy::expect_used, reason = "without a port there is no run")]
    let proxy = Proxy::start(address).await.expect("a port");
    let cut_off = ListenerConfig {
        name: CUT_OFF.to_owned(),
        url: format!("ws://{}/ws", proxy.address()),
        channels,
        room: None,
        token: None,
        plant: None,
    };
    stage.add_listener(cut_off).await;
    // Somebody leaves a room, which one of the others will not write down.
    stage.work(HELD_BACK).await;
    let fault = stage.trouble("cut one client off, and say that all is well");
    proxy.retarget(([127, 0, 0, 1], 1).into());
    proxy.cut_all();
    stage.recorder.healed(fault);
    stage.let_one_leave(WITNESS).await;
    Kept {
        _sockets: sockets,
        _proxy: proxy,
    }
}

/// What was planted and not found.
#[must_use]
pub fn not_found(violations: &[Violation]) -> Vec<String> {
    let mut expected: Vec<(Option<String>, Invariant)> = IN_RECORDS
        .iter()
        .map(|(number, _, invariant)| (Some(format!("client-{number}")), *invariant))
        .collect();
    // Two clients that say different things of one position disagree, whoever is right.
    expected.retain(|(_, invariant)| *invariant != Invariant::I3);
    expected.push((None, Invariant::I3));
    expected.push((Some("client-8".to_owned()), Invariant::I9));
    expected.push((None, Invariant::I10));
    expected.push((Some(CUT_OFF.to_owned()), Invariant::I11));
    let is_found = |(client, invariant): &(Option<String>, Invariant)| {
        let mut violations = violations.iter();
        violations.any(|one| one.invariant() == *invariant && one.client == *client)
    };
    let missing = expected.iter().filter(|one| !is_found(one));
    missing
        .map(|(client, invariant)| {
            let client = client.as_deref().unwrap_or("the whole");
            format!("the checker of {invariant:?} did not find what was planted for {client}")
        })
        .collect()
}

/// What was found and not planted: in the record of a client that was left alone.
#[must_use]
pub fn not_planted(violations: &[Violation]) -> Vec<&Violation> {
    let mut wrong: Vec<String> = IN_RECORDS
        .iter()
        .map(|(number, ..)| format!("client-{number}"))
        .collect();
    wrong.extend(["client-8".to_owned(), CUT_OFF.to_owned()]);
    let is_planted = |one: &&Violation| match &one.client {
        Some(client) => wrong.contains(client),
        None => true,
    };
    violations.iter().filter(|one| !is_planted(one)).collect()
}

/// Who is cut off for good.
const CUT_OFF: &str = "client-cut-off";
/// Who does not write down that somebody leaves.
const WITNESS: usize = 3;
/// 30: more than the connections that come and go by themselves.
const SOCKETS: usize = 30;
/// 38 s: until the message that is held back is written down.
const HELD_BACK: Duration = Duration::from_secs(38);
