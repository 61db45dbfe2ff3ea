//! Much is wanted at once: what goes out stays within the server's limits, and what does not fit is told once.

use fanfare_client::{Input, Options};
use fanfare_protocol::json::decode_request;
use fanfare_protocol::{
    Code, Command, Connected, ConnectionLimits, ErrorMessage, ServerMessage, SubscriptionSucceeded,
};

use crate::pair::Pair;
use crate::say::{gap, hello, limits, members, refused, succeeded, unsubscribed};

/// Connected to a server with these limits, with an empty trace.
fn connected(options: Options, limits: ConnectionLimits) -> Pair {
    let mut pair = Pair::new(options);
    pair.input(Input::Connect);
    greet(&mut pair, limits);
    pair.take();
    pair
}

fn greet(pair: &mut Pair, limits: ConnectionLimits) {
    pair.input(Input::Opened);
    pair.say(ServerMessage::Connected(Connected {
        limits: Some(limits),
        ..hello()
    }));
}

/// Loses the connection and is greeted again.
fn come_back(pair: &mut Pair, limits: ConnectionLimits) {
    pair.close(1006);
    pair.advance_to_timer();
    pair.take();
    greet(pair, limits);
}

fn subscribe(pair: &mut Pair, count: usize) {
    for number in 0..count {
        pair.subscribe(&format!("c-{number:04}"));
    }
}

/// The commands among these lines.
fn sent(trace: &[String]) -> Vec<&str> {
    trace
        .iter()
        .filter_map(|line| line.strip_prefix("> "))
        .collect()
}

/// The channels of a line that subscribes.
fn channels(line: &str) -> Vec<&str> {
    let list = line.strip_prefix("subscribe ").unwrap_or_default();
    list.trim_matches(['[', ']']).split(' ').collect()
}

/// Confirms every channel that was asked for in these lines.
fn confirm(pair: &mut Pair, trace: &[String]) {
    for line in sent(trace) {
        let id = pair.id(line);
        for channel in channels(line) {
            pair.say(ServerMessage::SubscriptionSucceeded(succeeded(id, channel)));
        }
    }
}

#[test]
fn all_channels_come_back_in_lists() {
    let limits = limits(6_000, 200);
    let mut pair = Pair::new(Options::default());
    subscribe(&mut pair, 5_500);
    pair.input(Input::Connect);
    pair.take();
    greet(&mut pair, limits);
    let trace = pair.take();
    assert_eq!(sent(&trace).len(), 55);
    confirm(&mut pair, &trace);
    let subscribed = pair.take();
    assert_eq!(subscribed.len(), 5_500);
    assert!(subscribed.iter().all(|line| line.ends_with(" subscribed")));

    come_back(&mut pair, limits);
    let trace = pair.take();
    let asked: usize = sent(&trace).iter().map(|line| channels(line).len()).sum();
    assert_eq!((sent(&trace).len(), asked), (55, 5_500));
}

#[test]
fn a_few_channels_need_no_list_and_a_list_is_one_command() {
    let mut pair = connected(Options::default(), limits(100, 200));
    pair.subscribe("orders");
    pair.expect(&["> subscribe orders", "orders subscribing"]);
    pair.subscribe("alerts");
    pair.expect(&["> subscribe alerts", "alerts subscribing"]);
    come_back(&mut pair, limits(100, 200));
    pair.expect(&[
        "connection connected resumed",
        "> subscribe [alerts orders]",
        "alerts subscribing",
        "orders subscribing",
    ]);
    let id = pair.id("subscribe [");
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
        id, "orders",
    )));
    pair.say(refused(id, "alerts", Code::FORBIDDEN));
    pair.expect(&["orders subscribed", "alerts failed: 4302"]);
}

#[test]
fn channels_above_the_limit_are_one_error_each_until_there_is_room() {
    let limits = limits(100, 200);
    let mut pair = Pair::new(Options::default());
    subscribe(&mut pair, 600);
    pair.input(Input::Connect);
    pair.take();
    greet(&mut pair, limits);
    let trace = pair.take();
    let refused = trace
        .iter()
        .filter(|line| line.ends_with("failed: too-many-channels"));
    assert_eq!(refused.count(), 500);
    assert_eq!(sent(&trace).len(), 1, "{:?}", sent(&trace));
    confirm(&mut pair, &trace);
    assert_eq!(pair.take().len(), 100);

    // Coming back is no news for those that have no room.
    come_back(&mut pair, limits);
    let trace = pair.take();
    assert!(
        !trace.iter().any(|line| line.contains("failed")),
        "{trace:?}"
    );
    confirm(&mut pair, &trace);
    pair.take();

    pair.unsubscribe("c-0000");
    pair.expect(&[
        "> unsubscribe c-0000",
        "c-0000 closed",
        "> subscribe c-0100",
        "c-0100 subscribing",
    ]);
}

#[test]
fn a_server_that_does_not_say_how_many_teaches_it_once() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("a");
    let id = pair.id("subscribe a");
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(id, "a")));
    pair.subscribe("b");
    let id = pair.id("subscribe b");
    pair.take();
    pair.say(refused(id, "b", Code::TOO_MANY_CHANNELS));
    pair.expect(&["b failed: 4308"]);
    pair.subscribe("c");
    pair.expect(&["c failed: too-many-channels"]);
    pair.close(1006);
    pair.advance_to_timer();
    pair.take();
    pair.greet();
    pair.expect(&[
        "connection connected resumed",
        "> subscribe a",
        "a subscribing",
    ]);
}

#[test]
fn a_list_that_came_too_soon_is_repeated_without_a_word() {
    let mut pair = Pair::new(Options::default());
    subscribe(&mut pair, 3);
    pair.input(Input::Connect);
    greet(&mut pair, limits(100, 200));
    let id = pair.id("subscribe [");
    pair.take();
    pair.say(ServerMessage::Error(ErrorMessage {
        retry_after: Some(700),
        ..ErrorMessage::new(Some(id), Code::RATE_LIMITED)
    }));
    pair.expect(&[]);
    assert_eq!(pair.advance_to_timer(), 700);
    pair.expect(&["> subscribe [c-0000 c-0001 c-0002]"]);
}

/// What a server counts: commands in a bucket.
struct Counter {
    tokens: f64,
    at: u64,
}

impl Counter {
    /// Counts the commands among these lines; the server refuses none.
    fn count(&mut self, pair: &mut Pair, burst: u64, per_second: u64) -> Vec<String> {
        let trace = pair.take();
        let gained = (pair.now.0 - self.at) as f64 * per_second as f64 / 1_000.0;
        self.tokens = (self.tokens + gained).min(burst as f64) - sent(&trace).len() as f64;
        self.at = pair.now.0;
        assert!(self.tokens >= 0.0, "{} too many", -self.tokens);
        trace
    }
}

#[test]
fn everything_that_is_sent_stays_within_the_rate() {
    let (burst, per_second) = (20, 50);
    let mut pair = connected(Options::default(), limits(1_000, burst));
    let mut counter = Counter {
        tokens: burst as f64,
        at: pair.now.0,
    };
    let mut asked = 0;
    let mut left = 0;
    subscribe(&mut pair, 300);
    for request in 0..60 {
        pair.publish(request, &format!("elsewhere-{request}"));
    }
    for round in 0..200 {
        let trace = counter.count(&mut pair, burst, per_second);
        for line in sent(&trace) {
            asked += usize::from(line.starts_with("subscribe")) * channels(line).len();
            left += usize::from(line.starts_with("unsubscribe"));
        }
        let subscribes: Vec<String> = (trace.iter())
            .filter(|line| line.starts_with("> subscribe"))
            .cloned()
            .collect();
        confirm(&mut pair, &subscribes);
        if round == 20 {
            for number in 0..50 {
                pair.unsubscribe(&format!("c-{number:04}"));
            }
        }
        pair.advance(50);
    }
    assert_eq!((asked, left), (300, 50));
}

#[test]
fn a_server_that_takes_one_command_at_a_time_gets_them_one_by_one() {
    for (burst, per_second) in [(1, 1), (1, 50), (2, 50)] {
        let limits = ConnectionLimits {
            commands_per_second: per_second,
            bytes_per_second: Some(per_second),
            bytes_burst: Some(burst),
            ..limits(10, burst)
        };
        let mut pair = connected(Options::default(), limits);
        let mut counter = Counter {
            tokens: burst as f64,
            at: pair.now.0,
        };
        pair.subscribe("orders");
        pair.publish(1, "elsewhere");
        pair.unsubscribe("orders");
        let mut commands = Vec::new();
        for _ in 0..300 {
            let trace = counter.count(&mut pair, burst, per_second);
            commands.extend(sent(&trace).iter().map(ToString::to_string));
            pair.advance(20);
        }
        let has = |command: &str| commands.iter().any(|line| line.starts_with(command));
        let expected = ["subscribe", "publish", "unsubscribe"];
        assert!(expected.into_iter().all(has), "{burst}: {commands:?}");
    }
}

#[test]
fn snapshots_after_gaps_keep_within_the_rate() {
    let (burst, per_second) = (20, 50);
    let mut pair = connected(Options::default(), limits(1_000, burst));
    let room = |number: usize| format!("presence-{number:03}");
    for number in 0..100 {
        pair.subscribe(&room(number));
    }
    let mut counter = Counter {
        tokens: burst as f64,
        at: pair.now.0,
    };
    for _ in 0..100 {
        let trace = counter.count(&mut pair, burst, per_second);
        for line in sent(&trace) {
            let id = pair.id(line);
            for channel in channels(line) {
                let confirmation = SubscriptionSucceeded {
                    presence: Some(members(&["ann"])),
                    ..succeeded(id, channel)
                };
                pair.say(ServerMessage::SubscriptionSucceeded(confirmation));
            }
        }
        pair.advance(50);
    }
    for number in 0..100 {
        pair.say(gap(&room(number), None));
    }
    let mut asked = 0;
    for _ in 0..100 {
        let trace = counter.count(&mut pair, burst, per_second);
        asked += sent(&trace).len();
        pair.advance(50);
    }
    assert_eq!(asked, 100);
}

#[test]
fn a_snapshot_that_came_too_soon_holds_everything_back() {
    let mut pair = connected(Options::default(), limits(100, 200));
    pair.subscribe("presence-room");
    let confirmation = SubscriptionSucceeded {
        presence: Some(members(&["ann"])),
        ..succeeded(pair.id("subscribe"), "presence-room")
    };
    pair.say(ServerMessage::SubscriptionSucceeded(confirmation));
    pair.say(gap("presence-room", None));
    pair.take();
    pair.say(ServerMessage::Error(ErrorMessage {
        retry_after: Some(2_000),
        ..ErrorMessage::new(Some(pair.id("presence")), Code::RATE_LIMITED)
    }));
    pair.publish(1, "elsewhere");
    pair.expect(&[]);
    assert_eq!(pair.advance_to_timer(), 2_000);
    let trace = pair.take();
    assert_eq!(sent(&trace).len(), 2, "{trace:?}");
}

#[test]
fn an_unsubscribe_that_came_too_soon_is_repeated() {
    let mut pair = connected(Options::default(), limits(100, 200));
    pair.subscribe("orders");
    let id = pair.id("subscribe");
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
        id, "orders",
    )));
    pair.unsubscribe("orders");
    pair.take();
    pair.say(ServerMessage::Error(ErrorMessage {
        retry_after: Some(700),
        ..ErrorMessage::new(Some(pair.id("unsubscribe")), Code::RATE_LIMITED)
    }));
    pair.expect(&[]);
    assert_eq!(pair.advance_to_timer(), 700);
    pair.expect(&["> unsubscribe orders"]);
}

#[test]
fn a_channel_may_take_the_place_of_one_that_is_left() {
    let mut pair = connected(Options::default(), limits(1, 200));
    pair.subscribe("a");
    let trace = pair.take();
    confirm(&mut pair, &trace);
    pair.take();
    pair.unsubscribe("a");
    pair.subscribe("b");
    pair.expect(&[
        "> unsubscribe a",
        "a closed",
        "> subscribe b",
        "b subscribing",
    ]);
    pair.subscribe("c");
    pair.expect(&["c failed: too-many-channels"]);
    // The server may take a moment to leave a channel: that is no error either.
    let id = pair.id("subscribe b");
    pair.say(refused(id, "b", Code::TOO_MANY_CHANNELS));
    let id = pair.id("unsubscribe");
    pair.say(unsubscribed(id, "a", 1000));
    pair.expect(&[]);
    pair.advance_to_timer();
    pair.expect(&["> subscribe b"]);
}

#[test]
fn a_channel_without_room_gets_that_of_one_that_is_refused() {
    let mut pair = connected(Options::default(), limits(1, 200));
    pair.subscribe("a");
    pair.subscribe("b");
    let id = pair.id("subscribe a");
    pair.take();
    pair.say(refused(id, "a", Code::FORBIDDEN));
    pair.expect(&["a failed: 4302", "> subscribe b", "b subscribing"]);
}

#[test]
fn a_channel_without_room_gets_that_of_one_that_was_left_while_offline() {
    let limits = limits(1, 200);
    let mut pair = connected(Options::default(), limits);
    pair.subscribe("a");
    let trace = pair.take();
    confirm(&mut pair, &trace);
    pair.subscribe("b");
    pair.close(1006);
    pair.unsubscribe("a");
    pair.advance_to_timer();
    pair.take();
    greet(&mut pair, limits);
    pair.expect(&[
        "connection connected resumed",
        "> subscribe b",
        "b subscribing",
    ]);
}

#[test]
fn a_server_with_more_room_takes_the_channels_that_had_none() {
    let mut pair = connected(Options::default(), limits(0, 200));
    pair.subscribe("a");
    pair.expect(&["a failed: too-many-channels"]);
    come_back(&mut pair, limits(1, 200));
    pair.expect(&[
        "connection connected resumed",
        "> subscribe a",
        "a subscribing",
    ]);
}

#[test]
fn a_server_that_says_nothing_gets_no_lists_and_no_flood() {
    let mut pair = Pair::new(Options::default());
    subscribe(&mut pair, 400);
    pair.input(Input::Connect);
    pair.take();
    pair.greet();
    let mut counter = Counter {
        tokens: 200.0,
        at: pair.now.0,
    };
    let mut asked = 0;
    while asked < 400 {
        let trace = counter.count(&mut pair, 200, 50);
        assert!(!trace.iter().any(|line| line.contains('[')));
        asked += sent(&trace).len();
        confirm(&mut pair, &trace);
        pair.advance(100);
    }
}

#[test]
fn a_list_that_is_too_long_for_a_frame_goes_out_in_parts() {
    let mut pair = Pair::new(Options::default());
    for number in 0..100 {
        pair.subscribe(&format!("{number:0>200}"));
    }
    pair.input(Input::Connect);
    let limits = ConnectionLimits {
        message_bytes_max: 4_096,
        ..limits(100, 200)
    };
    pair.input(Input::Opened);
    let hello = ServerMessage::Connected(Connected {
        limits: Some(limits),
        ..hello()
    });
    pair.client.handle(Input::Message(hello), pair.now);
    let mut asked = 0;
    while let Some(output) = pair.client.poll_output() {
        if let fanfare_client::Output::Send(text) = output {
            assert!(text.len() <= 4_096, "{}", text.len());
            match decode_request(&text).unwrap().command {
                Command::SubscribeAll(list) => asked += list.len(),
                Command::Subscribe(_) => asked += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(asked, 100);
}

#[test]
fn publishes_keep_within_the_bytes_that_the_server_takes() {
    let limits = ConnectionLimits {
        bytes_per_second: Some(100),
        bytes_burst: Some(250),
        ..limits(100, 200)
    };
    let mut pair = connected(Options::default(), limits);
    for request in 0..6 {
        pair.publish(request, "open");
    }
    let trace = pair.take();
    let first = sent(&trace).len();
    assert!((1..6).contains(&first), "{trace:?}");
    pair.advance(9_000);
    let trace = pair.take();
    assert_eq!(first + sent(&trace).len(), 6, "{trace:?}");
}

#[test]
fn a_list_waits_while_its_answers_keep_coming() {
    let mut pair = Pair::new(Options::default());
    subscribe(&mut pair, 40);
    pair.input(Input::Connect);
    pair.take();
    greet(&mut pair, limits(100, 200));
    let id = pair.id("subscribe [");
    pair.take();
    // Each answer takes a second, all together four times as long as one may take.
    for number in 0..40 {
        pair.advance(1_000);
        let channel = format!("c-{number:04}");
        pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
            id, &channel,
        )));
        pair.expect(&[&format!("{channel} subscribed")]);
    }
}

#[test]
fn a_channel_without_an_answer_is_given_up_in_the_end() {
    let mut pair = Pair::new(Options::default());
    subscribe(&mut pair, 100);
    pair.input(Input::Connect);
    pair.take();
    greet(&mut pair, limits(100, 200));
    let id = pair.id("subscribe [");
    pair.take();
    let mut waited = 0;
    for number in 1..100 {
        pair.advance(1_000);
        waited += 1;
        if pair.take().contains(&"error: ack-timeout".to_owned()) {
            break;
        }
        let channel = format!("c-{number:04}");
        pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
            id, &channel,
        )));
    }
    assert_eq!(waited, 60, "six times as long as one answer may take");
}

#[test]
fn a_list_that_falls_silent_is_given_up_after_one_timeout() {
    let mut pair = Pair::new(Options::default());
    subscribe(&mut pair, 3);
    pair.input(Input::Connect);
    pair.take();
    greet(&mut pair, limits(100, 200));
    let id = pair.id("subscribe [");
    pair.advance(8_000);
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
        id, "c-0000",
    )));
    pair.take();
    assert_eq!(pair.advance_to_timer(), 10_000);
    let trace = pair.take();
    let errors = trace.iter().filter(|line| *line == "error: ack-timeout");
    assert_eq!(errors.count(), 2);
}
