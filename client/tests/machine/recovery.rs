//! Positions: what was missed, what is lost, what is never shown twice or out of order.

use fanfare_client::{Input, Options, SubscribeOptions};
use fanfare_protocol::{Epoch, Event, ServerMessage, SubscriptionSucceeded};

use crate::pair::Pair;
use crate::say::{
    self, Data, at, event_at, gap, live, name, recovered, reset, skipped, succeeded, succeeded_at,
    unsubscribed,
};

/// Loses the connection and comes back as far as the subscribe command.
fn come_back(pair: &mut Pair) -> u64 {
    pair.close(1006);
    pair.advance_to_timer();
    pair.greet();
    pair.take();
    pair.id("subscribe")
}

fn events(channel: &str, epoch: u64, offsets: impl IntoIterator<Item = u64>) -> Vec<Event<Data>> {
    let events = offsets.into_iter();
    events
        .map(|offset| event_at(channel, epoch, offset))
        .collect()
}

#[test]
fn missed_events_come_before_live_ones() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let id = come_back(&mut pair);
    pair.say(recovered(
        id,
        "orders",
        at(1, 7),
        events("orders", 1, 6..=7),
    ));
    pair.say(live("orders", 1, 8));
    pair.expect(&[
        "orders subscribed recovered",
        "orders e 1/6 recovered",
        "orders e 1/7 recovered",
        "orders e 1/8",
    ]);
}

#[test]
fn a_return_that_missed_nothing_is_recovered() {
    let mut pair = Pair::subscribed("orders", at(1, 0));
    let id = come_back(&mut pair);
    pair.say(recovered(id, "orders", at(1, 0), vec![]));
    pair.expect(&["orders subscribed recovered"]);
    let id = come_back(&mut pair);
    pair.say(succeeded_at(id, "orders", at(1, 0)));
    pair.expect(&["orders subscribed recovered"]);
}

#[test]
fn recovery_works_any_number_of_times() {
    let mut pair = Pair::subscribed("orders", at(1, 0));
    for offset in 1..=20 {
        let id = come_back(&mut pair);
        pair.say(recovered(
            id,
            "orders",
            at(1, offset),
            events("orders", 1, [offset]),
        ));
        assert_eq!(pair.take().len(), 2);
        assert_eq!(pair.client.position(&name("orders")), Some(at(1, offset)));
    }
}

#[test]
fn a_history_that_no_longer_reaches_back_is_a_gap() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let id = come_back(&mut pair);
    pair.say(succeeded_at(id, "orders", at(1, 205)));
    pair.say(live("orders", 1, 206));
    pair.expect(&[
        "orders subscribed",
        "orders gap 6..205 Expired",
        "orders e 1/206",
    ]);
}

#[test]
fn a_gap_ends_where_the_events_of_the_reply_begin() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let id = come_back(&mut pair);
    pair.say(ServerMessage::SubscriptionSucceeded(
        SubscriptionSucceeded {
            position: Some(at(1, 205)),
            events: events("orders", 1, 204..=205),
            ..succeeded(id, "orders")
        },
    ));
    pair.expect(&[
        "orders subscribed",
        "orders gap 6..203 Expired",
        "orders e 1/204 recovered",
        "orders e 1/205 recovered",
    ]);
}

#[test]
fn a_new_history_is_a_gap_of_unknown_size() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let id = come_back(&mut pair);
    pair.say(succeeded_at(id, "orders", at(2, 5)));
    pair.expect(&["orders subscribed", "orders gap Epoch"]);
    pair.say(live("orders", 2, 6));
    pair.expect(&["orders e 2/6"]);
}

#[test]
fn a_history_behind_the_client_is_a_gap() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let id = come_back(&mut pair);
    pair.say(succeeded_at(id, "orders", at(1, 3)));
    pair.expect(&["orders subscribed", "orders gap Diverged"]);
}

#[test]
fn a_channel_without_history_cannot_prove_that_nothing_was_missed() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    let id = pair.id("subscribe");
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
        id, "orders",
    )));
    let id = come_back(&mut pair);
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
        id, "orders",
    )));
    pair.expect(&["orders subscribed", "orders gap Away"]);
}

#[test]
fn a_channel_that_lost_or_got_its_history_is_a_gap() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let id = come_back(&mut pair);
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
        id, "orders",
    )));
    pair.expect(&["orders subscribed", "orders gap Away"]);
    let id = come_back(&mut pair);
    pair.say(succeeded_at(id, "orders", at(3, 2)));
    pair.expect(&["orders subscribed", "orders gap Away"]);
    pair.say(live("orders", 3, 3));
    pair.expect(&["orders e 3/3"]);
}

#[test]
fn a_first_subscription_rewinds_without_a_gap() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe_with("orders", SubscribeOptions::default().rewind(2));
    let id = pair.id("subscribe");
    pair.take();
    pair.say(ServerMessage::SubscriptionSucceeded(
        SubscriptionSucceeded {
            position: Some(at(1, 9)),
            events: events("orders", 1, 8..=9),
            ..succeeded(id, "orders")
        },
    ));
    pair.expect(&[
        "orders subscribed",
        "orders e 1/8 recovered",
        "orders e 1/9 recovered",
    ]);
    pair.close(1006);
    pair.advance_to_timer();
    pair.take();
    pair.greet();
    pair.expect(&[
        "connection connected resumed",
        "> subscribe orders since 1/9",
        "orders subscribing",
    ]);
}

#[test]
fn a_position_from_an_earlier_run_is_resumed() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe_with("orders", SubscribeOptions::default().since(at(1, 5)));
    let id = pair.id("subscribe");
    pair.take();
    pair.say(recovered(id, "orders", at(1, 6), events("orders", 1, [6])));
    pair.expect(&["orders subscribed recovered", "orders e 1/6 recovered"]);

    let mut pair = Pair::connected(Options::default());
    pair.subscribe_with("orders", SubscribeOptions::default().since(at(1, 5)));
    let id = pair.id("subscribe");
    pair.take();
    pair.say(succeeded_at(id, "orders", at(1, 50)));
    pair.expect(&["orders subscribed", "orders gap 6..50 Expired"]);
}

#[test]
fn a_reply_that_leaves_events_out_is_never_believed() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let id = come_back(&mut pair);
    pair.say(recovered(
        id,
        "orders",
        at(1, 9),
        events("orders", 1, [6, 8]),
    ));
    pair.expect(&[
        "orders subscribed recovered",
        "orders e 1/6 recovered",
        "orders gap 7..7 Sequence",
        "orders e 1/8 recovered",
        "orders gap 9..9 Sequence",
    ]);
}

#[test]
fn a_reply_that_repeats_events_shows_them_once() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let id = come_back(&mut pair);
    let repeated = events("orders", 1, [4, 5, 6, 6, 7]);
    pair.say(recovered(id, "orders", at(1, 7), repeated));
    pair.expect(&[
        "orders subscribed recovered",
        "orders e 1/6 recovered",
        "orders e 1/7 recovered",
    ]);
}

#[test]
fn a_live_event_seen_before_is_dropped() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    for offset in [6, 6, 5, 1, 7, 6, 7] {
        pair.say(live("orders", 1, offset));
    }
    pair.expect(&["orders e 1/6", "orders e 1/7"]);
}

#[test]
fn a_live_gap_is_recovered_before_anything_else_comes_out() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.say(live("orders", 1, 7));
    pair.say(live("orders", 1, 8));
    pair.expect(&["> unsubscribe orders", "orders subscribing"]);
    let id = pair.id("unsubscribe");
    pair.say(unsubscribed(id, "orders", 1000));
    pair.expect(&["> subscribe orders since 1/5"]);
    pair.say(live("orders", 1, 9));
    let id = pair.id("subscribe");
    pair.say(recovered(
        id,
        "orders",
        at(1, 9),
        events("orders", 1, 6..=9),
    ));
    pair.expect(&[
        "orders subscribed recovered",
        "orders e 1/6 recovered",
        "orders e 1/7 recovered",
        "orders e 1/8 recovered",
        "orders e 1/9 recovered",
    ]);
}

#[test]
fn another_event_at_a_known_position_is_a_divergence() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let mut other = event_at("orders", 1, 5);
    other.tag = Some(fanfare_protocol::Tag(7));
    pair.say(ServerMessage::Event(other));
    pair.expect(&["> unsubscribe orders", "orders subscribing"]);
}

#[test]
fn an_event_of_another_epoch_is_a_divergence() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let mut other = event_at("orders", 2, 6);
    other.epoch = Some(Epoch(2));
    pair.say(ServerMessage::Event(other));
    pair.expect(&["> unsubscribe orders", "orders subscribing"]);
}

#[test]
fn a_server_whose_events_never_continue_is_not_hammered() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    let start = pair.now;
    for round in 1..=10 {
        pair.say(live("orders", 1, 5 + 10 * round));
        let id = pair.id("unsubscribe");
        pair.say(unsubscribed(id, "orders", 1000));
        if round > 1 {
            pair.advance_to_timer();
            pair.say(say::pong());
        }
        let id = pair.id("subscribe");
        pair.say(recovered(id, "orders", at(1, 5), vec![]));
    }
    assert!(pair.now.since(start) > 10_000);
}

#[test]
fn a_message_meant_for_others_moves_the_position() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.say(skipped("orders", 1, 6));
    pair.say(live("orders", 1, 7));
    pair.expect(&["orders e 1/7"]);
    pair.say(skipped("orders", 1, 9));
    pair.expect(&["> unsubscribe orders", "orders subscribing"]);
}

#[test]
fn a_gap_that_the_server_announces_is_passed_on_and_not_recovered() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.say(gap("orders", Some((6, 8))));
    pair.say(live("orders", 1, 9));
    pair.expect(&["orders gap 6..8 Server(\"slow\")", "orders e 1/9"]);
    pair.say(gap("orders", Some((10, 11))));
    pair.say(live("orders", 1, 13));
    pair.expect(&[
        "orders gap 10..11 Server(\"slow\")",
        "> unsubscribe orders",
        "orders subscribing",
    ]);
}

#[test]
fn a_gap_on_a_channel_without_history_is_passed_on() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("orders");
    let id = pair.id("subscribe");
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(
        id, "orders",
    )));
    pair.take();
    pair.say(gap("orders", None));
    pair.say(ServerMessage::Event(say::event("orders", "e")));
    pair.expect(&["orders gap Server(\"slow\")", "orders e"]);
}

#[test]
fn a_reset_starts_the_history_anew() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.say(reset("orders", at(2, 0)));
    pair.say(live("orders", 2, 1));
    pair.expect(&["orders reset 2/0", "orders e 2/1"]);
    assert_eq!(pair.client.position(&name("orders")), Some(at(2, 1)));
}

#[test]
fn an_event_without_a_position_comes_out_between_those_with_one() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.say(ServerMessage::Event(say::event("orders", "typing")));
    pair.say(live("orders", 1, 6));
    pair.expect(&["orders typing", "orders e 1/6"]);
}

#[test]
fn positions_survive_a_disconnect_and_not_an_unsubscribe() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.input(Input::Disconnect);
    pair.input(Input::Connect);
    pair.take();
    pair.greet();
    pair.expect(&[
        "connection connected",
        "> subscribe orders since 1/5",
        "orders subscribing",
    ]);
    pair.unsubscribe("orders");
    let id = pair.id("unsubscribe");
    pair.say(unsubscribed(id, "orders", 1000));
    pair.take();
    pair.subscribe("orders");
    pair.expect(&["> subscribe orders", "orders subscribing"]);
}
