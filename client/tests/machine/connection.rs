//! States of the connection, backoff, close codes, pings.

use fanfare_client::{Backoff, Input, Options};
use fanfare_protocol::{Code, Connected, ServerMessage};

use crate::pair::Pair;
use crate::say::{self, connected, goodbye, hello, pong};

#[test]
fn connects() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    pair.expect(&["connection connecting", "open 0"]);
    pair.input(Input::Opened);
    pair.expect(&[]);
    pair.say(connected());
    pair.expect(&["connection connected"]);
    assert_eq!(pair.client.socket_id(), Some(say::socket(1)));
}

#[test]
fn an_attempt_that_fails_is_repeated_with_growing_jitter() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    pair.take();
    for ceiling in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000] {
        pair.close(1006);
        let retry_at = pair.client.status().retry_at.unwrap();
        assert!(retry_at.since(pair.now) <= ceiling);
        assert!(pair.advance_to_timer() <= ceiling);
        let trace = pair.take();
        assert_eq!(trace[0], "connection connecting later: closed 1006");
        assert!(trace[2].starts_with("open "), "{trace:?}");
    }
}

#[test]
fn the_first_retry_of_a_healthy_connection_comes_within_half_a_second() {
    let mut pair = Pair::connected(Options::default());
    pair.advance(6_000);
    pair.close(1006);
    pair.expect(&["connection reconnecting later: closed 1006"]);
    assert!(pair.advance_to_timer() <= 500);
    pair.expect(&["connection reconnecting", "open 1"]);
    pair.greet();
    pair.expect(&["connection connected resumed"]);
}

#[test]
fn a_server_that_closes_right_after_the_greeting_does_not_make_a_tight_loop() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    let mut waited = 0;
    for _ in 0..50 {
        pair.greet();
        pair.close(Code::SHUTTING_DOWN.number());
        waited += pair.advance_to_timer();
    }
    assert!(waited > 200_000, "50 attempts in {waited} ms");
    assert_eq!(pair.client.status().attempt, 50);
}

#[test]
fn a_handshake_has_a_deadline() {
    for opened in [false, true] {
        let mut pair = Pair::new(Options::default());
        pair.input(Input::Connect);
        if opened {
            pair.input(Input::Opened);
        }
        pair.take();
        pair.advance(9_999);
        pair.expect(&[]);
        pair.advance(1);
        let close = format!("close {}", Code::AUTHENTICATION_TIMEOUT.number());
        pair.expect(&[&close, "connection connecting later: handshake-timeout"]);
    }
}

#[test]
fn no_number_of_a_servers_keeps_a_client_away_for_ever() {
    let mut pair = Pair::connected(Options::default());
    pair.say(goodbye(Code::SHUTTING_DOWN, true, 1 << 53));
    pair.close(Code::SHUTTING_DOWN.number());
    pair.take();
    assert_eq!(pair.advance_to_timer(), 300_000);
    pair.expect(&["connection reconnecting", "open 1"]);

    // A server that asks for no pings is asked for a sign of life all the same.
    pair.input(Input::Opened);
    pair.say(ServerMessage::Connected(Connected {
        ping_interval: 1 << 53,
        ..hello()
    }));
    pair.take();
    assert_eq!(pair.advance_to_timer(), 300_000);
    pair.expect(&["> ping"]);
}

/// The outcome of a close code on a healthy connection: tries again, or has failed.
#[track_caller]
fn check_close(code: u16, state: &str) {
    let mut pair = Pair::connected(Options::default());
    pair.advance(6_000);
    pair.close(code);
    let trace = pair.take();
    assert!(trace[0].starts_with(state), "{code}: {trace:?}");
    assert_eq!(
        pair.client.next_timeout().is_some(),
        state.ends_with("later"),
        "{code}"
    );
}

#[test]
fn close_codes_act_by_range() {
    let again = "connection reconnecting later";
    for code in [1000, 1001, 1005, 1006, 1011, 1012, 3000, 4100, 4102, 4199] {
        check_close(code, again);
    }
    for code in [4200, 4299, 4300, 4500] {
        check_close(code, again);
    }
    for code in [4000, 4003, 4005, 4099] {
        check_close(code, "connection failed");
    }
}

#[test]
fn a_failed_connection_is_tried_again_only_when_asked() {
    let mut pair = Pair::connected(Options::default());
    pair.close(Code::DISCONNECTED.number());
    pair.expect(&["connection failed: closed 4005"]);
    pair.input(Input::Wake);
    pair.input(Input::Online);
    pair.advance(3_600_000);
    pair.expect(&[]);
    pair.input(Input::Connect);
    pair.expect(&["connection connecting", "open 0"]);
}

#[test]
fn a_goodbye_names_the_time_to_come_back() {
    let mut pair = Pair::connected(Options::default());
    pair.advance(6_000);
    pair.say(goodbye(Code::SHUTTING_DOWN, true, 7_000));
    pair.advance(100);
    pair.close(1001);
    pair.expect(&["connection reconnecting later: closed 4200"]);
    assert_eq!(pair.advance_to_timer(), 6_900);
    pair.expect(&["connection reconnecting", "open 0"]);
}

/// What a client does when a server that ends sends it elsewhere.
const ELSEWHERE: [&str; 3] = [
    "connection reconnecting later: closed 4200",
    "connection reconnecting",
    "open 0",
];

#[test]
fn a_client_that_is_sent_elsewhere_is_there_at_once() {
    let mut pair = Pair::connected(Options::default());
    // One server after the other ends, a second apart: no failure in a row.
    for _ in 0..20 {
        pair.advance(1_000);
        pair.say(goodbye(Code::SHUTTING_DOWN, true, 0));
        pair.close(Code::SHUTTING_DOWN.number());
        pair.expect(&ELSEWHERE);
        pair.greet();
        pair.expect(&["connection connected resumed"]);
    }
    // So does one that knows the close code alone.
    pair.advance(1_000);
    pair.close(Code::SHUTTING_DOWN.number());
    pair.expect(&ELSEWHERE);
}

#[test]
fn being_sent_elsewhere_ends_earlier_failures_in_a_row() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    for _ in 0..5 {
        pair.close(1006);
        pair.advance_to_timer();
    }
    pair.greet();
    pair.take();
    pair.advance(1_000);
    pair.close(Code::SHUTTING_DOWN.number());
    pair.expect(&ELSEWHERE);
    pair.close(1006);
    let retry_at = pair.client.status().retry_at.unwrap();
    assert!(retry_at.since(pair.now) <= 500, "like the first failure");
}

#[test]
fn a_goodbye_without_return_is_final() {
    let mut pair = Pair::connected(Options::default());
    pair.say(goodbye(Code::SLOW_CONSUMER, false, 0));
    pair.close(1000);
    pair.expect(&["connection failed: closed 4100"]);
}

#[test]
fn a_server_that_says_goodbye_and_does_not_close_is_closed() {
    let mut pair = Pair::connected(Options::default());
    pair.say(goodbye(Code::SHUTTING_DOWN, true, 0));
    pair.expect(&[]);
    pair.advance(5_000);
    let trace = pair.take();
    assert_eq!(
        trace[..2],
        ["close 1000", "connection reconnecting later: closed 4200"]
    );
}

#[test]
fn a_goodbye_before_the_greeting_counts() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    pair.input(Input::Opened);
    pair.take();
    pair.say(goodbye(Code::OVER_CAPACITY, true, 3_000));
    pair.close(1006);
    pair.expect(&["connection connecting later: closed 4101"]);
    assert_eq!(pair.advance_to_timer(), 3_000);
}

#[test]
fn silence_is_answered_with_a_ping_and_then_with_a_close() {
    let mut pair = Pair::connected(Options::default());
    pair.advance(24_999);
    pair.expect(&[]);
    pair.advance(1);
    pair.expect(&["> ping"]);
    pair.advance(9_999);
    pair.expect(&[]);
    pair.advance(1);
    pair.expect(&["close 4102", "connection reconnecting later: ping-timeout"]);
}

#[test]
fn any_message_is_a_sign_of_life() {
    let mut pair = Pair::connected(Options::default());
    for _ in 0..10 {
        pair.advance(20_000);
        pair.say(ServerMessage::Event(say::event("unknown", "e")));
    }
    pair.expect(&[]);
    pair.advance(25_000);
    pair.expect(&["> ping"]);
    pair.advance(9_000);
    pair.say(ServerMessage::Event(say::event("unknown", "e")));
    pair.advance(24_999);
    pair.expect(&[]);
    pair.advance(1);
    pair.expect(&["> ping"]);
    pair.say(pong());
    pair.advance(24_999);
    pair.expect(&[]);
}

#[test]
fn a_busy_connection_does_not_move_its_timer() {
    let mut pair = Pair::subscribed("orders", say::at(1, 0));
    let armed = pair.client.next_timeout();
    for offset in 1..=100 {
        pair.sleep(10);
        pair.say(say::live("orders", 1, offset));
    }
    assert_eq!(pair.client.next_timeout(), armed);
}

#[test]
fn an_unknown_protocol_version_is_final() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    pair.input(Input::Opened);
    pair.take();
    pair.say(ServerMessage::Connected(Connected {
        protocol: 2,
        ..hello()
    }));
    pair.expect(&["close 4000", "connection failed: protocol"]);
}

#[test]
fn a_frame_that_is_no_message_is_told_and_survived() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::Unreadable);
    pair.expect(&["error: protocol"]);
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    pair.input(Input::Opened);
    pair.take();
    pair.input(Input::Unreadable);
    pair.expect(&["close 4000", "connection connecting later: protocol"]);
}

#[test]
fn the_application_ends_it_in_any_state() {
    let mut idle = Pair::new(Options::default());
    idle.input(Input::Disconnect);
    idle.expect(&["connection disconnected"]);

    let mut opening = Pair::new(Options::default());
    opening.input(Input::Connect);
    opening.take();
    opening.input(Input::Disconnect);
    opening.expect(&["close 1000", "connection disconnected"]);

    let mut waiting = Pair::new(Options::default());
    waiting.input(Input::Connect);
    waiting.close(1006);
    waiting.take();
    waiting.input(Input::Disconnect);
    waiting.expect(&["connection disconnected"]);

    let mut open = Pair::connected(Options::default());
    open.input(Input::Disconnect);
    open.expect(&["close 1000", "connection disconnected"]);

    for mut pair in [idle, opening, waiting, open] {
        pair.close(1006);
        pair.say(connected());
        pair.input(Input::Opened);
        pair.input(Input::Online);
        pair.input(Input::Wake);
        pair.input(Input::Offline);
        pair.input(Input::Suspend);
        pair.advance(3_600_000);
        pair.expect(&[]);
        assert_eq!(pair.client.next_timeout(), None);
    }
}

#[test]
fn a_second_connect_retries_at_once() {
    let options = Options::default().with_backoff(Backoff {
        min: 60_000,
        max: 60_000,
        reset_after: 5_000,
    });
    let mut pair = Pair::new(options);
    pair.input(Input::Connect);
    pair.input(Input::Connect);
    pair.expect(&["connection connecting", "open 0"]);
    pair.close(1006);
    pair.take();
    pair.input(Input::Connect);
    pair.expect(&["connection connecting", "open 1"]);
}
