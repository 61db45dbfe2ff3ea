use std::ops::Range;
use std::time::Duration;

use fanfare_protocol::{Command, Epoch, Position, RawJson, Reply, Subscribe};

use super::io::{Effect, Permission};
use super::*;
use crate::rules::ChannelRule;

mod presence;

struct Bench {
    session: Session,
    now: Moment,
}

impl Bench {
    fn new(access: Access) -> Self {
        let open = ChannelRule::default().with_client_publish();
        Self::with_rules(ChannelRules::new().with("open-", open), access)
    }

    fn with_rules(rules: ChannelRules, access: Access) -> Self {
        let terms = Arc::new(Terms {
            limits: Limits::default(),
            rules: Arc::new(rules),
            idempotency_window: Duration::from_mins(10),
        });
        let now = Moment {
            instant: Instant::now(),
            unix_ms: 1_000,
        };
        Self {
            session: Session::new(SocketId::from_bits(1), terms, access, now),
            now,
        }
    }

    fn anonymous() -> Self {
        let mut bench = Self::new(Access::Anonymous);
        assert!(matches!(
            bench.messages()[..],
            [ServerMessage::Connected(_)]
        ));
        bench
    }

    fn advance(&mut self, by: Duration) {
        self.now.instant += by;
        self.session.handle(Input::TimedOut, self.now);
    }

    fn command(&mut self, id: u64, command: Command) {
        self.session.handle(
            Input::Command(Request {
                id: Some(id),
                command,
            }),
            self.now,
        );
    }

    fn done(&mut self, op: OpId, outcome: Outcome) {
        self.session.handle(Input::Done(op, outcome), self.now);
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    /// The messages among the outputs; anything else is dropped.
    fn messages(&mut self) -> Vec<ServerMessage> {
        let send = |output| match output {
            Output::Send(message) => Some(message),
            _ => None,
        };
        self.outputs().into_iter().filter_map(send).collect()
    }

    /// The one effect that was started.
    #[track_caller]
    fn effect(&mut self) -> OpId {
        let outputs = self.outputs();
        match &outputs[..] {
            [Output::Do(op, _)] => *op,
            other => panic!("expected one effect, got {other:?}"),
        }
    }

    fn subscribe(&mut self, name: &str) {
        self.command(1, subscribe(name));
        let op = self.effect();
        self.done(op, live());
        assert!(
            self.outputs().is_empty(),
            "the hub sends the reply, not the session"
        );
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn subscribe(name: &str) -> Command {
    Command::Subscribe(Subscribe::new(channel(name)))
}

fn publish(name: &str) -> Command {
    Command::Publish {
        channel: channel(name),
        event: "e".parse().unwrap(),
        data: RawJson::null(),
        key: None,
    }
}

fn live() -> Outcome {
    Outcome::Subscribed {
        expires_at: None,
        joined_info: None,
    }
}

fn identity(user: &str) -> Identity {
    Identity::new(UserId::new(user).unwrap())
}

#[track_caller]
fn assert_error(messages: &[ServerMessage], code: Code) {
    match messages {
        [ServerMessage::Error(error)] => assert_eq!(error.code, code.number(), "{}", error.error),
        [ServerMessage::SubscriptionError(error)] => {
            assert_eq!(error.code, code.number(), "{}", error.error)
        }
        other => panic!("expected error {}, got {other:?}", code.name()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_subscribe_to_a_live_channel_is_an_error() {
    let mut bench = Bench::anonymous();
    bench.subscribe("orders");
    bench.command(2, subscribe("orders"));
    assert_error(&bench.messages(), Code::ALREADY_SUBSCRIBED);
}

fn subscribe_since(name: &str) -> Command {
    Command::Subscribe(Subscribe {
        since: Some(Position::start(Epoch(1))),
        ..Subscribe::new(channel(name))
    })
}

#[tokio::test(start_paused = true)]
async fn a_second_subscribe_with_a_position_moves_the_subscription_and_keeps_its_permission() {
    let mut bench = Bench::new(Access::Identified {
        identity: identity("ann"),
        ends_at: None,
    });
    bench.outputs();
    bench.command(1, subscribe("presence-room"));
    let op = bench.effect();
    let expires_at = Some(bench.now.instant + Duration::from_secs(60));
    bench.done(
        op,
        Outcome::Subscribed {
            expires_at,
            joined_info: None,
        },
    );
    bench.command(2, subscribe_since("presence-room"));
    let outputs = bench.outputs();
    let [
        Output::Leave { farewell: None, .. },
        Output::Do(op, Effect::Subscribe(joining)),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(joining.permission, Permission::Held { expires_at });
    // What is said meanwhile waits, and a channel that cannot be moved is none any more.
    bench.command(
        3,
        Command::Unsubscribe {
            channel: channel("presence-room"),
        },
    );
    assert!(bench.outputs().is_empty());
    bench.done(*op, Outcome::Refused(Refusal::unavailable()));
    let messages = bench.messages();
    assert!(
        matches!(&messages[..], [ServerMessage::SubscriptionError(moved), ServerMessage::Error(left)]
            if moved.code == Code::UNAVAILABLE.number() && left.code == Code::NOT_SUBSCRIBED.number()),
        "{messages:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn unsubscribe_before_the_subscribe_reply_waits_for_it() {
    let mut bench = Bench::anonymous();
    bench.command(1, subscribe("orders"));
    let op = bench.effect();
    bench.command(
        2,
        Command::Unsubscribe {
            channel: channel("orders"),
        },
    );
    assert!(bench.outputs().is_empty(), "the unsubscribe stands in line");
    bench.done(op, live());
    match &bench.outputs()[..] {
        [
            Output::Leave {
                channel,
                farewell: Some(ServerMessage::Unsubscribed(bye)),
            },
        ] => {
            assert_eq!(
                (channel.as_str(), bye.id, bye.code),
                ("orders", Some(2), NORMAL_CLOSURE)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn subscribe_unsubscribe_subscribe_in_one_go_keeps_its_order() {
    let mut bench = Bench::anonymous();
    bench.command(1, subscribe("orders"));
    let first = bench.effect();
    bench.command(
        2,
        Command::Unsubscribe {
            channel: channel("orders"),
        },
    );
    bench.command(3, subscribe("orders"));
    bench.done(first, live());
    let outputs = bench.outputs();
    assert!(
        matches!(&outputs[..], [Output::Leave { .. }, Output::Do(second, Effect::Subscribe(_))] if *second != first),
        "{outputs:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_frees_the_channel() {
    let mut bench = Bench::anonymous();
    bench.command(1, subscribe("private-x"));
    let op = bench.effect();
    bench.done(op, Outcome::Refused(Refusal::new(Code::FORBIDDEN)));
    assert_error(&bench.messages(), Code::FORBIDDEN);
    bench.command(2, subscribe("private-x"));
    bench.effect();
}

#[tokio::test(start_paused = true)]
async fn leaving_a_presence_channel_keeps_it_busy_until_the_members_know() {
    let mut bench = Bench::new(Access::Identified {
        identity: identity("ann"),
        ends_at: None,
    });
    let outputs = bench.outputs();
    assert!(matches!(
        outputs[..],
        [
            Output::Send(_),
            Output::Identified,
            Output::Do(_, Effect::Subscribe(_))
        ]
    ));
    bench.subscribe("presence-room");
    bench.command(
        2,
        Command::Unsubscribe {
            channel: channel("presence-room"),
        },
    );
    let outputs = bench.outputs();
    let [
        Output::Leave { .. },
        Output::Do(
            op,
            Effect::LeavePresence {
                departure: Departure::Goodbye,
                ..
            },
        ),
    ] = outputs[..]
    else {
        panic!("{outputs:?}")
    };
    bench.command(3, subscribe("presence-room"));
    assert!(bench.outputs().is_empty());
    assert!(
        bench
            .session
            .presence_channels()
            .contains(&channel("presence-room"))
    );
    bench.done(op, Outcome::Accepted);
    bench.effect();
}

#[tokio::test(start_paused = true)]
async fn a_client_publishes_only_where_it_may_and_is() {
    let mut bench = Bench::anonymous();
    bench.command(1, publish("open-chat"));
    assert_error(&bench.messages(), Code::NOT_SUBSCRIBED);
    bench.subscribe("closed");
    bench.command(2, publish("closed"));
    assert_error(&bench.messages(), Code::PUBLISH_NOT_ALLOWED);
    bench.subscribe("open-chat");
    bench.command(3, publish("open-chat"));
    let op = bench.effect();
    bench.command(4, publish("open-chat"));
    assert!(
        bench.outputs().is_empty(),
        "publishes of one channel go one after the other"
    );
    bench.done(op, Outcome::Replied(Box::new(Reply::new(3))));
    let outputs = bench.outputs();
    assert!(
        matches!(
            &outputs[..],
            [Output::Send(ServerMessage::Ok(_)), Output::Do(..)]
        ),
        "{outputs:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn payloads_are_paid_for_by_their_bytes() {
    let limits = Limits::default();
    let payload = |bytes: usize| Command::Publish {
        channel: channel("open-chat"),
        event: "e".parse().unwrap(),
        data: RawJson::encode(&"x".repeat(bytes - 2)).unwrap(),
        key: None,
    };
    let mut bench = Bench::anonymous();
    bench.subscribe("open-chat");
    bench.command(1, payload(limits.client_payload_bytes_max + 1));
    assert_error(&bench.messages(), Code::PAYLOAD_TOO_LARGE);
    for id in 2..10 {
        bench.command(id, payload(32 << 10));
        let op = bench.effect();
        bench.done(op, Outcome::Accepted);
        assert!(bench.outputs().is_empty());
    }
    bench.command(10, payload(32 << 10));
    let refused = bench.messages();
    let [ServerMessage::Error(error)] = &refused[..] else {
        panic!("{refused:?}")
    };
    let text = "a connection publishes at most 65536 bytes per second and 262144 at once, 32768 more are too many now";
    assert_eq!(
        (
            error.code,
            error.error.as_str(),
            error.retry,
            error.retry_after
        ),
        (4322, text, true, Some(500))
    );
    // A small one is refused as well: nothing is left.
    bench.command(11, payload(100));
    assert_error(&bench.messages(), Code::PUBLISH_RATE);
    bench.advance(Duration::from_millis(500));
    bench.command(12, payload(32 << 10));
    bench.effect();
}

#[tokio::test(start_paused = true)]
async fn without_credentials_only_talk_about_credentials() {
    let mut bench = Bench::new(Access::Waiting { was_refused: false });
    assert!(matches!(
        bench.messages()[..],
        [ServerMessage::Connected(_)]
    ));
    bench.command(1, subscribe("orders"));
    assert_error(&bench.messages(), Code::NOT_AUTHENTICATED);
    bench.command(2, Command::Ping);
    assert!(matches!(
        bench.messages()[..],
        [ServerMessage::Pong { timestamp: 1_000 }]
    ));
    bench.command(
        3,
        Command::Authenticate {
            token: "t".to_owned(),
        },
    );
    let op = bench.effect();
    bench.done(
        op,
        Outcome::Authenticated {
            identity: identity("ann"),
            ends_at: None,
        },
    );
    let outputs = bench.outputs();
    let [
        Output::Send(ServerMessage::Ok(reply)),
        Output::Identified,
        Output::Do(_, Effect::Subscribe(personal)),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(reply.user_id.as_ref().map(UserId::as_str), Some("ann"));
    assert_eq!(personal.subscribe.channel.as_str(), "user:ann");
}

/// Judged while the credentials are looked at, they would be refused to nobody, for good.
#[tokio::test(start_paused = true)]
async fn commands_after_credentials_are_those_of_the_user() {
    for is_let_in in [true, false] {
        let mut bench = Bench::anonymous();
        let token = "t".to_owned();
        bench.command(1, Command::Authenticate { token });
        let login = bench.effect();
        bench.command(2, subscribe("a"));
        let list = vec![Subscribe::new(channel("b")), Subscribe::new(channel("c"))];
        bench.command(3, Command::SubscribeAll(list));
        bench.command(4, Command::Ping);
        let messages = bench.messages();
        assert!(matches!(messages[..], [ServerMessage::Pong { .. }]));
        let outcome = match is_let_in {
            true => Outcome::Authenticated {
                identity: identity("ann"),
                ends_at: None,
            },
            false => Outcome::Refused(Refusal::unavailable()),
        };
        bench.done(login, outcome);
        let joined = bench
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Do(_, Effect::Subscribe(joining)) => Some(joining.subscribe.channel),
                _ => None,
            });
        let mut names: Vec<_> = joined.map(|channel| channel.to_string()).collect();
        if is_let_in {
            assert_eq!(names.remove(0), "user:ann");
        }
        assert_eq!(names, ["a", "b", "c"]);
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_end_a_connection_that_has_none() {
    let mut bench = Bench::new(Access::Waiting { was_refused: false });
    bench.outputs();
    bench.command(
        1,
        Command::Authenticate {
            token: "t".to_owned(),
        },
    );
    let op = bench.effect();
    bench.done(
        op,
        Outcome::Refused(Refusal::new(Code::CREDENTIALS_REFUSED).with_text("bad token")),
    );
    let outputs = bench.outputs();
    assert!(matches!(
        &outputs[..],
        [Output::Send(ServerMessage::Error(_)), Output::Send(ServerMessage::Disconnect(bye)), Output::Close { code: 4003, .. }]
            if !bye.reconnect
    ));
}

#[tokio::test(start_paused = true)]
async fn a_connection_cannot_change_its_user_and_survives_the_attempt() {
    let mut bench = Bench::new(Access::Identified {
        identity: identity("ann"),
        ends_at: None,
    });
    bench.outputs();
    for outcome in [
        Outcome::Authenticated {
            identity: identity("bob"),
            ends_at: None,
        },
        Outcome::Refused(Refusal::new(Code::CREDENTIALS_REFUSED)),
    ] {
        bench.command(
            1,
            Command::Authenticate {
                token: "t".to_owned(),
            },
        );
        let op = bench.effect();
        bench.done(op, outcome);
        assert_error(&bench.messages(), Code::TOKEN_REFUSED);
        assert_eq!(bench.session.user().map(UserId::as_str), Some("ann"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadlines_close_with_their_codes() {
    #[track_caller]
    fn check(access: Access, after: Duration, expect: Option<Code>) {
        let mut bench = Bench::new(access);
        bench.outputs();
        bench.advance(after);
        let closed = bench.outputs().into_iter().find_map(|output| match output {
            Output::Close { code, .. } => Some(code),
            _ => None,
        });
        assert_eq!(closed, expect.map(Code::number), "{after:?}");
    }
    let seconds = Duration::from_secs;
    let expiring = || Access::Identified {
        identity: identity("ann"),
        ends_at: Some(Instant::now() + seconds(20)),
    };
    check(Access::Waiting { was_refused: false }, seconds(9), None);
    check(
        Access::Waiting { was_refused: false },
        seconds(10),
        Some(Code::AUTHENTICATION_TIMEOUT),
    );
    check(
        Access::Waiting { was_refused: true },
        seconds(10),
        Some(Code::CREDENTIALS_REFUSED),
    );
    check(expiring(), seconds(19), None);
    check(expiring(), seconds(20), Some(Code::TOKEN_EXPIRED));
    check(Access::Anonymous, seconds(59), None);
    check(Access::Anonymous, seconds(60), Some(Code::STALE));
}

#[tokio::test(start_paused = true)]
async fn silence_brings_one_ping_and_any_word_counts_as_life() {
    let mut bench = Bench::anonymous();
    bench.advance(Duration::from_secs(30));
    assert!(matches!(bench.outputs()[..], [Output::Ping]));
    bench.advance(Duration::from_secs(5));
    assert!(bench.outputs().is_empty());
    bench.session.handle(Input::Heard, bench.now);
    bench.advance(Duration::from_secs(29));
    assert!(bench.outputs().is_empty());
    bench.advance(Duration::from_secs(1));
    assert!(matches!(bench.outputs()[..], [Output::Ping]));
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_channels_does_not_count_the_personal_one() {
    let mut bench = Bench::new(Access::Identified {
        identity: identity("ann"),
        ends_at: None,
    });
    bench.outputs();
    for number in 0..100 {
        bench.subscribe(&format!("channel-{number}"));
        bench.now.instant += Duration::from_secs(1);
    }
    bench.command(2, subscribe("one-more"));
    assert_error(&bench.messages(), Code::TOO_MANY_CHANNELS);
}

#[tokio::test(start_paused = true)]
async fn too_many_commands_are_refused_and_a_flood_is_closed() {
    let mut bench = Bench::anonymous();
    for id in 0..200 {
        bench.command(id, Command::Ping);
    }
    assert_eq!(bench.messages().len(), 200);
    bench.command(200, Command::Ping);
    let messages = bench.messages();
    assert_error(&messages, Code::RATE_LIMITED);
    assert!(
        matches!(&messages[..], [ServerMessage::Error(error)] if error.retry && error.retry_after == Some(20))
    );
    for id in 201..1_201 {
        bench.command(id, Command::Ping);
    }
    let closed = bench
        .outputs()
        .into_iter()
        .any(|output| matches!(output, Output::Close { code: 4106, .. }));
    assert!(closed);
}

fn subscribe_all(names: Range<u32>) -> Command {
    let list = names.map(|at| Subscribe::new(channel(&format!("c-{at}"))));
    Command::SubscribeAll(list.collect())
}

/// The subscriptions that are started, by effect and channel.
fn started(outputs: &[Output]) -> Vec<(OpId, String)> {
    let started = outputs.iter().filter_map(|output| match output {
        Output::Do(op, Effect::Subscribe(joining)) => {
            Some((*op, joining.subscribe.channel.to_string()))
        }
        _ => None,
    });
    started.collect()
}

#[tokio::test(start_paused = true)]
async fn every_channel_of_a_list_is_subscribed_under_the_one_id() {
    let mut bench = Bench::anonymous();
    bench.subscribe("c-1");
    bench.command(7, subscribe_all(0..3));
    let outputs = bench.outputs();
    let ops = started(&outputs);
    assert_eq!(ops.len(), 2, "{outputs:?}");
    let refused = outputs.iter().find_map(|output| match output {
        Output::Send(ServerMessage::SubscriptionError(error)) => Some(error),
        _ => None,
    });
    let refused = refused.unwrap();
    assert_eq!((refused.channel.as_str(), refused.id), ("c-1", Some(7)));
    for (op, _) in ops {
        bench.done(op, live());
    }
    bench.command(8, publish("c-2"));
    assert_error(&bench.messages(), Code::PUBLISH_NOT_ALLOWED);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_worked_on_a_few_channels_at_a_time() {
    let mut bench = Bench::anonymous();
    bench.command(1, subscribe_all(0..100));
    let mut running = started(&bench.outputs());
    assert_eq!(running.len(), 16);
    // The last one is not worked on yet, and leaving it waits for that.
    let last = channel("c-99");
    bench.command(2, Command::Unsubscribe { channel: last });
    let mut subscribed = Vec::new();
    while let Some((op, name)) = running.pop() {
        bench.done(op, live());
        subscribed.push(name);
        let outputs = bench.outputs();
        running.extend(started(&outputs));
        let left = |output: &Output| matches!(output, Output::Leave { .. });
        assert_eq!(
            outputs.iter().any(left),
            subscribed.last().unwrap() == "c-99"
        );
        assert!(running.len() <= 16);
    }
    assert_eq!(subscribed.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn the_channels_above_the_limit_get_one_error_each() {
    let mut bench = Bench::anonymous();
    bench.command(1, subscribe_all(0..600));
    let outputs = bench.outputs();
    let refused = outputs.iter().filter(|output| {
        matches!(output, Output::Send(ServerMessage::SubscriptionError(error)) if error.code == 4308)
    });
    assert_eq!(refused.count(), 500);
}

#[tokio::test(start_paused = true)]
async fn lists_cost_their_channels() {
    let mut bench = Bench::anonymous();
    bench.command(1, subscribe_all(0..1_000));
    bench.outputs();
    bench.command(2, subscribe_all(0..50));
    let messages = bench.messages();
    assert_error(&messages, Code::RATE_LIMITED);
    assert!(
        matches!(&messages[..], [ServerMessage::Error(error)] if error.retry_after == Some(1_000))
    );
    bench.advance(Duration::from_secs(1));
    bench.outputs();
    bench.command(3, subscribe_all(200..250));
    let refused = bench.messages();
    assert_eq!(refused.len(), 50, "the limit of channels refuses each");
    // One channel by itself needs no allowance.
    bench.command(4, subscribe("c-600"));
    assert_error(&bench.messages(), Code::TOO_MANY_CHANNELS);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_told_its_limits() {
    let mut bench = Bench::new(Access::Anonymous);
    let messages = bench.messages();
    let [ServerMessage::Connected(hello)] = &messages[..] else {
        panic!("{messages:?}")
    };
    let limits = hello.limits.unwrap();
    let ours = Limits::default();
    assert_eq!(limits.channels_max, ours.channels_max as u64);
    assert_eq!(limits.commands_per_second, 50);
    assert_eq!(limits.commands_burst, 200);
    assert_eq!(limits.message_bytes_max, ours.message_bytes_max() as u64);
    assert_eq!(limits.idempotency_window, Some(600_000));
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_no_messages_have_a_budget_of_their_own() {
    let mut bench = Bench::anonymous();
    let second = Duration::from_secs(1);
    for _ in 0..2_048 {
        bench.session.handle(Input::Frame, bench.now);
    }
    bench.advance(second);
    for _ in 0..100 {
        bench.session.handle(Input::Frame, bench.now);
    }
    // They cost no commands.
    bench.command(1, Command::Ping);
    assert!(matches!(bench.messages()[..], [ServerMessage::Pong { .. }]));
    bench.session.handle(Input::Frame, bench.now);
    let outputs = bench.outputs();
    assert!(
        matches!(&outputs[..], [Output::Send(ServerMessage::Disconnect(_)), Output::Close { code: 4106, reason }]
            if reason == "pings, pongs and fragments kept arriving far above the limit"),
        "{outputs:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn orders_for_a_busy_channel_do_not_pile_up() {
    let mut bench = Bench::anonymous();
    bench.command(1, subscribe("x"));
    let op = bench.effect();
    let channel = ChannelName::new("x").unwrap();
    for _ in 0..1_000 {
        let leave = Control::Unsubscribe(channel.clone());
        bench.session.handle(Input::Control(leave), bench.now);
        let join = Control::Subscribe(channel.clone());
        bench.session.handle(Input::Control(join), bench.now);
    }
    assert_eq!(bench.session.line.len(), 1);
    let leave = Control::Unsubscribe(channel);
    bench.session.handle(Input::Control(leave), bench.now);
    let subscribed = live();
    bench.done(op, subscribed);
    // The last order is what counts.
    let outputs = bench.outputs();
    assert!(
        matches!(&outputs[..], [Output::Leave { .. }]),
        "{outputs:?}"
    );
}

/// Commands that wait must keep no subscription alive: neither beyond its permission, nor after the application ended it.
#[tokio::test(start_paused = true)]
async fn a_busy_channel_ends_before_its_next_command() {
    for is_order in [false, true] {
        let mut bench = Bench::anonymous();
        bench.command(1, subscribe("open-x"));
        let op = bench.effect();
        let ends = bench.now.instant + Duration::from_secs(3);
        let outcome = Outcome::Subscribed {
            expires_at: Some(ends),
            joined_info: None,
        };
        bench.done(op, outcome);
        for id in 2..50 {
            bench.command(id, publish("open-x"));
        }
        let first = bench.effect();
        match is_order {
            true => {
                let order = Control::Unsubscribe(channel("open-x"));
                bench.session.handle(Input::Control(order), bench.now);
            }
            false => bench.advance(Duration::from_secs(4)),
        }
        assert!(bench.outputs().is_empty(), "the step is not interrupted");
        bench.done(first, Outcome::Accepted);
        let outputs = bench.outputs();
        let farewell = match &outputs[..] {
            [Output::Leave { farewell, .. }, ..] => farewell,
            other => panic!("{other:?}"),
        };
        let Some(ServerMessage::Unsubscribed(farewell)) = farewell else {
            panic!("{farewell:?}")
        };
        let code = if is_order {
            Code::REMOVED
        } else {
            Code::INVALID_AUTH
        };
        assert_eq!(farewell.code, code.number());
        // What waited is refused, and starts nothing.
        let starts = |output: &Output| matches!(output, Output::Do(_, Effect::Publish { .. }));
        assert!(!outputs.iter().any(starts));
    }
}

#[tokio::test(start_paused = true)]
async fn the_personal_channel_belongs_to_its_user() {
    let mut bench = Bench::anonymous();
    bench.command(1, subscribe("user:ann"));
    assert_error(&bench.messages(), Code::FORBIDDEN);
    let mut bench = Bench::new(Access::Identified {
        identity: identity("ann"),
        ends_at: None,
    });
    let outputs = bench.outputs();
    let Some(Output::Do(op, _)) = outputs.last() else {
        panic!("{outputs:?}")
    };
    bench.done(*op, live());
    bench.command(1, subscribe("user:ann"));
    let outputs = bench.outputs();
    assert!(matches!(
        &outputs[..],
        [
            Output::Leave { farewell: None, .. },
            Output::Do(_, Effect::Subscribe(_))
        ]
    ));
}

#[tokio::test(start_paused = true)]
async fn an_expired_permission_ends_its_subscription_alone() {
    let mut bench = Bench::anonymous();
    bench.subscribe("stays");
    bench.command(1, subscribe("goes"));
    let op = bench.effect();
    let expires_at = Some(bench.now.instant + Duration::from_secs(5));
    bench.done(
        op,
        Outcome::Subscribed {
            expires_at,
            joined_info: None,
        },
    );
    assert_eq!(
        bench.session.next_timeout(),
        bench.now.instant + Duration::from_secs(5)
    );
    bench.advance(Duration::from_secs(5));
    match &bench.outputs()[..] {
        [
            Output::Leave {
                channel,
                farewell: Some(ServerMessage::Unsubscribed(bye)),
            },
        ] => {
            assert_eq!(
                (channel.as_str(), bye.code),
                ("goes", Code::INVALID_AUTH.number())
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_close_nothing_comes_out() {
    let mut bench = Bench::anonymous();
    bench.command(1, Command::Disconnect);
    assert!(matches!(
        bench.outputs()[..],
        [Output::Close {
            code: NORMAL_CLOSURE,
            ..
        }]
    ));
    assert_eq!(bench.session.departure(), Departure::Goodbye);
    bench.command(2, Command::Ping);
    bench.advance(Duration::from_secs(100));
    assert!(bench.outputs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_signed_before_a_removal_is_void_until_the_application_lets_it_in_again() {
    #[track_caller]
    fn voided_until(bench: &mut Bench) -> Option<u64> {
        let outputs = bench.outputs();
        let joining = outputs.iter().find_map(|output| match output {
            Output::Do(_, Effect::Subscribe(joining)) => Some(joining),
            _ => None,
        });
        match joining.map(|joining| joining.permission) {
            Some(Permission::Required { voided_until }) => voided_until,
            _ => panic!("{outputs:?}"),
        }
    }

    let mut bench = Bench::anonymous();
    let control = |bench: &mut Bench, control| {
        bench.session.handle(Input::Control(control), bench.now);
    };
    bench.subscribe("private-a");
    bench.now.unix_ms = 7_000;
    control(&mut bench, Control::Unsubscribe(channel("private-a")));
    // It does not have to be subscribed at that moment.
    control(&mut bench, Control::Unsubscribe(channel("private-b")));
    bench.now.unix_ms = 8_000;
    for (name, expect) in [
        ("private-a", Some(7_000)),
        ("private-b", Some(7_000)),
        ("private-c", None),
    ] {
        bench.command(1, subscribe(name));
        assert_eq!(voided_until(&mut bench), expect, "{name}");
    }
    control(&mut bench, Control::Unsubscribe(channel("private-d")));
    control(&mut bench, Control::Subscribe(channel("private-d")));
    let op = bench.effect();
    bench.done(op, live());
    let leave = Command::Unsubscribe {
        channel: channel("private-d"),
    };
    bench.command(1, leave);
    bench.outputs();
    bench.command(1, subscribe("private-d"));
    assert_eq!(voided_until(&mut bench), None);
}
