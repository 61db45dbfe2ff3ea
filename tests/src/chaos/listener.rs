//! A client that writes down what it sees.

#![expect(
    clippy::unwrap_used,
    reason = "a client that cannot be made fails the run"
)]

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare_client::native::{NativeClient, NativeOptions, Subscription};
use fanfare_client::{
    Backoff, ChannelState, ConnectionState, Event, Options, SubscribeOptions, TokenReply,
};
use fanfare_protocol::{ChannelName, RawJson};
use tokio::task::JoinHandle;

use super::access;
use super::planted::Plant;
use crate::checker::{Observation, Recorder, Sighting, StayId};
use crate::lock;

/// What a client is.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// Its name, and that of its user.
    pub name: String,
    /// `ws://…`
    pub url: String,
    /// What it listens to.
    pub channels: Vec<ChannelName>,
    /// Whose members it follows, and where it is a member itself.
    pub room: Option<ChannelName>,
    /// The only token that it has; it gets new ones when absent.
    pub token: Option<String>,
    /// What its record is made to say wrongly.
    pub plant: Option<Plant>,
}

/// A client that writes down what it sees.
pub struct Listener {
    /// Its name.
    pub name: String,
    /// The client.
    pub client: NativeClient,
    /// Whose members it follows.
    pub room: Option<ChannelName>,
    recorder: Recorder,
    shown: Arc<Mutex<Shown>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What others may know of a listener.
#[derive(Debug, Default)]
struct Shown {
    /// The last message of every channel.
    last: HashMap<ChannelName, String>,
    subscribed: BTreeSet<ChannelName>,
    /// The members of its room, where it knows them.
    members: Option<BTreeSet<String>>,
    /// How often it was connected.
    connections: u32,
}

impl Listener {
    /// Starts one.
    pub async fn start(config: ListenerConfig, recorder: &Recorder) -> Self {
        let backoff = Backoff {
            min: 100,
            max: 2_000,
            reset_after: 5_000,
        };
        let machine = Options::default().with_backoff(backoff);
        let options = NativeOptions::default()
            .with_machine(machine)
            .with_subscription_events_max(100_000);
        let user = config.name.clone();
        let options = match config.token {
            Some(token) => options.with_token(token),
            None => options.with_token_provider(move |_| {
                let token = access::token(&user);
                async { TokenReply::Token(token) }
            }),
        };
        let client = NativeClient::connect(&config.url, options).unwrap();
        let shown = Arc::<Mutex<Shown>>::default();
        let mut tasks = Vec::new();
        for channel in config.channels.iter().chain(&config.room) {
            let subscribing = client.subscribe(channel.clone(), SubscribeOptions::default());
            let follower = Follower {
                name: config.name.clone(),
                channel: channel.clone(),
                is_room: config.room.as_ref() == Some(channel),
                recorder: recorder.clone(),
                shown: Arc::clone(&shown),
                plant: config.plant,
                is_subscribed: false,
                stay: None,
                messages: 0,
            };
            tasks.push(tokio::spawn(follower.follow(subscribing.await.unwrap())));
        }
        tasks.push(tokio::spawn(count_connections(
            client.clone(),
            Arc::clone(&shown),
        )));
        Self {
            name: config.name,
            client,
            room: config.room,
            recorder: recorder.clone(),
            shown,
            tasks,
        }
    }

    /// Whether it is subscribed to so many channels.
    #[must_use]
    pub fn is_subscribed_to(&self, count: usize) -> bool {
        lock(&self.shown).subscribed.len() >= count
    }

    /// Whether the last message of a channel is this one, if it listens to it.
    #[must_use]
    pub fn has_seen(&self, channel: &ChannelName, payload: &str) -> bool {
        let shown = lock(&self.shown);
        !shown.subscribed.contains(channel)
            || shown.last.get(channel).is_some_and(|last| last == payload)
    }

    /// The members of its room, where it knows them.
    #[must_use]
    pub fn members(&self) -> Option<BTreeSet<String>> {
        lock(&self.shown).members.clone()
    }

    /// How often it was connected.
    #[must_use]
    pub fn connections(&self) -> u32 {
        lock(&self.shown).connections
    }

    /// Asks who is in its room and writes the answer down.
    pub async fn ask(&self) {
        let Some(room) = &self.room else {
            return;
        };
        // No answer leaves nothing in the record, and what follows from events is checked all the same.
        if let Ok(presence) = self.client.presence(room).await {
            let members = presence.members.iter();
            let members = members.map(|member| member.id.to_string()).collect();
            let asked = Sighting::Asked(members);
            self.recorder.sighted(&self.name, room, asked);
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.recorder.ends(&self.name);
        self.client.close().await;
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

async fn count_connections(client: NativeClient, shown: Arc<Mutex<Shown>>) {
    let mut last = None;
    loop {
        let is_new = client.wait_for(|status| {
            status.state == ConnectionState::Connected && status.socket_id != last
        });
        let Ok(status) = is_new.await else {
            return;
        };
        last = status.socket_id;
        lock(&shown).connections += 1;
    }
}

/// Follows one subscription.
struct Follower {
    name: String,
    channel: ChannelName,
    is_room: bool,
    recorder: Recorder,
    shown: Arc<Mutex<Shown>>,
    plant: Option<Plant>,
    is_subscribed: bool,
    stay: Option<StayId>,
    messages: u64,
}

impl Follower {
    async fn follow(mut self, mut subscription: Subscription) {
        while let Some(event) = subscription.recv().await {
            self.take(event);
        }
        self.leave();
    }

    fn take(&mut self, event: Event<RawJson>) {
        match event {
            Event::Channel(status) if status.state == ChannelState::Subscribed => {
                self.join(status.recovered);
            }
            Event::Channel(_) => self.leave(),
            Event::Message(message) => {
                let payload: String = message.data.decode().unwrap_or_default();
                self.message(message.position, payload);
            }
            Event::Gap(gap) => {
                let at = gap.position;
                self.saw(Observation::Gap { at });
                self.is_blind();
            }
            Event::Reset(reset) => {
                let at = reset.position;
                self.saw(Observation::Reset { at });
                self.is_blind();
            }
            Event::Sync { members, .. } => {
                let members: BTreeSet<String> =
                    members.iter().map(|member| member.id.to_string()).collect();
                lock(&self.shown).members = Some(members.clone());
                self.sighted(Sighting::Snapshot(members));
            }
            Event::Joined { member, .. } => {
                let user = member.id.to_string();
                if let Some(members) = &mut lock(&self.shown).members {
                    members.insert(user.clone());
                }
                self.sighted(Sighting::Came(user));
            }
            Event::Left { id, .. } => {
                let user = id.to_string();
                if let Some(members) = &mut lock(&self.shown).members {
                    members.remove(&user);
                }
                if self.plant != Some(Plant::ForgetsALeave) {
                    self.sighted(Sighting::Went(user));
                }
            }
            // Who is there is the same.
            Event::Updated { .. }
            | Event::Connection(_)
            | Event::RequestDone { .. }
            | Event::Error(_) => {}
        }
    }

    fn join(&mut self, recovered: bool) {
        self.is_subscribed = true;
        lock(&self.shown).subscribed.insert(self.channel.clone());
        if self.is_room {
            self.stay = Some(self.recorder.came(&self.name, &self.channel));
        }
        self.saw(match recovered {
            true => Observation::Resumed,
            false => Observation::Joined { at: None },
        });
    }

    fn leave(&mut self) {
        if !std::mem::take(&mut self.is_subscribed) {
            return;
        }
        lock(&self.shown).subscribed.remove(&self.channel);
        if let Some(stay) = self.stay.take() {
            self.recorder.went(stay);
        }
        self.saw(Observation::Left);
        self.is_blind();
    }

    fn is_blind(&self) {
        if self.is_room {
            lock(&self.shown).members = None;
            self.sighted(Sighting::Blind);
        }
    }

    fn message(&mut self, position: Option<fanfare_protocol::Position>, payload: String) {
        self.messages += 1;
        let mut shown = lock(&self.shown);
        shown.last.insert(self.channel.clone(), payload.clone());
        drop(shown);
        let is_its_turn = self.messages == PLANTED_AT;
        match self.plant.filter(|_| is_its_turn) {
            Some(Plant::LosesAMessage) => {}
            Some(Plant::HoldsAMessageBack) => {
                let (recorder, name) = (self.recorder.clone(), self.name.clone());
                let channel = self.channel.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(HELD_BACK).await;
                    let what = Observation::Message { position, payload };
                    recorder.saw(&name, &channel, what);
                });
            }
            Some(Plant::RepeatsAMessage) => {
                for _ in 0..2 {
                    let payload = payload.clone();
                    self.saw(Observation::Message { position, payload });
                }
            }
            Some(Plant::ReusesAPosition) => {
                let position = position.map(|mut position| {
                    position.offset -= 1;
                    position
                });
                self.saw(Observation::Message { position, payload });
            }
            Some(Plant::InventsAMessage) => {
                let payload = format!("{payload}, or so");
                self.saw(Observation::Message { position, payload });
            }
            _ => self.saw(Observation::Message { position, payload }),
        }
    }

    fn saw(&self, what: Observation) {
        // Members' comings and goings take offsets too, and a client hides those that its snapshot has already.
        if !self.is_room {
            self.recorder.saw(&self.name, &self.channel, what);
        }
    }

    fn sighted(&self, what: Sighting) {
        self.recorder.sighted(&self.name, &self.channel, what);
    }
}

/// 37 s: longer than a message may take.
const HELD_BACK: Duration = Duration::from_secs(37);
/// 5: a planted fault hits a message with others around it.
const PLANTED_AT: u64 = 5;
