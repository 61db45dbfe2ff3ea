//! The machine, its host, a line and a server, one step at a time.

use fanfare_client::{
    ChannelAuthReply, ChannelState, Client, ConnectionState, Event, Input, Millis, Options, Output,
    RequestId, SubscribeOptions, TokenReply,
};
use fanfare_protocol::json::decode_request;
use fanfare_protocol::{ChannelName, EventName, Position, RawJson, ServerMessage, SocketId};

use crate::say::{Data, Said, name};

use super::checker::Checker;
use super::server::{Disturbance, Server, Trouble};

/// Two plain channels, one with members, one that needs a channel token.
pub(super) const CHANNELS: [&str; 4] = ["alerts", "orders", "presence-room", "private-desk"];
pub(super) const ROOM: &str = "presence-room";

/// What can happen.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Connect,
    Disconnect,
    Subscribe(usize),
    Unsubscribe(usize),
    Publish(usize),
    /// The server publishes.
    Event(usize),
    MemberComes(u8),
    MemberGoes(u8),
    MemberUpdates(u8, u64),
    /// The application shows this of its user, or takes it back.
    Update(u8),
    /// The socket that was asked for opens, or does not.
    SocketOpens,
    SocketFails,
    /// The line breaks, or dies without a word.
    Cut,
    Stall,
    /// So many commands, or messages, are carried over.
    ServerTurns(u8),
    ClientTurns(u8),
    Disturb(u8, Disturbance),
    /// The host passes several messages on before it drains, and the first handler unsubscribes.
    BatchThenUnsubscribe(u8, usize),
    RefuseNext,
    /// The server does something else with the next publish.
    Trouble(Trouble),
    Restart(usize),
    Trim(usize),
    /// The host answers what it was asked.
    Answer(bool),
    Online,
    Offline,
    Wake,
    Suspend,
    Wait(u64),
    /// Time passes and no timer fires.
    Sleep(u64),
}

pub(super) struct World {
    client: Client<Data>,
    now: Millis,
    server: Server,
    line: Line,
    checker: Checker,
    token_question: bool,
    channel_questions: Vec<(ChannelName, SocketId)>,
    /// Where the confirmation begins that was handed to the machine last.
    start: Option<Position>,
    requests: u64,
    numbers: u64,
    /// Everything that came out, for the checker's own test.
    pub(super) trace: Vec<(Event<Data>, Option<Position>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    None,
    Opening,
    Open,
    /// Nothing gets through and nobody says so.
    Dead,
}

type Checked = Result<(), String>;

impl World {
    pub(super) fn new(options: Options, user: Option<&str>, seed: u64) -> Self {
        Self {
            client: Client::new(options, seed),
            now: Millis(1_000),
            server: Server::new(&CHANNELS, user.map(crate::say::user)),
            line: Line::None,
            checker: Checker::default(),
            token_question: false,
            channel_questions: Vec::new(),
            start: None,
            requests: 0,
            numbers: 1_000_000,
            trace: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::Connect => self.input(Input::Connect)?,
            Step::Disconnect => self.input(Input::Disconnect)?,
            Step::Subscribe(at) => self.subscribe(*at)?,
            Step::Unsubscribe(at) => self.unsubscribe(*at)?,
            Step::Publish(at) => self.publish(*at)?,
            Step::Event(at) => self.event(*at),
            Step::MemberComes(id) => self.server.member_comes(&name(ROOM), &format!("u{id}")),
            Step::MemberGoes(id) => self.server.member_goes(&name(ROOM), &format!("u{id}")),
            Step::MemberUpdates(id, info) => {
                self.server
                    .member_updates(&name(ROOM), &format!("u{id}"), *info);
            }
            Step::Update(info) => self.update(*info)?,
            Step::SocketOpens => self.socket_opens()?,
            Step::SocketFails if self.line == Line::Opening => self.close(1006)?,
            Step::Cut if self.line == Line::Open => self.close(1006)?,
            Step::Stall if self.line == Line::Open => self.line = Line::Dead,
            Step::ServerTurns(turns) => self.server_turns(*turns),
            Step::ClientTurns(turns) => self.client_turns(*turns)?,
            Step::Disturb(at, disturbance) => {
                self.server.disturb(usize::from(*at), *disturbance);
            }
            Step::BatchThenUnsubscribe(messages, at) => self.batch(*messages, *at)?,
            Step::RefuseNext => self.server.is_busy = true,
            Step::Trouble(trouble) => self.server.trouble = Some(*trouble),
            Step::Restart(at) => {
                let channel = self.lossy(*at);
                self.server.restart(&channel);
            }
            Step::Trim(at) => {
                let channel = self.lossy(*at);
                self.server.trim(&channel);
            }
            Step::Answer(is_good) => self.answer(*is_good)?,
            Step::Online => self.input(Input::Online)?,
            Step::Offline => self.input(Input::Offline)?,
            Step::Wake => self.input(Input::Wake)?,
            Step::Suspend => self.input(Input::Suspend)?,
            Step::Wait(milliseconds) => self.wait(*milliseconds)?,
            Step::Sleep(milliseconds) => self.now = self.now + *milliseconds,
            Step::SocketFails | Step::Cut | Step::Stall => {}
        }
        self.fire_due_timers()
    }

    /// Lets everything work from now on, and demands that it does.
    pub(super) fn heal(&mut self) -> Checked {
        self.server.is_busy = false;
        self.server.trouble = None;
        self.input(Input::Online)?;
        self.input(Input::Connect)?;
        for _ in 0..10_000 {
            if self.is_settled() {
                return self.check_settled();
            }
            let busy = self.line != Line::Dead
                && (!self.server.inbox.is_empty() || !self.server.outbox.is_empty());
            if self.token_question || !self.channel_questions.is_empty() {
                self.answer(true)?;
            } else if self.line == Line::Opening {
                self.socket_opens()?;
            } else if busy {
                self.server_turns(u8::MAX);
                self.client_turns(u8::MAX)?;
            } else {
                let next = self.client.next_timeout().ok_or("nothing to wait for")?;
                self.wait(next.since(self.now))?;
            }
        }
        Err(format!("does not settle: {:?}", self.client.status()))
    }

    fn is_settled(&self) -> bool {
        let is_subscribed =
            |channel: &ChannelName| self.client.channel_state(channel) == ChannelState::Subscribed;
        self.client.status().state == ConnectionState::Connected
            && self.line == Line::Open
            && self.server.inbox.is_empty()
            && self.server.outbox.is_empty()
            && self.checker.wanted().iter().all(is_subscribed)
            && self.checker.all_answered()
    }

    /// Nothing is missing: a message to every channel is the next one there, and everybody knows who is in the room.
    fn check_settled(&mut self) -> Checked {
        let mut markers = Vec::new();
        for channel in self.checker.wanted() {
            self.numbers += 1;
            let data = Data::Number(self.numbers);
            let position = self.server.publish(&channel, "marker", data);
            markers.push((channel, position));
        }
        for _ in 0..1_000 {
            self.client_turns(u8::MAX)?;
            if self.is_settled() {
                break;
            }
            self.server_turns(u8::MAX);
            self.answer(true)?;
            if let Some(next) = self.client.next_timeout()
                && self.server.outbox.is_empty()
            {
                self.wait(next.since(self.now))?;
            }
        }
        for (channel, position) in markers {
            if self.checker.last(&channel) != Some(position) {
                let last = self.checker.last(&channel);
                return Err(format!("{channel} ends at {last:?}, not {position:?}"));
            }
        }
        let room = name(ROOM);
        let (told, true_ones) = (self.checker.members(&room), self.server.members(&room));
        if self.checker.wanted().contains(&room) && told != true_ones {
            return Err(format!(
                "members {told:?} are told, {true_ones:?} are there"
            ));
        }
        if self.checker.wanted().contains(&room) && !self.checker.may_show(&self.server.shown) {
            return Err(format!(
                "{:?} is shown: {:?}",
                self.server.shown, self.checker
            ));
        }
        for request in self.checker.succeeded() {
            if self.server.accepted.get(&request) != Some(&1) {
                return Err(format!("publish {request} did not happen once"));
            }
        }
        for request in self.checker.refused() {
            if self.server.accepted.contains_key(&request) {
                return Err(format!(
                    "publish {request} is called refused and has happened"
                ));
            }
        }
        match self.server.accepted.iter().find(|(_, times)| **times > 1) {
            Some((request, times)) => Err(format!("publish {request} happened {times} times")),
            None => Ok(()),
        }
    }

    fn subscribe(&mut self, at: usize) -> Checked {
        let channel = name(CHANNELS[at]);
        self.checker.want(&channel);
        let options = SubscribeOptions::default();
        self.input(Input::Subscribe { channel, options })
    }

    fn unsubscribe(&mut self, at: usize) -> Checked {
        let channel = name(CHANNELS[at]);
        self.checker.unwant(&channel);
        if at == 2 {
            self.checker.forget_shown();
        }
        self.input(Input::Unsubscribe { channel })
    }

    fn publish(&mut self, at: usize) -> Checked {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.checker.ask(request);
        self.input(Input::Publish {
            request,
            channel: name(CHANNELS[at]),
            event: EventName::new("typing").unwrap(),
            data: RawJson::trusted(request.0.to_string()),
            key: None,
        })
    }

    fn update(&mut self, info: u8) -> Checked {
        self.requests += 1;
        let request = RequestId(self.requests);
        let text = (info > 0).then(|| info.to_string());
        self.checker.ask_update(request, text.clone());
        let info = text.map_or_else(RawJson::null, RawJson::trusted);
        self.input(Input::PresenceUpdate {
            request,
            channel: name(ROOM),
            info,
        })
    }

    fn event(&mut self, at: usize) {
        self.numbers += 1;
        let data = Data::Number(self.numbers);
        self.server.publish(&name(CHANNELS[at]), "e", data);
    }

    fn lossy(&mut self, at: usize) -> ChannelName {
        let channel = name(CHANNELS[at]);
        self.checker.view(&channel).may_lose = true;
        channel
    }

    fn socket_opens(&mut self) -> Checked {
        if self.line != Line::Opening {
            return Ok(());
        }
        self.line = Line::Open;
        self.server.accept();
        self.input(Input::Opened)
    }

    fn close(&mut self, code: u16) -> Checked {
        self.hang_up();
        let reason = String::new();
        self.input(Input::Closed { code, reason })
    }

    fn hang_up(&mut self) {
        self.line = Line::None;
        self.server.hang_up();
    }

    fn server_turns(&mut self, turns: u8) {
        for _ in 0..turns {
            if self.line == Line::Open && !self.server.inbox.is_empty() {
                self.server.turn();
            }
        }
    }

    fn client_turns(&mut self, turns: u8) -> Checked {
        for _ in 0..turns {
            if self.line != Line::Open {
                return Ok(());
            }
            let Some(message) = self.server.outbox.pop_front() else {
                return Ok(());
            };
            self.input(Input::Message(message))?;
        }
        Ok(())
    }

    fn batch(&mut self, messages: u8, at: usize) -> Checked {
        for _ in 0..messages {
            if self.line != Line::Open || self.start.is_some() {
                break;
            }
            if let Some(message) = self.server.outbox.pop_front() {
                self.note(&message);
                self.client.handle(Input::Message(message), self.now);
            }
        }
        if let Some(output) = self.client.poll_output() {
            self.act(output)?;
        }
        self.unsubscribe(at)
    }

    fn answer(&mut self, is_good: bool) -> Checked {
        if std::mem::take(&mut self.token_question) {
            let reply = if is_good {
                TokenReply::Token("token".to_owned())
            } else {
                TokenReply::failed("no network")
            };
            self.input(Input::Token(reply))?;
        }
        for (channel, socket_id) in std::mem::take(&mut self.channel_questions) {
            let reply = if is_good {
                ChannelAuthReply::Granted {
                    auth: "signed".to_owned(),
                    channel_data: None,
                }
            } else {
                ChannelAuthReply::failed("no network")
            };
            self.input(Input::ChannelAuth {
                channel,
                socket_id,
                reply,
            })?;
        }
        Ok(())
    }

    fn wait(&mut self, milliseconds: u64) -> Checked {
        let end = self.now + milliseconds;
        while let Some(next) = self.client.next_timeout().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.fire_due_timers()?;
        }
        self.now = end;
        Ok(())
    }

    fn fire_due_timers(&mut self) -> Checked {
        // One may lead to another at once, such as a lost connection to a retry without a wait.
        for _ in 0..20 {
            if self.client.next_timeout().is_none_or(|at| at > self.now) {
                return Ok(());
            }
            self.input(Input::TimedOut)?;
        }
        Err("a timer spins".to_owned())
    }

    fn input(&mut self, input: Input<Data>) -> Checked {
        if let Input::Message(message) = &input {
            self.note(message);
        }
        self.client.handle(input, self.now);
        while let Some(output) = self.client.poll_output() {
            self.act(output)?;
        }
        self.start = None;
        self.check_waiting()?;
        self.check_members()
    }

    /// What a message means for the checker, whichever way it reaches the machine.
    fn note(&mut self, message: &Said) {
        self.start = start_of(message);
        if let ServerMessage::Connected(hello) = message
            && hello.user_id.is_none()
        {
            self.checker.shows_nothing();
        }
    }

    fn act(&mut self, output: Output<Data>) -> Checked {
        let state = self.client.status().state;
        let is_over = matches!(
            state,
            ConnectionState::Disconnected | ConnectionState::Failed
        );
        let is_quiet = matches!(
            output,
            Output::Event(_) | Output::Close { .. } | Output::CancelChannelAuth { .. }
        );
        if is_over && !is_quiet {
            return Err(format!("{output:?} although the connection is {state:?}"));
        }
        match output {
            Output::Open { .. } => {
                self.hang_up();
                self.line = Line::Opening;
            }
            Output::Send(text) => {
                let request = decode_request(&text).map_err(|error| error.to_string())?;
                match self.line {
                    Line::Open => self.server.inbox.push_back(request),
                    Line::Dead => {}
                    Line::None | Line::Opening => return Err("sent without a socket".to_owned()),
                }
            }
            Output::Close { .. } => self.hang_up(),
            Output::NeedToken { .. } => self.token_question = true,
            Output::NeedChannelAuth {
                channel, socket_id, ..
            } => self.channel_questions.push((channel, socket_id)),
            Output::CancelChannelAuth { channel } => {
                self.channel_questions.retain(|(of, _)| *of != channel);
            }
            Output::Event(event) => {
                self.trace.push((event.clone(), self.start));
                let published = &self.server.published;
                self.checker.event(&event, published, self.start)?;
            }
        }
        Ok(())
    }

    /// Whatever is waited for has a deadline.
    fn check_waiting(&self) -> Checked {
        let is_on_its_way = matches!(
            self.client.status().state,
            ConnectionState::Connecting
                | ConnectionState::Reconnecting
                | ConnectionState::Connected
        );
        let waits = is_on_its_way || !self.checker.all_answered();
        if waits && self.client.next_timeout().is_none() {
            return Err(format!("no timer in {:?}", self.client.status()));
        }
        Ok(())
    }

    fn check_members(&self) -> Checked {
        let room = name(ROOM);
        let told = self.checker.members(&room);
        let members = self.client.members(&room).iter();
        let known: Vec<String> = members
            .map(|member| format!("{} {:?}", member.id, member.info))
            .collect();
        if told == known {
            Ok(())
        } else {
            Err(format!("members {told:?} are told, {known:?} are known"))
        }
    }

    pub(super) fn published(&self) -> &super::checker::Published {
        &self.server.published
    }
}

/// Where a fresh subscription begins.
fn start_of(message: &Said) -> Option<Position> {
    match message {
        ServerMessage::SubscriptionSucceeded(reply) => reply.position,
        _ => None,
    }
}
