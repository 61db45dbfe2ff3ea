//! Requests: queued, sent, answered, repeated, given up.

use fanfare_client::{Input, Options, QueueLimits, RequestId};
use fanfare_protocol::{Code, ErrorMessage, EventName, RawJson, ServerMessage};

use crate::pair::Pair;
use crate::say::{at, connected_as, error, hello, limits, name, ok, recovered, succeeded};

fn small_queue(messages_max: usize, in_flight_max: usize) -> Options {
    let limits = QueueLimits {
        messages_max,
        in_flight_max,
        ..QueueLimits::default()
    };
    Options::default().with_queue(limits)
}

#[test]
fn a_publish_has_one_answer() {
    let mut pair = Pair::connected(Options::default());
    pair.publish(1, "orders");
    pair.expect(&["> publish orders typing"]);
    let id = pair.id("publish");
    pair.say(ok(id));
    pair.expect(&["done 1"]);
    pair.say(ok(id));
    pair.say(error(id, Code::FORBIDDEN));
    pair.expect(&[]);
}

#[test]
fn every_kind_of_request_is_answered() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::Emit {
        request: RequestId(1),
        event: EventName::new("order.paid").unwrap(),
        data: RawJson::null(),
        key: None,
    });
    pair.input(Input::Presence {
        request: RequestId(2),
        channel: name("presence-a"),
    });
    pair.input(Input::History {
        request: RequestId(3),
        channel: name("orders"),
        since: Some(at(1, 5)),
        limit: Some(10),
    });
    pair.expect(&[
        "> emit order.paid",
        "> presence presence-a",
        "> history orders",
    ]);
    for command in ["history", "presence", "emit"] {
        let id = pair.id(command);
        pair.say(ok(id));
    }
    pair.expect(&["done 3", "done 2", "done 1"]);
}

#[test]
fn a_refusal_reaches_its_request() {
    let mut pair = Pair::connected(Options::default());
    pair.publish(1, "orders");
    let id = pair.id("publish");
    pair.take();
    pair.say(error(id, Code::PUBLISH_NOT_ALLOWED));
    pair.expect(&["done 1: 4311"]);
}

#[test]
fn an_error_without_an_id_is_told() {
    let mut pair = Pair::connected(Options::default());
    pair.say(ServerMessage::Error(ErrorMessage::new(
        None,
        Code::UNKNOWN_TYPE,
    )));
    pair.expect(&["error: 4001"]);
}

#[test]
fn requests_wait_for_the_connection_in_order() {
    let mut pair = Pair::new(Options::default());
    pair.publish(1, "a");
    pair.publish(2, "b");
    pair.input(Input::Connect);
    pair.take();
    pair.greet();
    pair.expect(&[
        "connection connected",
        "> publish a typing",
        "> publish b typing",
    ]);
}

#[test]
fn a_publish_waits_for_the_subscription_of_its_channel() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    pair.publish(1, "orders");
    pair.publish(2, "other");
    pair.expect(&[
        "> subscribe orders",
        "orders subscribing",
        "> publish other typing",
    ]);
    let id = pair.id("subscribe");
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
        id, "orders",
    )));
    pair.expect(&["orders subscribed", "> publish orders typing"]);
}

#[test]
fn a_publish_to_a_refused_or_unwanted_channel_is_for_the_server_to_judge() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    pair.publish(1, "orders");
    let id = pair.id("subscribe");
    pair.take();
    pair.say(crate::say::refused(id, "orders", Code::FORBIDDEN));
    pair.expect(&["orders failed: 4302", "> publish orders typing"]);
    pair.subscribe("alerts");
    pair.publish(2, "alerts");
    pair.take();
    pair.unsubscribe("alerts");
    pair.expect(&[
        "> unsubscribe alerts",
        "alerts closed",
        "> publish alerts typing",
    ]);
}

#[test]
fn an_unanswered_publish_is_repeated_with_its_key_on_the_next_connection() {
    let mut pair = Pair::connected_as("ann", Options::default());
    let before = frames(&mut pair, |pair, input| pair.client.handle(input, pair.now));
    pair.close(1006);
    pair.advance_to_timer();
    pair.take();
    pair.client.handle(Input::Opened, pair.now);
    pair.client
        .handle(Input::Message(connected_as("ann")), pair.now);
    let mut after = Vec::new();
    while let Some(output) = pair.client.poll_output() {
        if let fanfare_client::Output::Send(text) = output {
            after.push(text);
        }
    }
    assert_eq!(before, after);
    assert!(before[0].contains("\"key\":"), "{before:?}");
}

/// The frames that a publish makes.
fn frames(pair: &mut Pair, handle: impl Fn(&mut Pair, Input<crate::say::Data>)) -> Vec<String> {
    let publish = Input::Publish {
        request: RequestId(1),
        channel: name("orders"),
        event: EventName::new("typing").unwrap(),
        data: RawJson::null(),
        key: None,
    };
    handle(pair, publish);
    let mut frames = Vec::new();
    while let Some(output) = pair.client.poll_output() {
        if let fanfare_client::Output::Send(text) = output {
            frames.push(text);
        }
    }
    frames
}

#[test]
fn a_repeated_publish_goes_out_after_its_channel_has_recovered() {
    let pair = Pair::connected_as("ann", Options::default());
    let mut pair = pair.with_subscription("orders", at(1, 5));
    pair.publish(1, "orders");
    pair.close(1006);
    pair.advance_to_timer();
    pair.take();
    pair.greet_as("ann");
    pair.expect(&[
        "connection connected resumed",
        "> subscribe orders since 1/5",
        "orders subscribing",
    ]);
    let id = pair.id("subscribe");
    pair.say(recovered(id, "orders", at(1, 5), vec![]));
    pair.expect(&["orders subscribed recovered", "> publish orders typing"]);
}

#[test]
fn an_unknown_outcome_stays_unknown_until_an_attempt_says_otherwise() {
    let refusals = [
        Code::UNAVAILABLE,
        Code::RATE_LIMITED,
        Code::BUSY,
        Code::UNKNOWN_OUTCOME,
    ];
    for refusal in refusals {
        let mut pair = Pair::connected(Options::default());
        pair.publish(1, "orders");
        let id = pair.id("publish");
        pair.take();
        pair.say(error(id, Code::UNKNOWN_OUTCOME));
        pair.expect(&[]);
        for _ in 0..3 {
            pair.advance_to_timer();
            pair.expect(&["> publish orders typing"]);
            assert_eq!(pair.id("publish"), id);
            pair.say(error(id, refusal));
            pair.expect(&[]);
        }
        pair.advance_to_timer();
        pair.take();
        pair.say(ok(id));
        pair.expect(&["done 1"]);
    }
}

#[test]
fn a_repetition_that_cannot_succeed_leaves_the_outcome_unknown() {
    let refusals = [
        Code::NOT_SUBSCRIBED,
        Code::FORBIDDEN,
        Code::PUBLISH_NOT_ALLOWED,
    ];
    for refusal in refusals {
        let mut pair = Pair::connected(Options::default());
        pair.publish(1, "orders");
        let id = pair.id("publish");
        pair.say(error(id, Code::UNKNOWN_OUTCOME));
        pair.advance_to_timer();
        pair.take();
        pair.say(error(id, refusal));
        pair.expect(&["done 1: unknown-outcome"]);
    }
}

#[test]
fn a_repetition_on_the_next_connection_that_is_refused_leaves_the_outcome_unknown() {
    for (refusal, is_repeated) in [(Code::UNAVAILABLE, true), (Code::NOT_SUBSCRIBED, false)] {
        let mut pair = Pair::connected_as("ann", Options::default());
        pair.publish(1, "orders");
        pair.close(1006);
        pair.advance_to_timer();
        pair.greet_as("ann");
        let id = pair.id("publish");
        pair.take();
        pair.say(error(id, refusal));
        if is_repeated {
            pair.expect(&[]);
            pair.advance(30_000);
            let told = pair.take();
            let ends = told.iter().filter(|line| line.starts_with("done"));
            assert_eq!(ends.collect::<Vec<_>>(), ["done 1: unknown-outcome"]);
        } else {
            pair.expect(&["done 1: unknown-outcome"]);
        }
    }
}

#[test]
fn a_first_attempt_that_is_refused_is_refused() {
    let mut pair = Pair::connected(Options::default());
    pair.publish(1, "orders");
    let id = pair.id("publish");
    pair.take();
    pair.say(error(id, Code::UNAVAILABLE));
    pair.expect(&["done 1: 4315"]);
}

#[test]
fn what_came_too_soon_is_repeated_without_an_error() {
    for refusal in [Code::RATE_LIMITED, Code::PUBLISH_RATE] {
        let mut pair = Pair::connected(Options::default());
        pair.publish(1, "orders");
        let id = pair.id("publish");
        pair.take();
        pair.say(error(id, refusal));
        pair.expect(&[]);
        pair.advance_to_timer();
        pair.expect(&["> publish orders typing"]);
        assert_eq!(pair.id("publish"), id);
        pair.say(error(id, Code::PUBLISH_NOT_ALLOWED));
        pair.expect(&["done 1: 4311"]);
    }
}

#[test]
fn a_publish_without_a_user_is_not_repeated_on_another_connection() {
    let mut pair = Pair::connected(Options::default());
    pair.publish(1, "orders");
    pair.input(Input::History {
        request: RequestId(2),
        channel: name("orders"),
        since: None,
        limit: None,
    });
    pair.take();
    pair.close(1006);
    pair.expect(&[
        "connection reconnecting later: closed 1006",
        "done 1: unknown-outcome",
    ]);
    pair.publish(3, "orders");
    pair.advance_to_timer();
    pair.take();
    pair.greet();
    pair.expect(&[
        "connection connected resumed",
        "> history orders",
        "> publish orders typing",
    ]);
}

#[test]
fn a_publish_is_not_repeated_for_another_user() {
    let mut pair = Pair::connected_as("ann", Options::default());
    pair.publish(1, "orders");
    pair.close(1006);
    pair.advance_to_timer();
    pair.take();
    pair.greet_as("bob");
    pair.expect(&["done 1: unknown-outcome", "connection connected resumed"]);
}

#[test]
fn what_was_sent_for_one_user_is_not_repeated_after_a_login_as_another() {
    let mut pair = Pair::connected_as("ann", Options::default());
    pair.publish(1, "orders");
    let first = pair.id("publish");
    pair.publish(2, "orders");
    let second = pair.id("publish");
    pair.say(error(second, Code::UNKNOWN_OUTCOME));
    pair.take();
    pair.input(Input::SetToken(Some("bob's".to_owned())));
    let id = pair.id("authenticate");
    pair.say(crate::say::authenticated(id, "bob", None));
    let told = pair.take();
    assert!(
        told.contains(&"done 2: unknown-outcome".to_owned()),
        "{told:?}"
    );
    pair.say(error(first, Code::UNKNOWN_OUTCOME));
    pair.expect(&["done 1: unknown-outcome"]);
}

#[test]
fn a_request_without_an_answer_ends_after_ten_seconds() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::Presence {
        request: RequestId(1),
        channel: name("presence-a"),
    });
    pair.publish(2, "orders");
    pair.take();
    pair.advance(9_999);
    pair.expect(&[]);
    pair.advance(1);
    pair.expect(&["done 1: ack-timeout", "done 2: unknown-outcome"]);
    let id = pair.id("publish");
    pair.say(ok(id));
    pair.expect(&[]);
}

#[test]
fn a_request_that_finds_no_connection_ends_after_half_a_minute() {
    let mut pair = Pair::new(Options::default());
    pair.publish(1, "orders");
    pair.advance(29_999);
    pair.expect(&[]);
    pair.advance(1);
    pair.expect(&["done 1: expired"]);
}

#[test]
fn a_repeated_request_keeps_its_first_deadline() {
    let mut pair = Pair::connected_as("ann", Options::default());
    pair.publish(1, "orders");
    pair.input(Input::Offline);
    pair.close(1006);
    pair.advance(29_999);
    pair.take();
    pair.advance(1);
    pair.expect(&["done 1: unknown-outcome"]);
}

#[test]
fn a_full_queue_refuses_at_once() {
    let mut pair = Pair::new(small_queue(2, 128));
    for request in 1..=3 {
        pair.publish(request, "orders");
    }
    pair.expect(&["done 3: queue-full"]);

    let limits = QueueLimits {
        bytes_max: 200,
        ..QueueLimits::default()
    };
    let mut pair = Pair::new(Options::default().with_queue(limits));
    for request in 1..=3 {
        pair.publish(request, "orders");
    }
    assert_eq!(pair.take().last().unwrap(), "done 3: queue-full");
}

#[test]
fn too_many_requests_in_flight_wait_for_a_reply() {
    let mut pair = Pair::connected(small_queue(1, 2));
    for request in 1..=4 {
        pair.publish(request, "orders");
    }
    pair.expect(&[
        "> publish orders typing",
        "> publish orders typing",
        "done 4: queue-full",
    ]);
    let id = pair.id("publish");
    pair.say(ok(id));
    pair.expect(&["done 2", "> publish orders typing"]);
}

#[test]
fn a_payload_above_the_limit_of_the_server_is_not_sent() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::Publish {
        request: RequestId(1),
        channel: name("orders"),
        event: EventName::new("e").unwrap(),
        data: RawJson::trusted(format!("\"{}\"", "x".repeat(1024 * 1024 + 1024))),
        key: None,
    });
    pair.expect(&[
        "done 1: payload-too-large: a message has at most 1049600 bytes, this one has 1049693",
    ]);
}

#[test]
fn an_aborted_request_is_answered_once() {
    let mut pair = Pair::connected(Options::default());
    pair.publish(1, "orders");
    let id = pair.id("publish");
    pair.take();
    pair.input(Input::Abort {
        request: RequestId(1),
    });
    pair.expect(&["done 1: aborted"]);
    pair.say(ok(id));
    pair.input(Input::Abort {
        request: RequestId(1),
    });
    pair.expect(&[]);
}

#[test]
fn a_disconnect_answers_everything_and_takes_nothing_more() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    pair.publish(1, "orders");
    pair.publish(2, "other");
    pair.take();
    pair.input(Input::Disconnect);
    pair.expect(&[
        "close 1000",
        "connection disconnected",
        "orders suspended",
        "done 1: closed",
        "done 2: unknown-outcome",
    ]);
    pair.publish(3, "other");
    pair.expect(&["done 3: closed"]);
    assert_eq!(pair.client.next_timeout(), None);
}

#[test]
fn keys_differ_between_publishes_and_between_clients() {
    let mut keys = Vec::new();
    for seed in [1, 2] {
        let mut pair = Pair::connected(Options::default());
        pair.client = fanfare_client::Client::new(Options::default(), seed);
        pair.input(Input::Connect);
        pair.greet();
        for _ in 0..2 {
            let sent = frames(&mut pair, |pair, input| pair.client.handle(input, pair.now));
            let key = sent[0].split("\"key\":").nth(1).unwrap().to_owned();
            keys.push(key);
        }
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4, "{keys:?}");
}

/// The server would close the connection for it, each time that it comes.
#[test]
fn what_was_asked_before_the_limits_were_known_keeps_to_them() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    pair.publish(1, "chat");
    pair.input(Input::Publish {
        request: RequestId(2),
        channel: name("chat"),
        event: EventName::new("large").unwrap(),
        data: RawJson::trusted(format!("\"{}\"", "x".repeat(50 << 10))),
        key: None,
    });
    pair.take();
    pair.input(Input::Opened);
    let mut hello = hello();
    hello.limits = Some(limits(100, 200));
    pair.say(ServerMessage::Connected(hello));
    let trace = pair.take();
    let failed: Vec<&String> = trace
        .iter()
        .filter(|line| line.starts_with("done 2: payload-too-large"))
        .collect();
    assert_eq!(failed.len(), 1, "{trace:?}");
    let sent = trace.iter().filter(|line| line.starts_with("> publish"));
    assert_eq!(sent.count(), 1, "{trace:?}");
}
