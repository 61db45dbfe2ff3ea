//! Subscriptions: wanted, authorized, refused, left, and wanted again.

use fanfare_client::{ChannelAuthReply, ChannelState, Input, Options, SubscribeOptions};
use fanfare_protocol::{Code, ErrorMessage, RawJson, ServerMessage, SubscriptionError};

use crate::pair::Pair;
use crate::say::{
    at, error, event, live, name, recovered, refused, socket, succeeded, succeeded_at,
    unsubscribed, user,
};

fn publication(channel: &str) -> crate::say::Said {
    ServerMessage::Event(event(channel, "e"))
}

fn confirm(pair: &mut Pair, channel: &str) {
    let id = pair.id(&format!("subscribe {channel}"));
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(id, channel)));
}

fn authorize(pair: &mut Pair, channel: &str, reply: ChannelAuthReply) {
    pair.input(Input::ChannelAuth {
        channel: name(channel),
        socket_id: socket(1),
        reply,
    });
}

fn granted() -> ChannelAuthReply {
    ChannelAuthReply::Granted {
        auth: "signed".to_owned(),
        channel_data: Some("member".to_owned()),
    }
}

/// What is refused to one user may be allowed to another.
#[test]
fn a_refused_channel_is_asked_for_again_as_another_user() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("private-a");
    let id = pair.id("subscribe");
    pair.say(refused(id, "private-a", Code::NOT_AUTHENTICATED));
    pair.take();
    let mut code = Code::FORBIDDEN;
    for (user, is_asked) in [("ann", true), ("ann", false), ("bob", true)] {
        pair.close(1006);
        pair.advance_to_timer();
        pair.greet_as(user);
        let sent = pair.take();
        let asked = sent.iter().any(|line| line == "> subscribe private-a");
        assert_eq!(asked, is_asked, "{user}: {sent:?}");
        if is_asked {
            let id = pair.id("subscribe");
            pair.say(refused(id, "private-a", code));
            code = Code::OTHER_USER;
        }
    }
    // The application has a reason to connect again.
    pair.input(Input::Disconnect);
    pair.input(Input::Connect);
    pair.take();
    pair.greet_as("bob");
    assert!(pair.take().contains(&"> subscribe private-a".to_owned()));
}

#[test]
fn subscribes_at_once_when_connected() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    pair.expect(&["> subscribe orders", "orders subscribing"]);
    confirm(&mut pair, "orders");
    pair.expect(&["orders subscribed"]);
    pair.say(publication("orders"));
    pair.expect(&["orders e"]);
}

#[test]
fn a_channel_wanted_before_the_connection_goes_out_with_it() {
    let mut pair = Pair::new(Options::default());
    pair.subscribe("orders");
    pair.subscribe("alerts");
    pair.expect(&["orders suspended", "alerts suspended"]);
    pair.input(Input::Connect);
    pair.take();
    pair.greet();
    pair.expect(&[
        "connection connected",
        "> subscribe alerts",
        "alerts subscribing",
        "> subscribe orders",
        "orders subscribing",
    ]);
}

#[test]
fn a_channel_wanted_twice_is_asked_for_once() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    pair.subscribe("orders");
    pair.expect(&["> subscribe orders", "orders subscribing"]);
    confirm(&mut pair, "orders");
    pair.subscribe("orders");
    pair.expect(&["orders subscribed"]);
}

#[test]
fn options_go_into_the_command() {
    let mut pair = Pair::connected(Options::default());
    let options = SubscribeOptions::default()
        .rewind(10)
        .data(RawJson::trusted("{\"name\":\"Ann\"}"));
    pair.subscribe_with("orders", options);
    pair.expect(&[
        "> subscribe orders rewind 10 data {\"name\":\"Ann\"}",
        "orders subscribing",
    ]);
    let mut pair = Pair::connected(Options::default());
    pair.subscribe_with("orders", SubscribeOptions::default().since(at(1, 5)));
    pair.expect(&["> subscribe orders since 1/5", "orders subscribing"]);
}

#[test]
fn events_of_a_channel_that_is_not_subscribed_do_not_come_out() {
    let mut pair = Pair::connected(Options::default());
    pair.say(publication("orders"));
    pair.subscribe("orders");
    pair.take();
    pair.say(publication("orders"));
    pair.expect(&[]);
    confirm(&mut pair, "orders");
    pair.unsubscribe("orders");
    pair.take();
    pair.say(publication("orders"));
    pair.expect(&[]);
}

#[test]
fn nothing_comes_out_after_an_unsubscribe_even_if_it_was_waiting() {
    let mut pair = Pair::subscribed("orders", at(1, 0));
    // A batch: the host passes three messages and drains once, and the first handler unsubscribes.
    for offset in 1..=3 {
        let input = Input::Message(live("orders", 1, offset));
        pair.client.handle(input, pair.now);
    }
    assert!(pair.client.poll_output().is_some());
    pair.unsubscribe("orders");
    pair.expect(&["> unsubscribe orders", "orders closed"]);
}

#[test]
fn unsubscribe_before_the_subscribe_reply() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    pair.unsubscribe("orders");
    pair.expect(&[
        "> subscribe orders",
        "orders subscribing",
        "> unsubscribe orders",
        "orders closed",
    ]);
    assert_eq!(
        pair.client.channel_state(&name("orders")),
        ChannelState::Closed
    );
    confirm(&mut pair, "orders");
    let id = pair.id("unsubscribe");
    pair.say(unsubscribed(id, "orders", 1000));
    pair.expect(&[]);
}

#[test]
fn subscribe_unsubscribe_subscribe_in_one_turn() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    pair.unsubscribe("orders");
    pair.subscribe("orders");
    pair.expect(&[
        "> subscribe orders",
        "orders subscribing",
        "> unsubscribe orders",
        "orders closed",
        "orders subscribing",
    ]);
    confirm(&mut pair, "orders");
    pair.expect(&[]);
    let id = pair.id("unsubscribe");
    pair.say(unsubscribed(id, "orders", 1000));
    pair.expect(&["> subscribe orders"]);
    confirm(&mut pair, "orders");
    pair.expect(&["orders subscribed"]);
    pair.unsubscribe("orders");
    pair.subscribe("orders");
    pair.unsubscribe("orders");
    let id = pair.id("unsubscribe");
    pair.take();
    pair.say(unsubscribed(id, "orders", 1000));
    pair.expect(&[]);
    assert_eq!(pair.client.channels().count(), 0);
}

#[test]
fn the_reply_of_an_earlier_subscribe_does_not_confirm_a_later_one() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    let first = pair.id("subscribe");
    pair.unsubscribe("orders");
    let leave = pair.id("unsubscribe");
    pair.subscribe("orders");
    pair.say(unsubscribed(leave, "orders", 1000));
    pair.take();
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
        first, "orders",
    )));
    pair.say(refused(first, "orders", Code::FORBIDDEN));
    pair.expect(&[]);
}

#[test]
fn ten_thousand_subscriptions_leave_nothing_behind() {
    let mut pair = Pair::connected(Options::default());
    let idle = pair.client.next_timeout();
    for _ in 0..10_000 {
        pair.subscribe("orders");
        confirm(&mut pair, "orders");
        pair.unsubscribe("orders");
        let id = pair.id("unsubscribe");
        pair.say(unsubscribed(id, "orders", 1000));
        pair.take();
    }
    assert_eq!(pair.client.channels().count(), 0);
    assert_eq!(pair.client.next_timeout(), idle);
}

#[test]
fn an_unsubscribe_without_an_answer_does_not_block_the_channel() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    confirm(&mut pair, "orders");
    pair.unsubscribe("orders");
    pair.subscribe("orders");
    pair.take();
    pair.advance(10_000);
    pair.expect(&["> subscribe orders"]);
}

#[test]
fn a_refused_channel_fails_until_it_is_asked_for_again() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("private-a");
    let id = pair.id("subscribe");
    pair.take();
    pair.say(refused(id, "private-a", Code::FORBIDDEN));
    pair.expect(&["private-a failed: 4302"]);
    pair.close(1006);
    pair.advance_to_timer();
    pair.greet();
    assert_eq!(
        pair.client.channel_state(&name("private-a")),
        ChannelState::Failed
    );
    pair.take();
    pair.subscribe("private-a");
    pair.expect(&["> subscribe private-a", "private-a subscribing"]);
}

#[test]
fn a_refusal_that_may_pass_is_retried_with_backoff() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    let mut waited = 0;
    for _ in 0..8 {
        let id = pair.id("subscribe");
        pair.take();
        pair.say(refused(id, "orders", Code::UNAVAILABLE));
        pair.expect(&["orders subscribing: 4315"]);
        waited += pair.advance_to_timer();
        pair.say(crate::say::pong());
        pair.expect(&["> subscribe orders"]);
    }
    assert!(waited > 5_000, "{waited}");
}

#[test]
fn an_error_reply_to_a_subscribe_counts_as_its_refusal() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    let id = pair.id("subscribe");
    pair.take();
    pair.say(error(id, Code::FORBIDDEN));
    pair.expect(&["orders failed: 4302"]);
    pair.subscribe("alerts");
    let id = pair.id("subscribe alerts");
    pair.take();
    pair.say(ServerMessage::Error(ErrorMessage {
        retry_after: Some(3_000),
        ..ErrorMessage::new(Some(id), Code::RATE_LIMITED)
    }));
    pair.expect(&[]);
    assert_eq!(pair.advance_to_timer(), 3_000);
    pair.expect(&["> subscribe alerts"]);
}

#[test]
fn a_refused_subscription_is_not_repeated_before_the_server_said() {
    for code in [
        Code::READS_BUSY,
        Code::READ_RATE,
        Code::UNAVAILABLE,
        Code::BUSY,
    ] {
        let mut pair = Pair::connected(Options::default());
        pair.subscribe("orders");
        let id = pair.id("subscribe");
        pair.take();
        pair.say(ServerMessage::SubscriptionError(SubscriptionError {
            retry_after: Some(9_000),
            ..SubscriptionError::new(Some(id), name("orders"), code)
        }));
        assert_eq!(pair.advance_to_timer(), 9_000, "{}", code.name());
        assert!(pair.take().contains(&"> subscribe orders".to_owned()));
    }
}

#[test]
fn a_subscribe_without_an_answer_is_left_and_repeated() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    pair.take();
    pair.advance(10_000);
    pair.expect(&["error: ack-timeout", "> unsubscribe orders"]);
    let id = pair.id("unsubscribe");
    pair.say(error(id, Code::NOT_SUBSCRIBED));
    pair.expect(&["> subscribe orders"]);
}

#[test]
fn already_subscribed_is_mended_by_leaving_first() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    let id = pair.id("subscribe");
    pair.take();
    pair.say(refused(id, "orders", Code::ALREADY_SUBSCRIBED));
    pair.expect(&["> unsubscribe orders"]);
    let id = pair.id("unsubscribe");
    pair.say(unsubscribed(id, "orders", 1000));
    pair.expect(&["> subscribe orders"]);
    // A server that insists is not hammered.
    let id = pair.id("subscribe");
    pair.say(refused(id, "orders", Code::ALREADY_SUBSCRIBED));
    let id = pair.id("unsubscribe");
    pair.say(unsubscribed(id, "orders", 1000));
    pair.expect(&["> unsubscribe orders"]);
    pair.advance_to_timer();
    pair.expect(&["> subscribe orders"]);
}

#[test]
fn the_server_ends_a_subscription() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.say(unsubscribed(None, "orders", Code::REMOVED.number()));
    pair.expect(&["orders closed: 4318"]);
    pair.say(live("orders", 1, 6));
    pair.expect(&[]);
    assert_eq!(pair.client.channels().count(), 0);
}

#[test]
fn a_permission_that_ends_is_asked_for_again() {
    let mut pair = Pair::connected(Options::default().with_channel_auth());
    pair.subscribe("private-a");
    authorize(&mut pair, "private-a", granted());
    let id = pair.id("subscribe");
    pair.say(succeeded_at(id, "private-a", at(1, 5)));
    pair.take();
    pair.say(unsubscribed(None, "private-a", Code::INVALID_AUTH.number()));
    pair.expect(&["private-a subscribing: 4303"]);
    pair.advance_to_timer();
    pair.expect(&["private-a authorizing", "need auth private-a Expired"]);
    authorize(&mut pair, "private-a", granted());
    pair.expect(&[
        "> subscribe private-a since 1/5 auth signed channel_data member",
        "private-a subscribing",
    ]);
}

#[test]
fn a_subscription_that_fails_later_is_retried_or_failed() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.say(refused(None, "orders", Code::UNAVAILABLE));
    pair.expect(&["orders subscribing: 4315"]);
    pair.advance_to_timer();
    pair.expect(&["> subscribe orders since 1/5"]);
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.say(refused(None, "orders", Code::FORBIDDEN));
    pair.expect(&["orders failed: 4302"]);
}

#[test]
fn a_private_channel_is_authorized_for_every_socket() {
    let mut pair = Pair::connected(Options::default().with_channel_auth());
    pair.subscribe("private-a");
    pair.subscribe("orders");
    pair.expect(&[
        "private-a authorizing",
        "need auth private-a Subscribe",
        "> subscribe orders",
        "orders subscribing",
    ]);
    authorize(&mut pair, "private-a", granted());
    pair.expect(&[
        "> subscribe private-a auth signed channel_data member",
        "private-a subscribing",
    ]);
    confirm(&mut pair, "private-a");
    pair.close(1006);
    pair.advance_to_timer();
    pair.take();
    pair.greet();
    pair.expect(&[
        "connection connected resumed",
        "private-a authorizing",
        "need auth private-a Resubscribe",
        "> subscribe orders",
        "orders subscribing",
    ]);
}

#[test]
fn an_answer_for_an_earlier_socket_is_ignored() {
    let mut pair = Pair::connected(Options::default().with_channel_auth());
    pair.subscribe("private-a");
    pair.take();
    pair.input(Input::ChannelAuth {
        channel: name("private-a"),
        socket_id: socket(99),
        reply: granted(),
    });
    pair.input(Input::ChannelAuth {
        channel: name("private-b"),
        socket_id: socket(1),
        reply: granted(),
    });
    pair.expect(&[]);
}

fn in_trouble() -> ChannelAuthReply {
    ChannelAuthReply::Failed {
        status: Some(503),
        reason: Some("in trouble".to_owned()),
        retry_after: Some(4_000),
    }
}

#[test]
fn a_forbidden_channel_fails_and_an_endpoint_that_is_down_does_not_fail_it() {
    let mut pair = Pair::connected(Options::default().with_channel_auth());
    pair.subscribe("private-a");
    pair.take();
    authorize(
        &mut pair,
        "private-a",
        ChannelAuthReply::forbidden("not a member"),
    );
    pair.expect(&["private-a failed: auth-forbidden (403): not a member"]);

    pair.subscribe("private-b");
    pair.take();
    // The first time may be a coincidence, and the next try often helps.
    authorize(&mut pair, "private-b", in_trouble());
    pair.expect(&["private-b subscribing"]);
    assert_eq!(pair.advance_to_timer(), 4_000);
    pair.expect(&["private-b authorizing", "need auth private-b Subscribe"]);
    authorize(&mut pair, "private-b", in_trouble());
    pair.expect(&["private-b subscribing: auth-http (503): in trouble"]);
}

#[test]
fn an_endpoint_that_does_not_answer_is_cancelled_and_asked_again() {
    let mut pair = Pair::connected(Options::default().with_channel_auth());
    pair.subscribe("private-a");
    pair.take();
    pair.advance(10_000);
    pair.expect(&["cancel auth private-a", "private-a subscribing"]);
    pair.advance_to_timer();
    pair.expect(&["private-a authorizing", "need auth private-a Subscribe"]);
    pair.advance(10_000);
    let trace = pair.take();
    assert!(
        trace.contains(&"private-a subscribing: auth-timeout".to_owned()),
        "{trace:?}"
    );
}

#[test]
fn a_channel_token_that_is_not_taken_is_replaced() {
    let mut pair = Pair::connected(Options::default().with_channel_auth());
    pair.subscribe("private-a");
    authorize(&mut pair, "private-a", granted());
    let id = pair.id("subscribe");
    pair.take();
    pair.say(refused(id, "private-a", Code::INVALID_AUTH));
    pair.expect(&[]);
    pair.advance_to_timer();
    pair.expect(&["private-a authorizing", "need auth private-a Expired"]);
}

#[test]
fn without_a_channel_token_an_invalid_one_is_final() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("private-a");
    let id = pair.id("subscribe");
    pair.take();
    pair.say(refused(id, "private-a", Code::INVALID_AUTH));
    pair.expect(&["private-a failed: 4303"]);
}

#[test]
fn an_unwanted_or_disconnected_authorization_is_cancelled() {
    let mut pair = Pair::connected(Options::default().with_channel_auth());
    pair.subscribe("private-a");
    pair.take();
    pair.unsubscribe("private-a");
    pair.expect(&["cancel auth private-a", "private-a closed"]);
    pair.subscribe("private-b");
    pair.take();
    pair.close(1006);
    pair.expect(&[
        "connection reconnecting later: closed 1006",
        "cancel auth private-b",
        "private-b suspended",
    ]);
}

fn connected_as(id: &str) -> Pair {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    greet_as(&mut pair, id);
    pair.take();
    pair
}

fn greet_as(pair: &mut Pair, id: &str) {
    pair.input(Input::Opened);
    pair.say(ServerMessage::Connected(fanfare_protocol::Connected {
        user_id: Some(user(id)),
        ..crate::say::hello()
    }));
}

#[test]
fn the_personal_channel_is_adopted_and_recovered() {
    let mut pair = connected_as("ann");
    pair.say(succeeded_at(None, "user:ann", at(1, 5)));
    pair.expect(&["user:ann subscribed"]);
    pair.say(live("user:ann", 1, 6));
    pair.expect(&["user:ann e 1/6"]);
    pair.close(1006);
    pair.advance_to_timer();
    pair.take();
    greet_as(&mut pair, "ann");
    pair.expect(&[
        "connection connected resumed",
        "> subscribe user:ann since 1/6",
        "user:ann subscribing",
    ]);
    // The server joins at the end, and sends what is new; only the own subscription brings what was missed.
    pair.say(succeeded_at(None, "user:ann", at(1, 8)));
    pair.say(live("user:ann", 1, 9));
    pair.expect(&[]);
    let id = pair.id("subscribe");
    let missed = (7..=9)
        .map(|offset| crate::say::event_at("user:ann", 1, offset))
        .collect();
    pair.say(recovered(id, "user:ann", at(1, 9), missed));
    pair.expect(&[
        "user:ann subscribed recovered",
        "user:ann e 1/7 recovered",
        "user:ann e 1/8 recovered",
        "user:ann e 1/9 recovered",
    ]);
}

#[test]
fn the_personal_channel_of_another_user_is_closed() {
    let mut pair = connected_as("ann");
    pair.say(succeeded_at(None, "user:ann", at(1, 5)));
    pair.close(1006);
    pair.advance_to_timer();
    pair.take();
    greet_as(&mut pair, "bob");
    pair.expect(&["connection connected resumed", "user:ann closed"]);
    pair.say(succeeded_at(None, "user:bob", at(7, 1)));
    pair.expect(&["user:bob subscribed"]);
}

#[test]
fn a_personal_channel_that_the_application_wants_is_taken_when_the_server_joins_it_first() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::SetToken(Some("mine".to_owned())));
    pair.subscribe("user:ann");
    pair.input(Input::Connect);
    pair.greet();
    pair.take();
    pair.say(succeeded_at(None, "user:ann", at(1, 5)));
    pair.expect(&["user:ann subscribed"]);
    let id = pair.id("authenticate");
    pair.say(crate::say::authenticated(id, "ann", None));
    pair.expect(&["connection connected"]);
    // Joined first and authenticated later, but with something to catch up on.
    pair.close(1006);
    pair.advance_to_timer();
    pair.greet();
    pair.take();
    pair.say(succeeded_at(None, "user:ann", at(1, 7)));
    pair.expect(&[]);
    let id = pair.id("authenticate");
    pair.say(crate::say::authenticated(id, "ann", None));
    pair.expect(&[
        "connection connected resumed",
        "> subscribe user:ann since 1/5",
        "user:ann subscribing",
    ]);
}

#[test]
fn a_server_joins_a_client_to_no_more_channels_than_it_takes() {
    let mut options = Options::default();
    options.server_channels_max = 2;
    let mut pair = Pair::connected(options);
    pair.subscribe("mine");
    pair.take();
    for number in 0..1_000 {
        pair.say(succeeded_at(None, &format!("c{number}"), at(1, 5)));
    }
    pair.expect(&["c0 subscribed", "c1 subscribed", "error: overflow"]);
    assert_eq!(pair.client.channels().count(), 3);
    // One that it leaves makes room; the application's own do not count.
    pair.say(unsubscribed(None, "c0", 1000));
    pair.take();
    pair.say(succeeded_at(None, "c7", at(1, 5)));
    pair.say(succeeded_at(None, "c8", at(1, 5)));
    pair.expect(&["c7 subscribed"]);
}

#[test]
fn no_number_of_a_servers_keeps_a_channel_away_for_ever() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    let id = pair.id("subscribe");
    pair.say(ServerMessage::Error(ErrorMessage {
        id: Some(id),
        code: Code::RATE_LIMITED.number(),
        error: String::new(),
        retry: true,
        retry_after: Some(1 << 53),
    }));
    assert!(pair.advance_to_timer() <= 300_000);
}

#[test]
fn a_channel_that_the_server_joined_ends_with_its_connection() {
    let mut pair = Pair::connected(Options::default());
    pair.say(succeeded_at(None, "orders", at(1, 5)));
    pair.expect(&["orders subscribed"]);
    pair.close(1006);
    pair.expect(&[
        "connection reconnecting later: closed 1006",
        "orders closed: closed",
    ]);
}
