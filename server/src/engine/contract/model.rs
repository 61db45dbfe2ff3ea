//! Random histories of presence, compared with a model small enough to be read.

use std::collections::BTreeMap;

use fanfare_protocol::{ChannelName, Member, Position, SocketId};
use fastrand::Rng;

use super::presence::SLACK;
use super::presence_state::agrees;
use super::trial::{MemberEvent, Trial, connection, follow, member, member_events};
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
        let held: Vec<SocketId> = self.model.connections.keys().copied().collect();
        let user = USERS[rng.usize(..USERS.len())];
        match rng.u8(..10) {
            0 => {
                trial.publish(&self.channel, step).await?;
            }
            1..=3 => {
                let member = member(user, step)?;
                let connection = connection();
                trial
                    .join(&self.channel, connection, member.clone())
                    .await?;
                self.model.join(connection, &member);
            }
            // A connection that is here, or was lost, joins once more.
            4 if !held.is_empty() => {
                let connection = held[rng.usize(..held.len())];
                let member = member(&self.model.connections[&connection].user, step)?;
                trial
                    .join(&self.channel, connection, member.clone())
                    .await?;
                self.model.join(connection, &member);
            }
            _ if !held.is_empty() => {
                let connection = held[rng.usize(..held.len())];
                let departures = [Departure::Goodbye, Departure::Removed, Departure::Lost];
                let departure = departures[rng.usize(..3)];
                trial.leave(&self.channel, connection, departure).await?;
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
        let expected = self.model.members();
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
        let events = member_events(&seen)?;
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

/// What presence is: connections of users, some of them lost; a user is here while there is one.
#[derive(Default)]
struct Model {
    connections: BTreeMap<SocketId, Connection>,
    infos: BTreeMap<String, Member>,
    events: Vec<MemberEvent>,
}

struct Connection {
    user: String,
    is_lost: bool,
}

impl Model {
    fn is_here(&self, user: &str) -> bool {
        self.connections.values().any(|one| one.user == user)
    }

    fn join(&mut self, connection: SocketId, member: &Member) {
        let user = member.id.as_str().to_owned();
        if !self.is_here(&user) {
            self.events.push(MemberEvent::came(&user));
        }
        self.infos.insert(user.clone(), member.clone());
        let is_lost = false;
        self.connections
            .insert(connection, Connection { user, is_lost });
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

    fn members(&self) -> Vec<Member> {
        let here = self.infos.iter().filter(|(user, _)| self.is_here(user));
        here.map(|(_, member)| member.clone()).collect()
    }
}
