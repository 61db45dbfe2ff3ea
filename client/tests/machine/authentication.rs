//! Tokens: asked for, sent, renewed, refused.

use fanfare_client::{Input, Options, TokenReply};
use fanfare_protocol::{Code, Connected, ServerMessage};

use crate::pair::Pair;
use crate::say::{authenticated, connected, error, hello, pong, user};

const HOUR: u64 = 3_600_000;

fn with_provider() -> Pair {
    let mut pair = Pair::new(Options::default().with_token_provider());
    pair.input(Input::Connect);
    pair
}

/// Connected with the provider's token "one".
fn logged_in(lifetime: Option<u64>) -> Pair {
    let mut pair = with_provider();
    pair.token("one");
    pair.greet();
    let id = pair.id("authenticate");
    pair.say(authenticated(id, "ann", lifetime));
    pair.take();
    pair
}

#[test]
fn the_provider_is_asked_before_the_socket_and_the_token_goes_out_first() {
    let mut pair = with_provider();
    pair.expect(&["connection connecting", "need token Connect"]);
    pair.token("one");
    pair.expect(&["open 0"]);
    pair.input(Input::Opened);
    pair.expect(&["> authenticate one"]);
    pair.say(connected());
    pair.expect(&[]);
    let id = pair.id("authenticate");
    pair.say(authenticated(id, "ann", None));
    pair.expect(&["connection connected"]);
    assert_eq!(pair.client.user_id(), Some(&user("ann")));
}

#[test]
fn a_host_that_does_not_say_opened_is_understood() {
    let mut pair = with_provider();
    pair.token("one");
    pair.take();
    pair.say(connected());
    pair.expect(&["> authenticate one"]);
}

#[test]
fn public_channels_do_not_wait_for_the_credentials_and_others_do() {
    let mut pair = with_provider();
    pair.subscribe("orders");
    pair.subscribe("private-a");
    pair.token("one");
    pair.take();
    pair.greet();
    pair.expect(&[
        "> authenticate one",
        "> subscribe orders",
        "orders subscribing",
    ]);
    let id = pair.id("authenticate");
    pair.say(authenticated(id, "ann", None));
    pair.expect(&[
        "connection connected",
        "> subscribe private-a",
        "private-a subscribing",
    ]);
}

#[test]
fn a_public_channel_that_needed_the_credentials_is_asked_for_again() {
    let mut pair = with_provider();
    pair.subscribe("orders");
    pair.token("one");
    pair.greet();
    pair.take();
    let id = pair.id("subscribe");
    pair.say(crate::say::refused(id, "orders", Code::NOT_AUTHENTICATED));
    pair.expect(&["orders suspended"]);
    let id = pair.id("authenticate");
    pair.say(authenticated(id, "ann", None));
    pair.expect(&[
        "connection connected",
        "> subscribe orders",
        "orders subscribing",
    ]);
    // It is not tried too early again.
    pair.close(1006);
    pair.advance_to_timer();
    pair.take();
    pair.greet();
    pair.expect(&["> authenticate one"]);
}

#[test]
fn a_provider_may_say_anonymous() {
    let mut pair = with_provider();
    pair.take();
    pair.input(Input::Token(TokenReply::Anonymous));
    pair.greet();
    pair.expect(&["open 0", "connection connected"]);
    pair.close(1006);
    pair.take();
    pair.advance_to_timer();
    pair.expect(&["connection reconnecting", "need token Connect"]);
}

#[test]
fn a_provider_that_fails_is_asked_again_later() {
    let mut pair = with_provider();
    pair.take();
    pair.input(Input::Token(TokenReply::failed("no network")));
    pair.expect(&["connection connecting later: token: no network"]);
    pair.advance_to_timer();
    pair.expect(&["connection connecting", "need token Connect"]);
}

#[test]
fn a_provider_that_does_not_answer_is_asked_again_and_a_late_answer_counts_for_nothing() {
    let mut pair = with_provider();
    pair.take();
    pair.advance(10_000);
    pair.expect(&["connection connecting later: token"]);
    pair.token("late");
    pair.expect(&[]);
}

#[test]
fn a_provider_that_forbids_is_final() {
    let mut pair = with_provider();
    pair.take();
    pair.input(Input::Token(TokenReply::unauthorized("logged out")));
    pair.expect(&["connection failed: unauthorized: logged out"]);
    assert_eq!(pair.client.next_timeout(), None);

    let mut pair = logged_in(Some(HOUR));
    keep_alive(&mut pair, HOUR - 60_000);
    pair.take();
    pair.input(Input::Token(TokenReply::unauthorized("logged out")));
    pair.expect(&["close 1000", "connection failed: unauthorized: logged out"]);
}

#[test]
fn a_token_is_renewed_on_the_open_connection() {
    let mut pair = logged_in(Some(HOUR));
    keep_alive(&mut pair, HOUR - 60_000);
    pair.expect(&["need token Expiring"]);
    pair.token("two");
    pair.expect(&["> authenticate two"]);
    let id = pair.id("authenticate two");
    pair.say(authenticated(id, "ann", Some(2 * HOUR)));
    pair.expect(&[]);
    keep_alive(&mut pair, HOUR);
    pair.expect(&["need token Expiring"]);
}

/// Lets time pass on a connection that is never silent.
fn keep_alive(pair: &mut Pair, milliseconds: u64) {
    let end = pair.now + milliseconds;
    while pair.now < end {
        let step = end.since(pair.now).min(20_000);
        pair.advance(step);
        pair.say(ServerMessage::Event(crate::say::event("unknown", "e")));
    }
}

#[test]
fn a_renewal_that_fails_is_tried_again_while_the_old_token_counts() {
    let mut pair = logged_in(Some(HOUR));
    keep_alive(&mut pair, HOUR - 60_000);
    pair.take();
    pair.input(Input::Token(TokenReply::failed("no network")));
    pair.expect(&["error: token: no network"]);
    keep_alive(&mut pair, 4_000);
    pair.expect(&["need token Expiring"]);
}

#[test]
fn a_renewed_token_that_is_refused_is_asked_for_once_more() {
    let mut pair = logged_in(Some(HOUR));
    keep_alive(&mut pair, HOUR - 60_000);
    pair.token("two");
    pair.take();
    let id = pair.id("authenticate two");
    pair.say(error(id, Code::TOKEN_REFUSED));
    pair.expect(&["need token Rejected"]);
    pair.token("three");
    let id = pair.id("authenticate three");
    pair.take();
    pair.say(error(id, Code::TOKEN_REFUSED));
    pair.expect(&["error: unauthorized (4314): the token was refused"]);
}

#[test]
fn a_token_without_an_end_is_kept_over_reconnects() {
    let mut pair = logged_in(None);
    pair.close(1006);
    pair.take();
    pair.advance_to_timer();
    pair.expect(&["connection reconnecting", "open 1"]);
}

#[test]
fn a_token_that_ended_during_a_sleep_is_not_used_again() {
    let mut pair = logged_in(Some(HOUR));
    pair.sleep(2 * HOUR);
    pair.close(1006);
    pair.take();
    pair.input(Input::Wake);
    pair.expect(&["connection reconnecting", "need token Expiring"]);
}

#[test]
fn the_server_clock_tells_when_the_token_ends() {
    let mut pair = logged_in(Some(HOUR));
    let before = pair.client.next_timeout();
    pair.advance(25_000);
    pair.take();
    // The server's clock has gone on for almost an hour although this device counted only seconds.
    pair.say(ServerMessage::Pong {
        timestamp: crate::say::SERVER_TIME + HOUR - 61_000,
    });
    assert_ne!(pair.client.next_timeout(), before);
    pair.advance(1_000);
    pair.expect(&["need token Expiring"]);
    pair.say(pong());
}

#[test]
fn refused_credentials_are_replaced_once() {
    let mut pair = with_provider();
    pair.token("one");
    pair.greet();
    pair.take();
    pair.close(Code::CREDENTIALS_REFUSED.number());
    pair.expect(&["connection connecting later: unauthorized (4003)"]);
    pair.advance_to_timer();
    pair.expect(&["connection connecting", "need token Rejected"]);
    pair.token("two");
    pair.greet();
    pair.take();
    pair.close(Code::CREDENTIALS_REFUSED.number());
    pair.expect(&["connection failed: unauthorized (4003)"]);
    pair.advance(HOUR);
    pair.expect(&[]);
}

#[test]
fn credentials_refused_by_an_error_are_replaced_once() {
    let mut pair = with_provider();
    pair.token("one");
    pair.greet();
    pair.take();
    let id = pair.id("authenticate");
    pair.say(error(id, Code::TOKEN_REFUSED));
    pair.expect(&[
        "close 1000",
        "connection connecting later: unauthorized (4314): the token was refused",
    ]);
    pair.advance_to_timer();
    pair.expect(&["connection connecting", "need token Rejected"]);
}

#[test]
fn refused_credentials_without_a_provider_are_final() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::SetToken(Some("mine".to_owned())));
    pair.input(Input::Connect);
    pair.greet();
    pair.take();
    pair.close(Code::CREDENTIALS_REFUSED.number());
    pair.expect(&["connection failed: unauthorized (4003)"]);
}

#[test]
fn a_refused_token_of_the_application_is_tried_again_with_the_next_connect() {
    let refuse_by_error = |pair: &mut Pair| {
        let id = pair.id("authenticate");
        pair.say(error(id, Code::TOKEN_REFUSED));
    };
    let refuse_by_close = |pair: &mut Pair| pair.close(Code::CREDENTIALS_REFUSED.number());
    let end = |pair: &mut Pair| pair.close(Code::TOKEN_EXPIRED.number());
    for refuse in [refuse_by_error as fn(&mut Pair), refuse_by_close, end] {
        let mut pair = Pair::new(Options::default());
        pair.input(Input::SetToken(Some("mine".to_owned())));
        pair.input(Input::Connect);
        for disconnects_first in [true, false, true] {
            pair.greet();
            refuse(&mut pair);
            let trace = pair.take();
            let last = trace.last().unwrap();
            assert!(
                last.starts_with("connection failed: unauthorized ("),
                "{trace:?}"
            );
            assert!(
                trace.contains(&"> authenticate mine".to_owned()),
                "{trace:?}"
            );
            if disconnects_first {
                pair.input(Input::Disconnect);
            }
            pair.input(Input::Connect);
        }
    }
}

#[test]
fn an_authorizer_that_is_down_is_no_refusal() {
    let mut pair = with_provider();
    pair.token("one");
    pair.greet();
    pair.take();
    let id = pair.id("authenticate");
    pair.say(error(id, Code::UNAVAILABLE));
    pair.expect(&["close 1000", "connection connecting later: 4315"]);
    pair.advance_to_timer();
    pair.expect(&["connection connecting", "open 1"]);
}

#[test]
fn an_expired_token_is_replaced_before_the_next_connection() {
    let mut pair = logged_in(Some(HOUR));
    pair.close(Code::TOKEN_EXPIRED.number());
    pair.take();
    pair.advance_to_timer();
    pair.expect(&["connection reconnecting", "need token Rejected"]);
}

#[test]
fn a_token_that_ends_and_cannot_be_renewed_ends_the_client() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::SetToken(Some("mine".to_owned())));
    pair.input(Input::Connect);
    pair.greet();
    let id = pair.id("authenticate");
    pair.say(authenticated(id, "ann", None));
    pair.take();
    pair.close(Code::TOKEN_EXPIRED.number());
    pair.expect(&["connection failed: unauthorized (4105)"]);
    pair.advance(HOUR);
    pair.expect(&[]);
}

#[test]
fn who_shows_nothing_where_something_is_needed_is_told_so_after_one_more_try() {
    let mut pair = Pair::connected(Options::default());
    pair.close(Code::AUTHENTICATION_TIMEOUT.number());
    pair.expect(&["connection reconnecting later: closed 4104"]);
    pair.advance_to_timer();
    pair.greet();
    pair.take();
    pair.close(Code::AUTHENTICATION_TIMEOUT.number());
    pair.expect(&["connection failed: unauthorized (4104)"]);
}

#[test]
fn a_cookie_that_is_renewed_brings_the_client_back_each_time() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    for _ in 0..3 {
        pair.input(Input::Opened);
        pair.say(ServerMessage::Connected(Connected {
            user_id: Some(user("ann")),
            ..hello()
        }));
        pair.close(Code::TOKEN_EXPIRED.number());
        let trace = pair.take();
        assert_eq!(
            trace.last().unwrap(),
            "connection reconnecting later: closed 4105"
        );
        pair.advance_to_timer();
    }
}

#[test]
fn a_provider_that_has_nobody_any_more_is_believed_once() {
    let mut pair = logged_in(Some(HOUR));
    pair.close(Code::TOKEN_EXPIRED.number());
    pair.advance_to_timer();
    pair.take();
    pair.input(Input::Token(TokenReply::Anonymous));
    pair.greet();
    pair.take();
    pair.close(Code::AUTHENTICATION_TIMEOUT.number());
    pair.expect(&["connection failed: unauthorized (4104)"]);
}

#[test]
fn after_a_disconnect_the_provider_says_who_comes_back() {
    let mut pair = logged_in(Some(HOUR));
    pair.input(Input::Disconnect);
    pair.take();
    pair.input(Input::Connect);
    pair.expect(&["connection connecting", "need token Connect"]);
    pair.token("of bob");
    pair.greet();
    let trace = pair.take();
    assert!(
        trace.contains(&"> authenticate of bob".to_owned()),
        "{trace:?}"
    );
}

#[test]
fn a_token_that_the_application_gave_outlives_a_disconnect() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::SetToken(Some("mine".to_owned())));
    pair.input(Input::Connect);
    pair.greet();
    pair.input(Input::Disconnect);
    pair.input(Input::Connect);
    pair.take();
    pair.greet();
    let trace = pair.take();
    assert!(
        trace.contains(&"> authenticate mine".to_owned()),
        "{trace:?}"
    );
}

#[test]
fn logging_in_keeps_the_connection_and_logging_out_does_not() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::SetToken(Some("mine".to_owned())));
    pair.expect(&["> authenticate mine"]);
    let id = pair.id("authenticate");
    pair.say(authenticated(id, "ann", None));
    pair.expect(&["connection connected"]);
    assert_eq!(pair.client.user_id(), Some(&user("ann")));
    pair.input(Input::SetToken(None));
    pair.expect(&["close 1000", "connection reconnecting", "open 0"]);
    pair.greet();
    pair.expect(&["connection connected resumed"]);
    assert_eq!(pair.client.user_id(), None);
}

#[test]
fn a_login_that_the_open_connection_refuses_makes_a_new_one() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::SetToken(Some("other".to_owned())));
    pair.take();
    let id = pair.id("authenticate");
    pair.say(error(id, Code::TOKEN_REFUSED));
    pair.expect(&["close 1000", "connection reconnecting", "open 0"]);
    pair.input(Input::Opened);
    pair.expect(&["> authenticate other"]);
}

#[test]
fn a_token_set_while_the_provider_is_asked_is_used() {
    let mut pair = with_provider();
    pair.take();
    pair.input(Input::SetToken(Some("mine".to_owned())));
    pair.expect(&["open 0"]);
    pair.token("late");
    pair.expect(&[]);
    pair.input(Input::Opened);
    pair.expect(&["> authenticate mine"]);
}

#[test]
fn a_handshake_that_knows_the_user_needs_no_token() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    pair.input(Input::Opened);
    pair.say(ServerMessage::Connected(Connected {
        user_id: Some(user("ann")),
        ..hello()
    }));
    assert_eq!(pair.client.user_id(), Some(&user("ann")));
}
