//! Members that change their own info: who may, what it costs, and what an update is taken back to.

use super::*;

/// `presence-own-*` lets members change their info, other presence channels do not.
fn bench_of_ann() -> Bench {
    let own = ChannelRule::default().with_presence_update();
    let silent = own.clone().with_presence(false);
    let rules = ChannelRules::new()
        .with("presence-own-", own)
        .with("presence-silent-", silent);
    let access = Access::Identified {
        identity: identity("ann"),
        ends_at: None,
    };
    let mut bench = Bench::with_rules(rules, access);
    bench.outputs();
    bench
}

fn info(text: &str) -> RawJson {
    RawJson::parse(text).unwrap()
}

fn update(name: &str, text: &str) -> Command {
    Command::PresenceUpdate {
        channel: channel(name),
        info: info(text),
    }
}

fn subscribe_as(name: &str, text: &str) -> Subscribe {
    Subscribe {
        info: Some(info(text)),
        ..Subscribe::new(channel(name))
    }
}

fn joined() -> Outcome {
    Outcome::Subscribed {
        expires_at: None,
        joined_info: Some(info(r#"{"name":"Ann"}"#)),
    }
}

fn join(bench: &mut Bench, name: &str) {
    bench.command(1, subscribe(name));
    let op = bench.effect();
    bench.done(op, joined());
}

/// The info of the one update that was started, which is done then.
#[track_caller]
fn shown(bench: &mut Bench) -> String {
    let outputs = bench.outputs();
    let [Output::Do(op, Effect::UpdatePresence { info, .. })] = &outputs[..] else {
        panic!("expected an update, got {outputs:?}")
    };
    let text = info.as_str().to_owned();
    bench.done(*op, Outcome::Replied(Box::new(Reply::new(1))));
    bench.outputs();
    text
}

/// The info of the one subscription that was started.
#[track_caller]
fn joining_as(bench: &mut Bench) -> (OpId, Option<String>) {
    let outputs = bench.outputs();
    let joining = outputs.iter().find_map(|output| match output {
        Output::Do(op, Effect::Subscribe(joining)) => Some((*op, joining)),
        _ => None,
    });
    let (op, joining) = joining.unwrap_or_else(|| panic!("no subscription in {outputs:?}"));
    let text = joining.info.as_ref().map(|info| info.as_str().to_owned());
    (op, text)
}

#[track_caller]
fn refused(bench: &mut Bench, code: Code) {
    let messages = bench.messages();
    let found = match &messages[..] {
        [ServerMessage::Error(error)] => error.code,
        [ServerMessage::SubscriptionError(error)] => error.code,
        _ => panic!("expected one refusal, got {messages:?}"),
    };
    assert_eq!(found, code.number(), "{messages:?}");
}

#[tokio::test(start_paused = true)]
async fn members_change_their_info_where_the_rule_allows_it() {
    let mut bench = bench_of_ann();
    for name in ["orders", "presence-silent-a"] {
        bench.command(2, update(name, "1"));
        refused(&mut bench, Code::NO_PRESENCE);
        bench.command(2, Command::Subscribe(subscribe_as(name, "1")));
        refused(&mut bench, Code::NO_PRESENCE);
    }
    bench.command(3, update("presence-own-a", "1"));
    refused(&mut bench, Code::NOT_SUBSCRIBED);
    for text in ["1", "null"] {
        let subscribe = subscribe_as("presence-other", text);
        bench.command(4, Command::Subscribe(subscribe));
        refused(&mut bench, Code::PRESENCE_UPDATE_NOT_ALLOWED);
    }
    join(&mut bench, "presence-other");
    for text in ["1", "null"] {
        bench.command(5, update("presence-other", text));
        refused(&mut bench, Code::PRESENCE_UPDATE_NOT_ALLOWED);
    }
    join(&mut bench, "presence-own-a");
    bench.command(6, update("presence-own-a", "1"));
    assert_eq!(shown(&mut bench), "1");
}

#[tokio::test(start_paused = true)]
async fn an_update_is_taken_back_to_what_the_connection_joined_with() {
    let mut bench = bench_of_ann();
    let room = "presence-own-a";
    bench.command(1, Command::Subscribe(subscribe_as(room, "1")));
    let (op, joining) = joining_as(&mut bench);
    assert_eq!(joining.as_deref(), Some("1"));
    bench.done(op, joined());
    bench.command(2, update(room, "null"));
    assert_eq!(shown(&mut bench), r#"{"name":"Ann"}"#);
    // A subscription that moves shows nothing else by itself, and knows what it joined with ever after.
    for (text, shown) in [
        (None, None),
        (Some("2"), Some("2")),
        (Some("null"), Some(r#"{"name":"Ann"}"#)),
    ] {
        let moving = Subscribe {
            since: Some(Position::start(Epoch(1))),
            info: text.map(info),
            ..Subscribe::new(channel(room))
        };
        bench.command(3, Command::Subscribe(moving));
        let (op, joining) = joining_as(&mut bench);
        assert_eq!(joining.as_deref(), shown);
        bench.done(op, live());
    }
    // `null` shows nothing else where nothing was changed yet.
    let other = subscribe_as("presence-own-b", "null");
    bench.command(4, Command::SubscribeAll(vec![other]));
    let (_, joining) = joining_as(&mut bench);
    assert_eq!(joining, None);
}

#[tokio::test(start_paused = true)]
async fn info_is_bounded_and_paid_for_like_a_publish() {
    let mut bench = bench_of_ann();
    let room = "presence-own-a";
    let of_bytes = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let too_long = of_bytes(1_025);
    bench.command(1, Command::Subscribe(subscribe_as(room, &too_long)));
    refused(&mut bench, Code::PAYLOAD_TOO_LARGE);
    join(&mut bench, room);
    bench.command(2, update(room, &too_long));
    refused(&mut bench, Code::PAYLOAD_TOO_LARGE);
    let limits = Limits::default();
    let updates = limits.client_bytes_burst / 1_024;
    for number in 0..updates {
        bench.command(number.into(), update(room, &of_bytes(1_024)));
        shown(&mut bench);
        if number % 100 == 99 {
            // The commands have a budget of their own, which is not what is tried here.
            bench.session.budget = Budget::full(limits.commands_rate(), bench.now.instant);
        }
    }
    bench.command(900, update(room, &of_bytes(1_024)));
    let messages = bench.messages();
    let [ServerMessage::Error(error)] = &messages[..] else {
        panic!("{messages:?}")
    };
    let expected = (Code::PUBLISH_RATE.number(), true, Some(16));
    assert_eq!((error.code, error.retry, error.retry_after), expected);
    bench.command(
        901,
        Command::Subscribe(subscribe_as("presence-own-b", &of_bytes(1_024))),
    );
    let messages = bench.messages();
    let [ServerMessage::SubscriptionError(error)] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert_eq!((error.code, error.retry, error.retry_after), expected);
    // What is long is paid for also by the few bytes that take an update back to it.
    let long = RawJson::trusted(of_bytes(1_000));
    bench.advance(Duration::from_millis(10));
    bench.command(902, subscribe("presence-own-c"));
    let op = bench.effect();
    let joined = Outcome::Subscribed {
        expires_at: None,
        joined_info: Some(long),
    };
    bench.done(op, joined);
    bench.command(903, update("presence-own-c", "null"));
    refused(&mut bench, Code::PUBLISH_RATE);
}

#[tokio::test(start_paused = true)]
async fn updates_of_one_channel_go_one_after_the_other() {
    let mut bench = bench_of_ann();
    let room = "presence-own-a";
    join(&mut bench, room);
    for (id, text) in [(2, "1"), (3, "2")] {
        bench.command(id, update(room, text));
    }
    assert_eq!(shown_without_end(&mut bench), "1");
    bench.command(
        4,
        Command::Unsubscribe {
            channel: channel(room),
        },
    );
    assert!(
        bench.outputs().is_empty(),
        "it waits for the updates before it"
    );
    assert_eq!(bench.session.line_bytes, 64 + 1 + 64);
}

/// The info of the one update that was started, which is still under way then.
#[track_caller]
fn shown_without_end(bench: &mut Bench) -> String {
    let outputs = bench.outputs();
    match &outputs[..] {
        [Output::Do(_, Effect::UpdatePresence { info, .. })] => info.as_str().to_owned(),
        _ => panic!("expected an update, got {outputs:?}"),
    }
}
