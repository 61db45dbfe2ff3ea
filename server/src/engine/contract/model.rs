//! Random histories of presence, compared with a model small enough to be read.

use std::collections::BTreeMap;

use fanfare_protocol::{ChannelName, Member, Position, SocketId};
use fastrand::Rng;

use super::presence::SLACK;
use super::presence_state::agrees;
use super::trial::{MemberEvent, Trial, What, connection, follow, member, member_events};
use super::{Outcome, Violation};
use crate::delivery::Departure;

const USERS: [&str; 3] = ["ann", "bob", "cleo"];

pub(super) async fn random_histories_agree_with_the_model(trial: &Trial<'_>) -> Outcome {
    let features = trial.features();
    for seed in 0..features.model_runs {
        let outcome = run(trial, seed, features.model_steps).await;
        outcome.map_err(|violation| Violation::new(format!("seed {seed}: {violation}")))?;
    }
    Ok(())
}

async fn run(trial: &Trial<'_>, seed: u64, steps: usize) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let mut rooms = [Room::open(trial).await?, Room::open(trial).await?];
    for step in 0..steps {
        if rng.u8(..8) == 0 {
            trial.advance(trial.features().presence_grace + SLACK).await;
            rooms.iter_mut().for_each(|room| room.model.pass_grace());
        } else {
            let room = &mut rooms[rng.usize(..2)];
            room.step(trial, &mut rng, step).await?;
        }
        for room in &rooms {
            let checked = room.check(trial).await;
            checked.map_err(|violation| Violation::new(format!("step {step}: {violation}")))?;
        }
    }
    for room in &rooms {
        room.check_events(trial).await?;
    }
    Ok(())
}

/// A channel, and what the model says about it.
struct Room {
    channel: ChannelName,
    start: Position,
    model: Model,
}

impl Room {
    async fn open(trial: &Trial<'_>) -> Result<Self, Violation> {
        let channel = trial.channel().await?;
        let start = trial.members(&channel).await?.position;
        Ok(Self {
            channel,
            start,
            model: Model::default(),
        })
    }

    /// One random thing happens.
    async fn step(&mut self, trial: &Trial<'_>, rng: &mut Rng, step: usize) -> Outcome {
        let channel = &self.channel;
        let held: Vec<SocketId> = self.model.connections.keys().copied().collect();
        let picked = (!held.is_empty()).then(|| held[rng.usize(..held.len())]);
        let user = USERS[rng.usize(..USERS.len())];
        // Few, so that some are equal.
        let info = rng.u8(..4);
        match (rng.u8(..12), picked) {
            (0, _) => {
                trial.publish(channel, step).await?;
            }
            (1..=3, _) => {
                let (connection, member) = (connection(), member(user, info)?);
                trial.join(channel, connection, member.clone()).await?;
                self.model.join(connection, &member);
            }
            // A connection that is here, or was lost, joins once more.
            (4, Some(connection)) => {
                let member = member(&self.model.connections[&connection].user, info)?;
                trial.join(channel, connection, member.clone()).await?;
                self.model.join(connection, &member);
            }
            (5..=6, _) => {
                let connection = picked.unwrap_or_else(connection);
                let is_here = trial.update(channel, connection, info).await?;
                let expected = self.model.update(connection, &info.to_string());
                ensure!(is_here == expected, "an update answers {is_here}");
            }
            (_, Some(connection)) => {
                let departures = [Departure::Goodbye, Departure::Removed, Departure::Lost];
                let departure = departures[rng.usize(..3)];
                trial.leave(channel, connection, departure).await?;
                self.model.leave(connection, departure);
            }
            _ => {}
        }
        Ok(())
    }

    /// The snapshot is the model's, and the sum of the events before it.
    async fn check(&self, trial: &Trial<'_>) -> Outcome {
        let snapshot = trial.members(&self.channel).await?;
        let mut members = snapshot.members.clone();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        let expected = self.model.members()?;
        ensure!(
            members == expected,
            "{members:?} are here instead of {expected:?}"
        );
        let seen = trial
            .seen_position(&self.channel, snapshot.position)
            .await?;
        agrees(&snapshot, &seen)
    }

    /// Every user came and left exactly when the model says so, and no message is missing in between.
    async fn check_events(&self, trial: &Trial<'_>) -> Outcome {
        let mut seen = trial.settled(&self.channel).await?;
        seen.retain(|delivery| delivery.position.is_some());
        follow(self.start, &seen)?;
        // In which order lost connections go whose time is up at once, and what is shown between them, is open.
        let mut events = member_events(&seen)?;
        events.retain(|event| !matches!(event.what, What::Shown(_)));
        for event in &mut events {
            if let What::Came(info) = &mut event.what {
                info.clear();
            }
        }
        for user in USERS {
            let of = |events: &[MemberEvent]| -> Vec<MemberEvent> {
                let own = events.iter().filter(|event| event.user == user);
                own.cloned().collect()
            };
            let (told, expected) = (of(&events), of(&self.model.events));
            ensure!(told == expected, "told {told:?} instead of {expected:?}");
        }
        Ok(())
    }
}

/// What presence is: connections of users, some of them lost; a user is here while there is one, and shown with the info of
/// the one that joined or updated last.
#[derive(Default)]
struct Model {
    connections: BTreeMap<SocketId, Connection>,
    /// How often a connection came to be the one that is shown.
    sequence: usize,
    events: Vec<MemberEvent>,
}

struct Connection {
    user: String,
    info: String,
    sequence: usize,
    is_lost: bool,
}

impl Model {
    fn is_here(&self, user: &str) -> bool {
        self.connections.values().any(|one| one.user == user)
    }

    fn join(&mut self, connection: SocketId, member: &Member) {
        let (user, info) = (member.id.as_str(), member.info.as_str());
        if !self.is_here(user) {
            self.events.push(MemberEvent::came(user, ""));
        }
        let known = self.connections.get(&connection);
        if known.is_some_and(|known| !known.is_lost && known.info == info) {
            return;
        }
        self.sequence += 1;
        let joined = Connection {
            user: user.to_owned(),
            info: info.to_owned(),
            sequence: self.sequence,
            is_lost: false,
        };
        self.connections.insert(connection, joined);
    }

    fn update(&mut self, connection: SocketId, info: &str) -> bool {
        let Some(known) = self.connections.get_mut(&connection) else {
            return false;
        };
        if known.info != info {
            self.sequence += 1;
            known.sequence = self.sequence;
            info.clone_into(&mut known.info);
        }
        true
    }

    fn leave(&mut self, connection: SocketId, departure: Departure) {
        if departure == Departure::Lost {
            if let Some(one) = self.connections.get_mut(&connection) {
                one.is_lost = true;
            }
        } else {
            self.remove(connection, departure);
        }
    }

    fn pass_grace(&mut self) {
        let lost = self.connections.iter().filter(|(_, one)| one.is_lost);
        let lost: Vec<SocketId> = lost.map(|(connection, _)| *connection).collect();
        for connection in lost {
            self.remove(connection, Departure::Lost);
        }
    }

    fn remove(&mut self, connection: SocketId, departure: Departure) {
        if let Some(Connection { user, .. }) = self.connections.remove(&connection)
            && !self.is_here(&user)
        {
            self.events.push(MemberEvent::left(&user, departure));
        }
    }

    fn members(&self) -> Result<Vec<Member>, Violation> {
        let shown = USERS.iter().filter_map(|user| {
            let own = self.connections.values().filter(|one| one.user == **user);
            own.max_by_key(|one| one.sequence)
        });
        shown.map(|one| member(&one.user, &one.info)).collect()
    }
}
