//! The short way of plain messages.

use fanfare_client::{Input, Options};
use fanfare_protocol::{ServerMessage, Tag};
use proptest::prelude::*;

use crate::pair::Pair;
use crate::say::{at, gap, live, name, pong, reset, skipped, succeeded, tag};

impl Pair {
    fn follow(&mut self, channel: &str, offset: Option<u64>, tag: Tag) -> bool {
        self.client.follow(&name(channel), offset, tag, self.now)
    }
}

#[test]
fn only_the_next_message_is_followed() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    for offset in [None, Some(4), Some(5), Some(7), Some(u64::MAX)] {
        assert!(!pair.follow("orders", offset, Tag(1)), "{offset:?}");
        assert_eq!(pair.client.position(&name("orders")), Some(at(1, 5)));
    }
    assert!(pair.follow("orders", Some(6), tag(1, 6)));
    assert_eq!(pair.client.position(&name("orders")), Some(at(1, 6)));
    pair.say(live("orders", 1, 7));
    pair.expect(&["orders e 1/7"]);
}

#[test]
fn a_channel_without_history_follows_what_has_no_offset() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe("live");
    let id = pair.id("subscribe");
    assert!(!pair.follow("live", None, Tag(0)), "not subscribed yet");
    pair.say(ServerMessage::SubscriptionSucceeded(succeeded(id, "live")));
    assert!(pair.follow("live", None, Tag(0)));
    assert!(!pair.follow("live", Some(1), Tag(1)));
}

#[test]
fn a_channel_that_is_left_follows_nothing() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.subscribe("another");
    assert!(pair.follow("orders", Some(6), tag(1, 6)));
    pair.unsubscribe("orders");
    assert!(!pair.follow("orders", Some(7), tag(1, 7)));
    assert!(!pair.follow("nowhere", None, Tag(0)));
}

#[test]
fn nothing_is_followed_past_what_waits() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.client.handle(Input::Wake, pair.now);
    assert!(!pair.follow("orders", Some(6), Tag(1)), "a ping waits");
    assert!(pair.client.poll_output().is_some());
    assert!(
        !pair.follow("orders", Some(6), Tag(1)),
        "a ping is not answered"
    );
    pair.say(pong());
    assert!(pair.follow("orders", Some(6), Tag(1)));
}

#[test]
fn what_is_followed_is_a_sign_of_life() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    for offset in 6..16 {
        pair.advance(10_000);
        assert!(pair.follow("orders", Some(offset), tag(1, offset)));
    }
    pair.expect(&[]);
}

#[test]
fn without_a_connection_nothing_is_followed() {
    let mut pair = Pair::subscribed("orders", at(1, 5));
    pair.close(1006);
    assert!(!pair.follow("orders", Some(6), Tag(1)));
}

proptest! {
    /// One machine is asked first, the other never: what comes out differs by the messages that were followed alone.
    #[test]
    fn both_ways_lead_to_the_same(steps in prop::collection::vec((0..6_u8, 0..4_u64), 1..40)) {
        let mut short = Pair::subscribed("orders", at(1, 5));
        let mut long = Pair::subscribed("orders", at(1, 5));
        for (kind, ahead) in steps {
            let Some(stands) = long.client.position(&name("orders")) else { break };
            let offset = (stands.offset + ahead).saturating_sub(1);
            let message = match kind {
                0 => gap("orders", Some((stands.offset + 1, stands.offset + ahead))),
                1 => skipped("orders", 1, offset),
                2 if ahead == 0 => reset("orders", at(1, offset)),
                _ => live("orders", 1, offset),
            };
            let is_counted = kind == 1 || (kind > 1 && !(kind == 2 && ahead == 0));
            let is_followed = is_counted && short.follow("orders", Some(offset), tag(1, offset));
            long.say(message.clone());
            let expected = long.take();
            if is_followed {
                let heard = if kind == 1 { vec![] } else { vec![format!("orders e 1/{offset}")] };
                prop_assert_eq!(expected, heard);
            } else {
                short.say(message);
                prop_assert_eq!(short.take(), expected);
            }
            prop_assert_eq!(short.client.position(&name("orders")), long.client.position(&name("orders")));
            prop_assert_eq!(short.client.channel_state(&name("orders")), long.client.channel_state(&name("orders")));
        }
    }
}
