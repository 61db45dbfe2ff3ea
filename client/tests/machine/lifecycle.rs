//! Network changes, sleep, pages that come and go.

use fanfare_client::{Input, Options};
use fanfare_protocol::ServerMessage;

use crate::pair::Pair;
use crate::say::{self, at, pong};

#[test]
fn the_network_comes_back_and_the_next_attempt_is_made_at_once() {
    let mut pair = Pair::connected(Options::default());
    for _ in 0..6 {
        pair.close(1006);
        pair.advance_to_timer();
    }
    pair.close(1006);
    pair.take();
    pair.input(Input::Online);
    pair.expect(&["connection reconnecting", "open 0"]);
}

#[test]
fn an_open_connection_is_asked_before_it_is_called_offline() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::Offline);
    pair.expect(&["> ping"]);
    pair.advance(4_999);
    pair.say(pong());
    pair.advance(20_000);
    pair.expect(&[]);

    pair.input(Input::Offline);
    pair.take();
    pair.advance(5_000);
    pair.expect(&["close 4102", "connection offline later: ping-timeout"]);
    pair.input(Input::Online);
    pair.expect(&["connection reconnecting", "open 0"]);
}

#[test]
fn a_connection_that_breaks_while_the_network_is_gone_comes_back_slowly() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::Offline);
    pair.close(1006);
    pair.expect(&["> ping", "connection offline later: closed 1006"]);
    for attempt in 1..20 {
        let wait = pair.advance_to_timer();
        assert!((10_000..=20_000).contains(&wait), "{wait} ms");
        pair.expect(&["connection offline", &format!("open {attempt}")]);
        pair.close(1006);
        pair.expect(&["connection offline later: closed 1006"]);
    }
    pair.input(Input::Connect);
    pair.expect(&["connection offline", "open 20"]);
    pair.greet();
    pair.expect(&["connection connected resumed"]);
}

#[test]
fn an_answer_overrules_the_hint_that_the_network_is_gone() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::Offline);
    pair.say(pong());
    pair.take();
    pair.close(1006);
    pair.expect(&["connection reconnecting later: closed 1006"]);
    assert!(pair.advance_to_timer() <= 500);
}

#[test]
fn whatever_the_server_says_overrules_the_hint_that_the_network_is_gone() {
    // A socket that opens, and a close code that only a server gives.
    let evidence: [fn(&mut Pair); 2] = [|pair| pair.input(Input::Opened), |pair| pair.close(4100)];
    for evidence in evidence {
        let mut pair = Pair::new(Options::default());
        pair.input(Input::Connect);
        pair.input(Input::Offline);
        pair.take();
        evidence(&mut pair);
        pair.close(1006);
        let lost = pair.take();
        assert!(
            lost.len() == 1 && lost[0].starts_with("connection connecting later"),
            "{lost:?}"
        );
        assert!(pair.advance_to_timer() <= 500);
    }
}

#[test]
fn an_attempt_goes_on_when_the_network_is_said_to_be_gone() {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    pair.take();
    pair.input(Input::Offline);
    pair.expect(&[]);
    pair.greet();
    pair.expect(&["connection connected"]);
}

#[test]
fn a_wait_becomes_longer_when_the_network_is_said_to_be_gone() {
    let mut pair = Pair::connected(Options::default());
    pair.close(1006);
    pair.take();
    pair.input(Input::Offline);
    pair.expect(&["connection offline later"]);
    assert!(pair.advance_to_timer() >= 10_000);
    pair.expect(&["connection offline", "open 1"]);
    pair.close(1006);
    pair.take();
    pair.input(Input::Wake);
    pair.expect(&["connection offline", "open 2"]);
}

#[test]
fn a_page_that_wakes_asks_its_connection() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::Wake);
    pair.expect(&["> ping"]);
    pair.advance(4_999);
    pair.expect(&[]);
    pair.advance(1);
    pair.expect(&["close 4102", "connection reconnecting later: ping-timeout"]);
    pair.input(Input::Wake);
    pair.expect(&["connection reconnecting", "open 1"]);
}

#[test]
fn a_probe_does_not_extend_the_deadline_of_an_earlier_ping() {
    let mut pair = Pair::connected(Options::default());
    pair.advance(25_000);
    pair.take();
    pair.advance(8_000);
    pair.input(Input::Wake);
    pair.expect(&["> ping"]);
    pair.advance(2_000);
    pair.expect(&["close 4102", "connection reconnecting later: ping-timeout"]);
}

#[test]
fn a_healthy_connection_survives_a_sleep() {
    let mut pair = Pair::connected(Options::default());
    pair.advance(25_000);
    pair.expect(&["> ping"]);
    pair.sleep(3_600_000);
    // The timer is an hour late; the pong has been lying in the socket for as long.
    pair.input(Input::TimedOut);
    pair.expect(&[]);
    pair.say(pong());
    pair.advance(20_000);
    pair.expect(&[]);
}

#[test]
fn a_dead_connection_is_found_a_second_after_a_sleep() {
    let mut pair = Pair::connected(Options::default());
    pair.advance(25_000);
    pair.sleep(3_600_000);
    pair.take();
    pair.input(Input::TimedOut);
    pair.expect(&[]);
    assert_eq!(pair.advance_to_timer(), 1_000);
    pair.expect(&["close 4102", "connection reconnecting later: ping-timeout"]);
}

#[test]
fn the_grace_is_given_once_even_where_every_timer_is_late() {
    let mut pair = Pair::connected(Options::default());
    pair.advance(25_000);
    pair.take();
    // A background tab: timers come once a minute.
    for _ in 0..2 {
        pair.sleep(60_000);
        pair.input(Input::TimedOut);
    }
    pair.expect(&["close 4102", "connection reconnecting later: ping-timeout"]);
}

#[test]
fn a_grace_that_was_not_needed_does_not_weaken_the_next_sleep() {
    let mut pair = Pair::connected(Options::default());
    pair.advance(25_000);
    pair.sleep(60_000);
    pair.input(Input::TimedOut);
    pair.say(pong());
    pair.advance(25_000);
    pair.sleep(60_000);
    pair.take();
    pair.input(Input::TimedOut);
    pair.expect(&[]);
    pair.say(pong());
    pair.advance(1_000);
    pair.expect(&[]);
}

#[test]
fn a_timer_that_comes_too_early_does_nothing() {
    let mut pair = Pair::connected(Options::default());
    let armed = pair.client.next_timeout();
    pair.input(Input::TimedOut);
    pair.expect(&[]);
    assert_eq!(pair.client.next_timeout(), armed);
}

#[test]
fn a_page_in_the_cache_gives_its_socket_back_and_resumes_with_positions() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.input(Input::Suspend);
    pair.expect(&["close 1000", "connection offline later", "orders suspended"]);
    pair.input(Input::Wake);
    pair.expect(&["connection reconnecting", "open 0"]);
    pair.greet();
    pair.expect(&[
        "connection connected resumed",
        "> subscribe orders since 1/5",
        "orders subscribing",
    ]);
}

#[test]
fn a_page_that_was_said_to_go_and_stays_comes_back_by_itself() {
    let mut pair = Pair::connected(Options::default());
    pair.input(Input::Suspend);
    pair.take();
    assert!(pair.advance_to_timer() >= 10_000);
    pair.expect(&["connection reconnecting", "open 0"]);
}

#[test]
fn what_an_earlier_socket_says_late_changes_nothing_while_there_is_none() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.close(1006);
    pair.take();
    let armed = pair.client.next_timeout();
    pair.say(say::live("orders", 1, 6));
    pair.say(say::connected());
    pair.say(ServerMessage::Disconnect(fanfare_protocol::Disconnect {
        code: 4000,
        reason: String::new(),
        reconnect: false,
        after: 0,
    }));
    pair.input(Input::Opened);
    pair.close(4000);
    pair.expect(&[]);
    assert_eq!(pair.client.next_timeout(), armed);
}
