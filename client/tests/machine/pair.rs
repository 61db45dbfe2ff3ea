//! A client and its host in virtual time. Everything the machine puts out becomes one line of text.

use fanfare_client::{
    ChannelStatus, Client, ClientError, ConnectionStatus, Event, Gap, Input, Millis, Options,
    Output, RequestId, SubscribeOptions, TokenReply,
};
use fanfare_protocol::json::decode_request;
use fanfare_protocol::{Command, EventName, Position, RawJson};

use crate::say::{Data, Said, connected, connected_as, name};

pub(crate) struct Pair {
    pub(crate) client: Client<Data>,
    pub(crate) now: Millis,
    trace: Vec<String>,
    /// The ids of the commands that were sent, with their text.
    ids: Vec<(String, u64)>,
}

impl Pair {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            client: Client::new(options, 42),
            now: Millis(1_000),
            trace: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// Connected without a token, with an empty trace.
    pub(crate) fn connected(options: Options) -> Self {
        let mut pair = Self::new(options);
        pair.input(Input::Connect);
        pair.greet();
        assert_eq!(pair.trace.last().unwrap(), "connection connected");
        pair.trace.clear();
        pair
    }

    /// Connected by a request that said who it is, with an empty trace.
    pub(crate) fn connected_as(user: &str, options: Options) -> Self {
        let mut pair = Self::new(options);
        pair.input(Input::Connect);
        pair.greet_as(user);
        assert_eq!(pair.trace.last().unwrap(), "connection connected");
        pair.trace.clear();
        pair
    }

    /// Connected and subscribed at a position, with an empty trace.
    pub(crate) fn subscribed(channel: &str, position: Position) -> Self {
        Self::connected(Options::default()).with_subscription(channel, position)
    }

    /// Subscribed at a position, with an empty trace.
    pub(crate) fn with_subscription(self, channel: &str, position: Position) -> Self {
        let mut pair = self;
        pair.subscribe(channel);
        let id = pair.id("subscribe");
        pair.say(crate::say::succeeded_at(id, channel, position));
        pair.trace.clear();
        pair
    }

    pub(crate) fn input(&mut self, input: Input<Data>) {
        self.client.handle(input, self.now);
        while let Some(output) = self.client.poll_output() {
            let line = self.describe(&output);
            self.trace.push(line);
        }
    }

    pub(crate) fn say(&mut self, message: Said) {
        self.input(Input::Message(message));
    }

    /// The socket opens and the server greets.
    pub(crate) fn greet(&mut self) {
        self.input(Input::Opened);
        self.say(connected());
    }

    /// The same, and the server knows the user from the handshake.
    pub(crate) fn greet_as(&mut self, user: &str) {
        self.input(Input::Opened);
        self.say(connected_as(user));
    }

    pub(crate) fn close(&mut self, code: u16) {
        self.input(Input::Closed {
            code,
            reason: String::new(),
        });
    }

    pub(crate) fn subscribe(&mut self, channel: &str) {
        self.subscribe_with(channel, SubscribeOptions::default());
    }

    pub(crate) fn subscribe_with(&mut self, channel: &str, options: SubscribeOptions) {
        self.input(Input::Subscribe {
            channel: name(channel),
            options,
        });
    }

    pub(crate) fn unsubscribe(&mut self, channel: &str) {
        self.input(Input::Unsubscribe {
            channel: name(channel),
        });
    }

    pub(crate) fn publish(&mut self, request: u64, channel: &str) {
        self.input(Input::Publish {
            request: RequestId(request),
            channel: name(channel),
            event: EventName::new("typing").unwrap(),
            data: RawJson::null(),
            key: None,
        });
    }

    pub(crate) fn update(&mut self, request: u64, channel: &str, info: &str) {
        self.input(Input::PresenceUpdate {
            request: RequestId(request),
            channel: name(channel),
            info: RawJson::trusted(info),
        });
    }

    pub(crate) fn token(&mut self, token: &str) {
        self.input(Input::Token(TokenReply::Token(token.to_owned())));
    }

    /// Lets time pass; every timer fires when it should.
    pub(crate) fn advance(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while let Some(at) = self.client.next_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.input(Input::TimedOut);
            let next = self.client.next_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a timer spins");
        }
        self.now = end;
    }

    /// Lets time pass while the device sleeps: no timer fires.
    pub(crate) fn sleep(&mut self, milliseconds: u64) {
        self.now = self.now + milliseconds;
    }

    /// Lets time pass until a timer has brought something out, and says how long that took.
    pub(crate) fn advance_to_timer(&mut self) -> u64 {
        let start = self.now;
        let lines = self.trace.len();
        while self.trace.len() == lines {
            let at = self.client.next_timeout().expect("a timer is armed");
            self.advance(at.since(self.now));
        }
        self.now.since(start)
    }

    /// The id of the last command that was sent whose line starts so.
    #[track_caller]
    pub(crate) fn id(&self, command: &str) -> u64 {
        let found = self
            .ids
            .iter()
            .rev()
            .find(|(line, _)| line.starts_with(command));
        found.unwrap_or_else(|| panic!("no {command} was sent")).1
    }

    /// Everything that came out since the last time.
    #[track_caller]
    pub(crate) fn expect(&mut self, lines: &[&str]) {
        let trace = std::mem::take(&mut self.trace);
        assert_eq!(trace, lines);
    }

    /// Everything that came out since the last time.
    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trace)
    }

    fn describe(&mut self, output: &Output<Data>) -> String {
        match output {
            Output::Open { attempt } => format!("open {attempt}"),
            Output::Send(text) => {
                let request = decode_request(text).expect("the machine sends valid commands");
                let line = describe_command(&request.command);
                if let Some(id) = request.id {
                    self.ids.push((line.clone(), id));
                }
                format!("> {line}")
            }
            Output::Close { code, .. } => format!("close {code}"),
            Output::NeedToken { reason } => format!("need token {reason:?}"),
            Output::NeedChannelAuth {
                channel, reason, ..
            } => format!("need auth {channel} {reason:?}"),
            Output::CancelChannelAuth { channel } => format!("cancel auth {channel}"),
            Output::Event(event) => describe_event(event),
        }
    }
}

fn describe_command(command: &Command) -> String {
    match command {
        Command::Authenticate { token } => format!("authenticate {token}"),
        Command::SubscribeAll(list) => {
            let names: Vec<String> = list.iter().map(|one| one.channel.to_string()).collect();
            format!("subscribe [{}]", names.join(" "))
        }
        Command::Subscribe(subscribe) => {
            let mut line = format!("subscribe {}", subscribe.channel);
            if let Some(since) = subscribe.since {
                line += &format!(" since {}", describe_position(since));
            }
            if let Some(rewind) = subscribe.rewind {
                line += &format!(" rewind {rewind}");
            }
            if let Some(auth) = &subscribe.auth {
                line += &format!(" auth {auth}");
            }
            if let Some(data) = &subscribe.channel_data {
                line += &format!(" channel_data {data}");
            }
            if let Some(data) = &subscribe.data {
                line += &format!(" data {}", data.as_str());
            }
            if let Some(info) = &subscribe.info {
                line += &format!(" info {}", info.as_str());
            }
            line
        }
        Command::Unsubscribe { channel } => format!("unsubscribe {channel}"),
        Command::Publish {
            channel,
            event,
            key,
            ..
        } => {
            assert!(key.is_some(), "every publish has a key");
            format!("publish {channel} {event}")
        }
        Command::Emit { event, key, .. } => {
            assert!(key.is_some(), "every emit has a key");
            format!("emit {event}")
        }
        Command::Presence { channel } => format!("presence {channel}"),
        Command::PresenceUpdate { channel, info } => format!("update {channel} {}", info.as_str()),
        Command::History { channel, .. } => format!("history {channel}"),
        Command::Ping => "ping".to_owned(),
        other => format!("{other:?}"),
    }
}

fn describe_event(event: &Event<Data>) -> String {
    match event {
        Event::Connection(status) => describe_connection(status),
        Event::Channel(status) => describe_channel(status),
        Event::Message(message) => {
            let mut line = format!("{} {}", message.channel, message.event);
            if let Some(position) = message.position {
                line += &format!(" {}", describe_position(position));
            }
            if message.recovered {
                line += " recovered";
            }
            line
        }
        Event::Sync {
            channel,
            count,
            members,
        } => {
            let ids: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
            format!("{channel} sync {count} {}", ids.join(","))
        }
        Event::Joined {
            channel,
            member,
            recovered,
            ..
        } => {
            let recovered = if *recovered { " recovered" } else { "" };
            format!("{channel} joined {}{recovered}", member.id)
        }
        Event::Updated {
            channel,
            member,
            recovered,
            ..
        } => {
            let recovered = if *recovered { " recovered" } else { "" };
            format!(
                "{channel} updated {} {:?}{recovered}",
                member.id, member.info
            )
        }
        Event::Left {
            channel,
            id,
            info,
            reason,
            recovered,
            ..
        } => {
            let recovered = if *recovered { " recovered" } else { "" };
            let known = if info.is_some() { "" } else { " unknown" };
            let reason = reason.as_deref().unwrap_or("");
            format!("{channel} {reason} {id}{known}{recovered}")
        }
        Event::Gap(gap) => describe_gap(gap),
        Event::Reset(reset) => {
            let position = describe_position(reset.position);
            format!("{} reset {position}", reset.channel)
        }
        Event::RequestDone { request, result } => match result {
            Ok(_) => format!("done {}", request.0),
            Err(error) => describe_error(format!("done {}", request.0), Some(error)),
        },
        Event::Error(error) => describe_error("error".to_owned(), Some(error)),
    }
}

fn describe_gap(gap: &Gap) -> String {
    let reason = format!("{:?}", gap.reason);
    match (gap.from, gap.to) {
        (Some(from), Some(to)) => format!("{} gap {from}..{to} {reason}", gap.channel),
        _ => format!("{} gap {reason}", gap.channel),
    }
}

fn describe_connection(status: &ConnectionStatus) -> String {
    let mut line = format!("connection {:?}", status.state).to_lowercase();
    if status.resumed {
        line += " resumed";
    }
    if status.retry_at.is_some() {
        line += " later";
    }
    describe_error(line, status.error.as_ref())
}

fn describe_channel(status: &ChannelStatus) -> String {
    let state = format!("{:?}", status.state).to_lowercase();
    let mut line = format!("{} {state}", status.channel);
    if status.recovered {
        line += " recovered";
    }
    describe_error(line, status.error.as_ref())
}

fn describe_error(line: String, error: Option<&ClientError>) -> String {
    match error {
        Some(ClientError::Server { code, .. }) => format!("{line}: {code}"),
        Some(ClientError::Transport { code, .. }) => {
            format!("{line}: closed {code}")
        }
        Some(error) => {
            let text = error.to_string();
            let details = text.strip_prefix(error.text()).unwrap_or(&text);
            format!("{line}: {}{details}", error.name())
        }
        None => line,
    }
}

fn describe_position(position: Position) -> String {
    format!("{}/{}", position.epoch, position.offset)
}
