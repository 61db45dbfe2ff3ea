//! What a client shows of its own user: updated, remembered, taken back.

use fanfare_client::{ChannelAuthReply, Input, Options, RequestId, SubscribeOptions};
use fanfare_protocol::{Code, RawJson, ServerMessage};

use crate::pair::Pair;
use crate::say::{error, name, ok, refused, socket, succeeded, unsubscribed};

const ROOM: &str = "presence-room";

fn confirm(pair: &mut Pair) {
    let id = pair.id("subscribe");
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(id, ROOM)));
}

/// In the room, as this user.
fn in_room_as(user: &str) -> Pair {
    let mut pair = Pair::new(Options::default());
    pair.input(Input::Connect);
    pair.greet_as(user);
    pair.subscribe(ROOM);
    confirm(&mut pair);
    pair.take();
    pair
}

fn come_back_as(pair: &mut Pair, user: &str) {
    pair.close(1006);
    pair.advance_to_timer();
    pair.greet_as(user);
}

/// The lines that subscribe or update.
fn sent(pair: &mut Pair) -> Vec<String> {
    let mut trace = pair.take();
    trace.retain(|line| line.starts_with("> ") || line.starts_with("done"));
    trace
}

/// Updates, and the server takes it.
fn update(pair: &mut Pair, info: &str) {
    pair.update(1, ROOM, info);
    let id = pair.id("update");
    pair.say(ok(id));
    pair.take();
}

#[test]
fn an_update_that_succeeded_goes_with_every_later_subscription() {
    let mut pair = in_room_as("ann");
    pair.update(1, ROOM, "7");
    pair.expect(&["> update presence-room 7"]);
    let id = pair.id("update");
    pair.say(ok(id));
    pair.expect(&["done 1"]);
    for _ in 0..2 {
        come_back_as(&mut pair, "ann");
        assert_eq!(sent(&mut pair), ["> subscribe presence-room info 7"]);
        confirm(&mut pair);
    }
    update(&mut pair, "null");
    come_back_as(&mut pair, "ann");
    assert_eq!(sent(&mut pair), ["> subscribe presence-room"]);
}

#[test]
fn an_update_that_was_refused_is_not_remembered() {
    let mut pair = in_room_as("ann");
    update(&mut pair, "7");
    pair.update(2, ROOM, "8");
    let id = pair.id("update");
    pair.say(error(id, Code::PAYLOAD_TOO_LARGE));
    pair.expect(&["> update presence-room 8", "done 2: 4306"]);
    come_back_as(&mut pair, "ann");
    assert_eq!(sent(&mut pair), ["> subscribe presence-room info 7"]);
}

#[test]
fn an_update_before_the_subscription_goes_out_with_it() {
    let mut pair = Pair::new(Options::default());
    pair.subscribe(ROOM);
    pair.update(1, ROOM, "6");
    pair.update(2, ROOM, "7");
    pair.input(Input::Connect);
    pair.greet_as("ann");
    assert_eq!(sent(&mut pair), ["> subscribe presence-room info 7"]);
    // One that comes after the command follows it.
    pair.update(3, ROOM, "8");
    confirm(&mut pair);
    assert_eq!(
        sent(&mut pair),
        ["done 1", "done 2", "> update presence-room 8"]
    );
}

#[test]
fn a_lost_answer_is_made_up_for_by_the_next_subscription() {
    let mut pair = in_room_as("ann");
    pair.update(1, ROOM, "7");
    come_back_as(&mut pair, "ann");
    assert_eq!(
        sent(&mut pair),
        [
            "> update presence-room 7",
            "> subscribe presence-room info 7"
        ]
    );
    confirm(&mut pair);
    assert_eq!(sent(&mut pair), ["done 1"]);
}

#[test]
fn the_last_of_several_updates_is_what_remains() {
    let mut pair = in_room_as("ann");
    for request in 1..=4 {
        pair.update(request, ROOM, &request.to_string());
    }
    // One at a time; those in between are overtaken.
    pair.expect(&["> update presence-room 1"]);
    let first = pair.id("update");
    // Too soon: it must not come after the others.
    pair.say(error(first, Code::RATE_LIMITED));
    pair.advance(2_000);
    assert_eq!(sent(&mut pair), ["> update presence-room 4"]);
    let last = pair.id("update");
    pair.say(ok(last));
    let mut done = sent(&mut pair);
    done.sort();
    assert_eq!(done, ["done 1", "done 2", "done 3", "done 4"]);
    pair.advance(20_000);
    assert_eq!(
        pair.take()
            .iter()
            .filter(|line| line.contains("update"))
            .count(),
        0
    );
}

#[test]
fn a_newer_update_that_fails_leaves_the_older_to_be_sent() {
    let mut pair = in_room_as("ann");
    for request in 1..=3 {
        pair.update(request, ROOM, &request.to_string());
    }
    pair.say(ok(pair.id("update")));
    assert_eq!(
        sent(&mut pair),
        [
            "> update presence-room 1",
            "done 1",
            "> update presence-room 3"
        ]
    );
    pair.say(error(pair.id("update"), Code::PAYLOAD_TOO_LARGE));
    assert_eq!(
        sent(&mut pair),
        ["done 3: 4306", "> update presence-room 2"]
    );
}

#[test]
fn an_update_is_repeated_when_the_server_could_not() {
    let mut pair = in_room_as("ann");
    pair.update(1, ROOM, "7");
    pair.say(error(pair.id("update"), Code::UNKNOWN_OUTCOME));
    pair.take();
    pair.advance(2_000);
    pair.expect(&["> update presence-room 7"]);
    pair.say(ok(pair.id("update")));
    pair.expect(&["done 1"]);
}

#[test]
fn info_that_is_not_allowed_is_dropped_and_the_channel_comes_without_it() {
    let mut pair = Pair::new(Options::default());
    pair.subscribe(ROOM);
    pair.update(1, ROOM, "7");
    pair.input(Input::Connect);
    pair.greet_as("ann");
    pair.take();
    let id = pair.id("subscribe");
    pair.say(refused(id, ROOM, Code::PRESENCE_UPDATE_NOT_ALLOWED));
    pair.expect(&["done 1: 4330", "> subscribe presence-room"]);
    confirm(&mut pair);
    pair.expect(&["presence-room subscribed"]);
}

#[test]
fn remembered_info_that_is_no_longer_allowed_is_one_error() {
    let mut pair = in_room_as("ann");
    update(&mut pair, "7");
    come_back_as(&mut pair, "ann");
    pair.take();
    let id = pair.id("subscribe");
    pair.say(refused(id, ROOM, Code::PRESENCE_UPDATE_NOT_ALLOWED));
    pair.expect(&["error: 4330", "> subscribe presence-room"]);
    confirm(&mut pair);
    come_back_as(&mut pair, "ann");
    assert_eq!(sent(&mut pair), ["> subscribe presence-room"]);
}

#[test]
fn info_that_is_too_large_fails_alone() {
    let mut pair = in_room_as("ann");
    update(&mut pair, "7");
    pair.close(1006);
    pair.update(2, ROOM, "8");
    pair.advance_to_timer();
    pair.greet_as("ann");
    pair.take();
    let id = pair.id("subscribe");
    pair.say(refused(id, ROOM, Code::PAYLOAD_TOO_LARGE));
    pair.expect(&["done 2: 4306", "> subscribe presence-room info 7"]);
}

#[test]
fn too_many_bytes_of_info_are_no_error_of_the_channel() {
    for code in [Code::PUBLISH_RATE, Code::CHANNEL_RATE] {
        let mut pair = in_room_as("ann");
        update(&mut pair, "7");
        come_back_as(&mut pair, "ann");
        pair.take();
        let id = pair.id("subscribe");
        pair.say(refused(id, ROOM, code));
        pair.take();
        pair.advance_to_timer();
        pair.expect(&["> subscribe presence-room info 7"]);
    }
}

#[test]
fn another_user_does_not_show_what_the_last_one_did() {
    let mut pair = in_room_as("ann");
    update(&mut pair, "7");
    come_back_as(&mut pair, "bob");
    assert_eq!(sent(&mut pair), ["> subscribe presence-room"]);
}

/// Its members are those that channel tokens name, and the next token may name another.
#[test]
fn a_connection_without_a_user_does_not_show_what_the_one_before_did() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe(ROOM);
    confirm(&mut pair);
    update(&mut pair, "7");
    pair.close(1006);
    pair.advance_to_timer();
    pair.greet();
    assert_eq!(sent(&mut pair), ["> subscribe presence-room"]);
}

#[test]
fn an_update_that_is_on_its_way_is_answered_for_itself() {
    let mut pair = Pair::connected(Options::default());
    pair.update(1, ROOM, "7");
    let id = pair.id("update");
    pair.subscribe(ROOM);
    let commands = ["> update presence-room 7", "> subscribe presence-room"];
    assert_eq!(sent(&mut pair), commands);
    pair.say(error(id, Code::NOT_SUBSCRIBED));
    assert!(pair.take()[0].starts_with("done 1: "));
}

#[test]
fn an_update_without_an_answer_is_not_repeated_as_another_user() {
    let mut pair = in_room_as("ann");
    pair.update(1, ROOM, "7");
    pair.take();
    come_back_as(&mut pair, "bob");
    let sent = sent(&mut pair);
    assert_eq!(sent.last().unwrap(), "> subscribe presence-room");
    assert!(sent[0].starts_with("done 1: unknown-outcome"), "{sent:?}");
}

#[test]
fn info_goes_with_the_subscription() {
    let mut pair = in_room_as("ann");
    update(&mut pair, "7");
    pair.unsubscribe(ROOM);
    let id = pair.id("unsubscribe");
    pair.say(unsubscribed(id, ROOM, 1000));
    pair.take();
    pair.subscribe(ROOM);
    assert_eq!(sent(&mut pair), ["> subscribe presence-room"]);
}

#[test]
fn info_may_come_with_the_options() {
    let mut pair = Pair::connected(Options::default());
    let options = SubscribeOptions::default().info(RawJson::trusted("7"));
    pair.subscribe_with(ROOM, options);
    assert_eq!(sent(&mut pair), ["> subscribe presence-room info 7"]);
}

#[test]
fn an_update_while_the_channel_token_is_fetched_goes_out_with_the_subscription() {
    let mut options = Options::default();
    options.channel_auth = true;
    let mut pair = Pair::connected(options);
    pair.subscribe(ROOM);
    pair.update(1, ROOM, "7");
    pair.input(Input::ChannelAuth {
        channel: name(ROOM),
        socket_id: socket(1),
        reply: ChannelAuthReply::Granted {
            auth: "a".to_owned(),
            channel_data: None,
        },
    });
    assert_eq!(sent(&mut pair), ["> subscribe presence-room auth a info 7"]);
}

#[test]
fn an_aborted_update_is_not_remembered_and_not_an_error_of_the_channel() {
    let mut pair = Pair::new(Options::default());
    pair.subscribe(ROOM);
    pair.update(1, ROOM, "7");
    pair.input(Input::Connect);
    pair.greet_as("ann");
    pair.input(Input::Abort {
        request: RequestId(1),
    });
    pair.take();
    let id = pair.id("subscribe");
    pair.say(refused(id, ROOM, Code::PRESENCE_UPDATE_NOT_ALLOWED));
    pair.expect(&["error: 4330", "> subscribe presence-room"]);
}

#[test]
fn a_subscription_proves_no_update_that_it_does_not_carry() {
    let mut pair = Pair::connected(Options::default());
    // Sent at once, as the channel is not the client's yet.
    pair.update(1, ROOM, "7");
    pair.subscribe(ROOM);
    pair.expect(&[
        "> update presence-room 7",
        "> subscribe presence-room",
        "presence-room subscribing",
    ]);
    confirm(&mut pair);
    pair.expect(&["presence-room subscribed"]);
    let id = pair.id("update");
    pair.say(error(id, Code::NOT_SUBSCRIBED));
    pair.expect(&["done 1: 4310"]);
}
