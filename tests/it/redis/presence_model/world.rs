//! Several nodes that join, leave, lose, crash, sleep and come back, on a clock that the test moves.

use std::collections::{BTreeMap, BTreeSet};

use fanfare_protocol::{ChannelName, Member, RawJson, SocketId, UserId};
use fanfare_server::delivery::Departure;
use fanfare_server::engine::redis::scripted::{Next, ScriptedPresence};
use fanfare_tests::resp::Connection;
use fastrand::Rng;

use super::ledger::May;
use super::room::{Caller, Outcome, Room, ensure, told};

/// Milliseconds, as the engine has them by default.
const LEASE: u64 = 15_000;
const REFRESH: u64 = 5_000;
const GRACE: u64 = 5_000;
const HAND_OVER: u64 = 30_000;
/// How often a node hears Redis, how long it may not have for its contact to last, and how long that must have lasted before
/// it takes out the silent.
const PULSE: u64 = 1_000;
const SILENCE_MAX: u64 = REFRESH;
const TIME_TO_SPEAK: u64 = 6_000;
/// Guaranteed: a member of a node that crashed is gone by then.
const CRASH_MAX: u64 = 20_000;

/// The year 2096, so that no life that a script gives a key ends meanwhile.
const START: u64 = 4_000_000_000_000;

const NODES: usize = 3;
const USERS: [&str; 4] = ["ann", "bob \"b\\o/b\"", "clé|0", "dan"];

pub(super) struct World<'a> {
    /// Somebody new, who has heard nothing of Redis yet.
    newcomer: &'a (dyn Fn() -> ScriptedPresence + Sync),
    /// Somebody who never hears more of Redis than answers.
    publisher: ScriptedPresence,
    redis: Connection,
    rng: Rng,
    now: u64,
    /// The keys that the scripts read the time from.
    clocks: Vec<String>,
    rooms: Vec<Room>,
    nodes: Vec<Node>,
    steps: u64,
}

/// What a node does in between: refresh what it holds, and come by when the next member expires.
struct Node {
    presence: ScriptedPresence,
    /// Since when it has heard Redis without a break, and when last.
    contact: Option<(u64, u64)>,
    pulse_at: u64,
    is_up: bool,
    /// Paused until then.
    asleep_until: u64,
    refresh_at: u64,
    lease: u64,
    grace: u64,
    held: BTreeMap<(usize, SocketId), Member>,
    visits: BTreeSet<(u64, usize)>,
}

impl Node {
    fn start(presence: ScriptedPresence, now: u64, rng: &mut Rng) -> Self {
        Self {
            presence,
            contact: None,
            pulse_at: now + rng.u64(..PULSE),
            is_up: true,
            asleep_until: 0,
            refresh_at: now + rng.u64(..REFRESH),
            lease: LEASE,
            grace: GRACE,
            held: BTreeMap::new(),
            visits: BTreeSet::new(),
        }
    }

    fn is_awake(&self, now: u64) -> bool {
        self.is_up && self.asleep_until <= now
    }

    /// Hears Redis as often as it has until now.
    async fn hear(&mut self, channel: &ChannelName, now: u64) -> Outcome {
        while self.pulse_at <= now {
            let at = self.pulse_at;
            self.presence.hear(channel, at).await.map_err(told)?;
            let since = match self.contact {
                Some((since, last)) if at - last <= SILENCE_MAX => since,
                _ => at,
            };
            self.contact = Some((since, at));
            self.pulse_at = at + PULSE;
        }
        Ok(())
    }

    fn caller(&self, now: u64) -> Caller<'_> {
        let lasted_for = |least: u64| {
            self.contact
                .is_some_and(|(since, last)| since + least <= now && now <= last + SILENCE_MAX)
        };
        Caller {
            presence: &self.presence,
            now,
            may: May {
                lost: lasted_for(GRACE),
                silent: lasted_for(TIME_TO_SPEAK),
            },
        }
    }

    /// When it does something by itself.
    fn next(&self) -> Option<u64> {
        let visit = self.visits.first().map_or(u64::MAX, |(at, _)| *at);
        let next = visit.min(self.refresh_at).max(self.asleep_until);
        self.is_up.then_some(next)
    }

    /// What it holds, if it is in a state to say so.
    fn alive_places(&self, now: u64) -> Vec<(usize, SocketId)> {
        let held = self.held.keys().filter(|_| self.is_awake(now));
        held.copied().collect()
    }

    fn in_room(&self, room: usize) -> Vec<SocketId> {
        let held = self.held.keys().filter(|(at, _)| *at == room);
        held.map(|(_, connection)| *connection).collect()
    }
}

fn only_publishing(presence: &ScriptedPresence, now: u64) -> Caller<'_> {
    Caller {
        presence,
        now,
        may: May::default(),
    }
}

impl<'a> World<'a> {
    pub(super) async fn open(
        newcomer: &'a (dyn Fn() -> ScriptedPresence + Sync),
        redis: Connection,
        seed: u64,
    ) -> Outcome<Self> {
        let mut rng = Rng::with_seed(seed);
        let mut world = Self {
            newcomer,
            publisher: newcomer(),
            redis,
            now: START,
            clocks: Vec::new(),
            rooms: Vec::new(),
            nodes: (0..NODES)
                .map(|_| Node::start(newcomer(), START, &mut rng))
                .collect(),
            rng,
            steps: 0,
        };
        for room in 0..2 {
            let name = format!("presence-model.{seed}.{room}.{:x}", fastrand::u64(..));
            let channel = ChannelName::new(&name).map_err(told)?;
            let position = world.publisher.keys(&channel).swap_remove(0);
            world.clocks.push(position + ":clock");
            world.set_clock(START).await;
            world
                .rooms
                .push(Room::open(&world.publisher, channel).await?);
        }
        Ok(world)
    }

    /// Random things happen, then nothing any more; in the end exactly those are members who are connected.
    pub(super) async fn run(mut self, steps: u64) -> Outcome<u64> {
        for step in 0..steps {
            let happened = self.step().await;
            happened.map_err(|error| format!("step {step}: {error}"))?;
        }
        let rested = self.rest().await;
        rested.map_err(|error| format!("at rest: {error}"))?;
        Ok(self.steps)
    }

    async fn step(&mut self) -> Outcome {
        self.steps += 1;
        let room = self.rng.usize(..self.rooms.len());
        let node = self.rng.usize(..NODES);
        if !self.nodes[node].is_awake(self.now) {
            return self.step_without(node, room).await;
        }
        match self.rng.u8(..100) {
            0..=24 => {
                let connection = SocketId::from_bits(self.rng.u128(..));
                self.join(node, room, connection).await
            }
            // Once more, perhaps as somebody else, perhaps back after a loss.
            25..=32 => match self.pick(room) {
                Some(connection) => self.join(node, room, connection).await,
                None => Ok(()),
            },
            33..=42 => self.update_some(node, room).await,
            43..=64 => match self.pick_held(node, room) {
                Some(connection) => self.leave(node, room, connection).await,
                None => Ok(()),
            },
            // Reported twice, or by somebody who never joined.
            65..=68 => match self.pick(room) {
                Some(connection) => self.leave(node, room, connection).await,
                None => Ok(()),
            },
            // Under way when its socket was lost, or its node handed it over.
            69..=70 => match self.pick_lost(room).or_else(|| self.pick(room)) {
                Some(connection) => {
                    self.hear(node).await?;
                    let caller = self.nodes[node].caller(self.now);
                    let late = [connection];
                    let refreshing = self.rooms[room].refresh(caller, &late, LEASE);
                    refreshing.await.map(|_| ())
                }
                None => Ok(()),
            },
            71..=84 => {
                let by = self.rng.u64(..REFRESH + 1_000);
                self.pass(by).await
            }
            85..=89 => self.ask(room).await,
            90..=91 => self.outage().await,
            92..=93 => {
                self.crash(node);
                Ok(())
            }
            94..=95 => {
                let by = self.rng.u64(..2 * LEASE);
                self.hear(node).await?;
                let node = &mut self.nodes[node];
                node.asleep_until = self.now + by;
                node.pulse_at = node.asleep_until + self.rng.u64(..PULSE);
                Ok(())
            }
            96 => self.hand_over(node).await,
            97 => self.rooms[room].clear_history(&self.publisher).await,
            98 => self.lose_all(room).await,
            _ => self.lose_some(room).await,
        }
    }

    /// The node is down or asleep: only time helps, or a restart.
    async fn step_without(&mut self, node: usize, room: usize) -> Outcome {
        match self.rng.u8(..4) {
            0 if !self.nodes[node].is_up => {
                self.nodes[node] = Node::start((self.newcomer)(), self.now, &mut self.rng);
                Ok(())
            }
            1 => self.ask(room).await,
            _ => {
                let by = self.rng.u64(..REFRESH);
                self.pass(by).await
            }
        }
    }

    async fn join(&mut self, node: usize, room: usize, connection: SocketId) -> Outcome {
        // A connection is a socket of one node: whoever else had it has it no longer.
        for other in &mut self.nodes {
            other.held.remove(&(room, connection));
        }
        let (mut user, mut info) = (USERS[self.rng.usize(..USERS.len())].to_owned(), self.info());
        // As before, more often than chance has it.
        if let Some(entry) = self.rooms[room].ledger.entries.get(&connection)
            && self.rng.bool()
        {
            user.clone_from(&entry.user);
            if self.rng.bool() {
                info = RawJson::trusted(entry.info.as_str());
            }
        }
        let member = Member {
            id: UserId::new(&user).map_err(told)?,
            info,
        };
        self.hear(node).await?;
        let caller = self.nodes[node].caller(self.now);
        let joining = self.rooms[room].join(caller, connection, &member, LEASE);
        joining.await?;
        self.nodes[node].held.insert((room, connection), member);
        Ok(())
    }

    /// Few, so that some are equal.
    fn info(&mut self) -> RawJson {
        RawJson::trusted(self.rng.u8(..4).to_string())
    }

    async fn update_some(&mut self, node: usize, room: usize) -> Outcome {
        // Now and then of one that is not here, or lost.
        let picked = match self.rng.u8(..8) {
            0 => self.pick(room),
            1 => self.pick_lost(room),
            2 => Some(SocketId::from_bits(self.rng.u128(..))),
            _ => self.pick_held(node, room),
        };
        // Now and then it comes before those who look whose time is up.
        if self.rng.u8(..8) == 0 {
            let by = self.rng.u64(..REFRESH);
            self.set_clock(self.now + by).await;
        }
        match picked {
            Some(connection) => self.update(node, room, connection).await,
            None => Ok(()),
        }
    }

    async fn update(&mut self, node: usize, room: usize, connection: SocketId) -> Outcome {
        let info = self.info();
        self.hear(node).await?;
        let caller = self.nodes[node].caller(self.now);
        let is_here = self.rooms[room].update(caller, connection, &info).await?;
        // What its node holds is what it joins again with.
        let held = self.nodes.iter_mut();
        let mut held = held.filter_map(|node| node.held.get_mut(&(room, connection)));
        if let Some(member) = held.next().filter(|_| is_here) {
            member.info = info;
        }
        Ok(())
    }

    async fn leave(&mut self, node: usize, room: usize, connection: SocketId) -> Outcome {
        let departures = [
            Departure::Goodbye,
            Departure::Removed,
            Departure::Lost,
            Departure::Lost,
        ];
        let departure = departures[self.rng.usize(..departures.len())];
        for other in &mut self.nodes {
            other.held.remove(&(room, connection));
        }
        self.hear(node).await?;
        let grace = self.nodes[node].grace;
        let caller = self.nodes[node].caller(self.now);
        let leaving = self.rooms[room].leave(caller, connection, departure, grace);
        if let Some(wait) = leaving.await? {
            self.nodes[node].visits.insert((self.now + wait, room));
        }
        Ok(())
    }

    fn crash(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.is_up = false;
        node.held.clear();
        node.visits.clear();
    }

    async fn hand_over(&mut self, node: usize) -> Outcome {
        self.nodes[node].grace = HAND_OVER;
        self.nodes[node].lease = HAND_OVER + REFRESH;
        self.hear(node).await?;
        self.refresh(node).await
    }

    async fn lose_all(&mut self, room: usize) -> Outcome {
        let mut words = vec!["DEL".to_owned()];
        words.extend(self.publisher.keys(&self.rooms[room].channel));
        self.redis.command(&words).await.map_err(told)?;
        self.rooms[room].lost_all();
        Ok(())
    }

    /// One of the four keys of presence was evicted. The next call notices.
    async fn lose_some(&mut self, room: usize) -> Outcome {
        let keys = self.publisher.keys(&self.rooms[room].channel);
        let key = keys[2 + self.rng.usize(..4)].clone();
        let deleted = self.redis.command(&["DEL".to_owned(), key]).await;
        if deleted.map_err(told)?.number() == Some(1) {
            self.rooms[room].lost_all();
            let caller = only_publishing(&self.publisher, self.now);
            self.rooms[room].evict_expired(caller).await?;
        }
        Ok(())
    }

    /// Somebody asks who is here.
    async fn ask(&mut self, room: usize) -> Outcome {
        let node = self.rng.usize(..=NODES);
        let is_awake = |node: &&Node| node.is_awake(self.now);
        let caller = match self.nodes.get(node).filter(is_awake) {
            Some(node) => node.caller(self.now),
            None => only_publishing(&self.publisher, self.now),
        };
        self.rooms[room].check_snapshot(caller).await
    }

    /// Redis does nothing for a while. Nobody is shown as gone who is connected to a node that is alive.
    async fn outage(&mut self) -> Outcome {
        for index in 0..NODES {
            self.hear(index).await?;
            for (room, connection) in self.nodes[index].alive_places(self.now) {
                let room = &mut self.rooms[room];
                if let Some(entry) = room.ledger.entries.get(&connection)
                    && !entry.is_lost
                    && entry.expiry >= self.now + LEASE - REFRESH
                {
                    room.connected.insert(entry.user.clone());
                }
            }
        }
        let by = self.rng.u64(..2 * LEASE);
        self.set_clock(self.now + by).await;
        for node in &mut self.nodes {
            // What failed meanwhile is tried again soon.
            node.pulse_at = node.pulse_at.max(self.now + self.rng.u64(..PULSE));
            node.refresh_at = self.now + self.rng.u64(..PULSE);
        }
        if let Some(index) = self.nodes.iter().position(|node| !node.is_up) {
            self.nodes[index] = Node::start((self.newcomer)(), self.now, &mut self.rng);
        }
        for room in 0..self.rooms.len() {
            self.ask(room).await?;
            let node = self.rng.usize(..NODES);
            if self.nodes[node].is_awake(self.now) {
                // Sent before it, and executed now.
                let caller = self.nodes[node].caller(self.now);
                self.rooms[room].evict_expired(caller).await?;
            }
        }
        let by = self.rng.u64(..TIME_TO_SPEAK + REFRESH);
        self.pass(by).await?;
        for room in 0..self.rooms.len() {
            self.ask(room).await?;
            self.rooms[room].connected.clear();
        }
        Ok(())
    }

    async fn hear(&mut self, node: usize) -> Outcome {
        let node = &mut self.nodes[node];
        if !node.is_awake(self.now) {
            return Ok(());
        }
        node.hear(&self.rooms[0].channel, self.now).await
    }

    /// Time passes, and the nodes do what they do by themselves.
    async fn pass(&mut self, by: u64) -> Outcome {
        let end = self.now + by;
        loop {
            let next = self.nodes.iter().enumerate();
            let next = next.filter_map(|(index, node)| Some((node.next()?, index)));
            match next.min() {
                Some((at, node)) if at <= end => {
                    self.set_clock(at.max(self.now)).await;
                    self.act(node).await?;
                }
                _ => break,
            }
        }
        self.set_clock(end).await;
        Ok(())
    }

    async fn act(&mut self, index: usize) -> Outcome {
        self.hear(index).await?;
        let node = &mut self.nodes[index];
        if let Some((at, room)) = node.visits.first().copied()
            && at <= self.now
        {
            node.visits.pop_first();
            let caller = self.nodes[index].caller(self.now);
            let next = self.rooms[room].evict_expired(caller).await?;
            self.visit_before_next_round(index, room, next);
        } else {
            node.refresh_at = self.now + REFRESH;
            self.refresh(index).await?;
        }
        Ok(())
    }

    async fn refresh(&mut self, index: usize) -> Outcome {
        let lease = self.nodes[index].lease;
        for room in 0..self.rooms.len() {
            let held = self.nodes[index].in_room(room);
            if held.is_empty() {
                continue;
            }
            let caller = self.nodes[index].caller(self.now);
            let refreshing = self.rooms[room].refresh(caller, &held, lease);
            let (unknown, next) = refreshing.await?;
            self.visit_before_next_round(index, room, next);
            for connection in unknown {
                let member = self.nodes[index].held[&(room, connection)].clone();
                let caller = self.nodes[index].caller(self.now);
                let joining = self.rooms[room].join(caller, connection, &member, LEASE);
                joining.await?;
            }
            // Whoever this node holds is here now.
            for connection in &held {
                let user = self.nodes[index].held[&(room, *connection)]
                    .id
                    .as_str()
                    .to_owned();
                let is_here = self.rooms[room].folded.contains_key(&user);
                ensure!(is_here, "{user} is connected and not here");
            }
        }
        Ok(())
    }

    fn visit_before_next_round(&mut self, node: usize, room: usize, next: Next) {
        let wait = match next {
            Next::Never => return,
            Next::In(wait) => u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            Next::EvictionDeferred => PULSE,
        };
        if wait < REFRESH {
            self.nodes[node].visits.insert((self.now + wait, room));
        }
    }

    /// All nodes but one crash. It watches, and asks nothing: by itself it sees the others go in time.
    async fn rest(&mut self) -> Outcome {
        for node in 1..NODES {
            self.crash(node);
        }
        if !self.nodes[0].is_up {
            self.nodes[0] = Node::start((self.newcomer)(), self.now, &mut self.rng);
        }
        // A node that hangs learns of nothing, and its own lease is over when it wakes up.
        let awake_at = self.nodes[0].asleep_until.max(self.now);
        self.pass(awake_at - self.now).await?;
        for room in 0..self.rooms.len() {
            let connection = SocketId::from_bits(self.rng.u128(..));
            self.join(0, room, connection).await?;
        }
        let handed_over = self
            .rooms
            .iter()
            .flat_map(|room| room.ledger.entries.values());
        let latest = handed_over
            .map(|entry| entry.expiry)
            .max()
            .unwrap_or_default();
        let by = CRASH_MAX.max((latest + REFRESH).saturating_sub(self.now));
        self.pass(by).await?;
        for (index, room) in self.rooms.iter_mut().enumerate() {
            room.hear(&self.publisher).await?;
            let held = self.nodes[0]
                .held
                .iter()
                .filter(|((at, _), _)| *at == index);
            let users: BTreeSet<String> = held
                .map(|(_, member)| member.id.as_str().to_owned())
                .collect();
            let told: BTreeSet<String> = room.folded.keys().cloned().collect();
            ensure!(
                told == users,
                "{:?} are told to be here instead of {users:?}",
                room.folded
            );
        }
        self.hear(0).await?;
        for room in &mut self.rooms {
            room.check_snapshot(self.nodes[0].caller(self.now)).await?;
        }
        Ok(())
    }

    async fn set_clock(&mut self, now: u64) {
        self.now = now;
        let mut words = vec!["MSET".to_owned()];
        for clock in &self.clocks {
            words.extend([clock.clone(), now.to_string()]);
        }
        self.redis.command(&words).await.unwrap();
    }

    fn pick(&mut self, room: usize) -> Option<SocketId> {
        let known: Vec<SocketId> = self.rooms[room].ledger.entries.keys().copied().collect();
        self.rng.choice(known)
    }

    fn pick_lost(&mut self, room: usize) -> Option<SocketId> {
        let known = self.rooms[room].ledger.entries.iter();
        let lost = known.filter(|(_, entry)| entry.is_lost);
        let lost: Vec<SocketId> = lost.map(|(connection, _)| *connection).collect();
        self.rng.choice(lost)
    }

    fn pick_held(&mut self, node: usize, room: usize) -> Option<SocketId> {
        let held = self.nodes[node].in_room(room);
        self.rng.choice(held)
    }
}
