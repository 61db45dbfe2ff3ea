//! Members: a snapshot, then comings and goings.

use fanfare_client::Options;
use fanfare_protocol::{
    Code, ErrorMessage, Member, Position, Presence, Reply, ServerMessage, SubscriptionSucceeded,
};

use crate::pair::Pair;
use crate::say::{
    Data, Said, at, came, error, gap, member, members, name, pong, reset, succeeded, unsubscribed,
    updated, user, went,
};

const ROOM: &str = "presence-room";

fn joined(
    id: u64,
    position: Option<Position>,
    recovered: bool,
    events: Vec<fanfare_protocol::Event<Data>>,
    ids: &[&str],
) -> Said {
    ServerMessage::SubscriptionSucceeded(SubscriptionSucceeded {
        position,
        recovered,
        events,
        presence: Some(members(ids)),
        ..succeeded(id, ROOM)
    })
}

fn in_room(position: Option<Position>, ids: &[&str]) -> Pair {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe(ROOM);
    let id = pair.id("subscribe");
    pair.say(joined(id, position, false, vec![], ids));
    pair.take();
    pair
}

#[track_caller]
fn check_members(pair: &Pair, ids: &[&str]) {
    let found: Vec<Member<Data>> = pair.client.members(&name(ROOM)).to_vec();
    let expected: Vec<Member<Data>> = ids.iter().map(|id| member(id)).collect();
    assert_eq!(found, expected);
}

fn snapshot(id: u64, position: Option<Position>, ids: &[&str]) -> Said {
    ServerMessage::Ok(Reply {
        presence: Some(members(ids)),
        position,
        ..Reply::new(id)
    })
}

#[test]
fn the_snapshot_comes_with_the_subscription_and_changes_follow() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe(ROOM);
    let id = pair.id("subscribe");
    pair.take();
    pair.say(joined(id, Some(at(1, 5)), false, vec![], &["bob", "ann"]));
    pair.expect(&["presence-room subscribed", "presence-room sync 2 ann,bob"]);
    pair.say(ServerMessage::Event(came(ROOM, "cid", Some(at(1, 6)))));
    pair.say(ServerMessage::Event(went(ROOM, "ann", Some(at(1, 7)))));
    pair.expect(&["presence-room joined cid", "presence-room left ann"]);
    check_members(&pair, &["bob", "cid"]);
}

#[test]
fn a_repeated_change_counts_once() {
    let mut pair = in_room(Some(at(1, 5)), &["ann"]);
    for _ in 0..2 {
        pair.say(ServerMessage::Event(came(ROOM, "bob", Some(at(1, 6)))));
    }
    pair.expect(&["presence-room joined bob"]);
    for _ in 0..2 {
        pair.say(ServerMessage::Event(went(ROOM, "ann", Some(at(1, 7)))));
    }
    pair.expect(&["presence-room left ann"]);
}

#[test]
fn a_member_unknown_to_a_capped_list_may_leave() {
    let mut pair = in_room(None, &["ann"]);
    pair.say(ServerMessage::Event(went(ROOM, "zoe", None)));
    pair.expect(&["presence-room left zoe unknown"]);
    check_members(&pair, &["ann"]);
}

/// A list that the server has cut off.
fn capped(id: u64, position: Option<Position>, ids: &[&str], count: u64) -> Said {
    let presence = Presence {
        count,
        ..members(ids)
    };
    ServerMessage::Ok(Reply {
        presence: Some(presence),
        position,
        ..Reply::new(id)
    })
}

/// In a room of four of whom three are listed.
fn in_full_room() -> Pair {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe(ROOM);
    let id = pair.id("subscribe");
    let presence = Presence {
        count: 4,
        ..members(&["ann", "bob", "cid"])
    };
    pair.say(ServerMessage::SubscriptionSucceeded(
        SubscriptionSucceeded {
            position: Some(at(1, 5)),
            presence: Some(presence),
            ..succeeded(id, ROOM)
        },
    ));
    pair.take();
    pair
}

#[test]
fn a_partial_list_is_completed_when_there_is_room() {
    let mut pair = in_full_room();
    pair.say(ServerMessage::Event(went(ROOM, "bob", Some(at(1, 6)))));
    pair.expect(&["presence-room left bob"]);
    // Not all clients ask at once: within 30 ms per member.
    pair.advance(90);
    pair.expect(&["> presence presence-room"]);
    let id = pair.id("presence");
    pair.say(ServerMessage::Event(came(ROOM, "eve", Some(at(1, 7)))));
    pair.take();
    pair.say(snapshot(id, Some(at(1, 6)), &["ann", "cid", "dan"]));
    pair.expect(&["presence-room sync 4 ann,cid,dan,eve"]);
    check_members(&pair, &["ann", "cid", "dan", "eve"]);
    pair.advance(24_000);
    pair.expect(&[]);
}

#[test]
fn a_list_that_stays_partial_is_asked_for_rarely() {
    let mut pair = in_full_room();
    let mut asked = 0;
    let mut offset = 5;
    for _ in 0..40 {
        for event in [went, came] {
            offset += 1;
            pair.say(ServerMessage::Event(event(
                ROOM,
                "bob",
                Some(at(1, offset)),
            )));
        }
        pair.take();
        pair.advance(500);
        if pair
            .take()
            .iter()
            .any(|line| line.starts_with("> presence"))
        {
            asked += 1;
            let id = pair.id("presence");
            pair.say(capped(id, Some(at(1, offset)), &["ann", "bob", "cid"], 4));
            pair.take();
        }
    }
    assert_eq!(asked, 1, "within 20 s");
}

/// Lets so many seconds pass on a connection that is alive; the questions that were asked, by their second.
fn questions(pair: &mut Pair, seconds: u64) -> Vec<u64> {
    let mut asked = Vec::new();
    pair.take();
    for second in 1..=seconds {
        pair.advance(1_000);
        pair.say(pong());
        let trace = pair.take();
        let lines = trace.iter().filter(|line| line.starts_with("> presence"));
        asked.extend(lines.map(|_| second));
    }
    asked
}

#[test]
fn gaps_and_a_partial_list_share_one_pace() {
    let mut pair = in_full_room();
    let mut asked = Vec::new();
    // For 60 s, ten times a second: somebody leaves, so that there is room, and messages are lost.
    for step in 0..600 {
        let offset = 6 + step;
        pair.say(ServerMessage::Event(went(ROOM, "bob", Some(at(1, offset)))));
        pair.say(gap(ROOM, None));
        let trace = pair.take();
        for _ in trace.iter().filter(|line| line.starts_with("> presence")) {
            asked.push(pair.now);
            let id = pair.id("presence");
            pair.say(capped(id, Some(at(1, offset)), &["ann", "bob", "cid"], 4));
        }
        pair.advance(100);
    }
    assert!(asked.windows(2).all(|two| two[1].since(two[0]) >= 1_000));
    assert!(
        (50..=60).contains(&asked.len()),
        "{} questions",
        asked.len()
    );
    // The last gaps are accounted for once, and the list that is still partial no sooner than 30 s after that.
    pair.advance(1_000);
    let id = pair.id("presence");
    pair.say(capped(id, Some(at(1, 605)), &["ann", "bob", "cid"], 4));
    pair.say(ServerMessage::Event(went(ROOM, "bob", Some(at(1, 606)))));
    let asked = questions(&mut pair, 35);
    assert!(matches!(asked[..], [29..=31]), "{asked:?}");
    let id = pair.id("presence");
    pair.say(snapshot(id, Some(at(1, 606)), &["ann", "cid", "dan"]));
    check_members(&pair, &["ann", "cid", "dan"]);
    assert!(questions(&mut pair, 60).is_empty());
}

#[test]
fn a_partial_list_survives_an_answer_that_is_lost() {
    let mut pair = in_full_room();
    pair.say(ServerMessage::Event(went(ROOM, "bob", Some(at(1, 6)))));
    pair.advance(90);
    pair.expect(&["presence-room left bob", "> presence presence-room"]);
    // No answer for 10 s: a second later again.
    assert_eq!(questions(&mut pair, 12), [11]);
    let id = pair.id("presence");
    pair.say(snapshot(id, Some(at(1, 6)), &["ann", "cid", "dan"]));
    check_members(&pair, &["ann", "cid", "dan"]);
}

#[test]
fn a_snapshot_that_is_refused_for_now_is_asked_for_again() {
    let mut pair = in_room(Some(at(1, 5)), &["ann"]);
    pair.say(gap(ROOM, None));
    let mut refusal = ErrorMessage::new(Some(pair.id("presence")), Code::READ_RATE);
    refusal.retry_after = Some(3_000);
    pair.take();
    pair.say(ServerMessage::Error(refusal));
    pair.expect(&[]);
    assert_eq!(pair.advance_to_timer(), 3_000);
    pair.expect(&["> presence presence-room"]);
    pair.say(error(pair.id("presence"), Code::NO_PRESENCE));
    pair.advance(20_000);
    pair.expect(&[]);
}

#[test]
fn a_member_shows_other_info() {
    let mut pair = in_full_room();
    pair.say(ServerMessage::Event(updated(
        ROOM,
        "bob",
        7,
        Some(at(1, 6)),
    )));
    // Seen already, and one of those who are not listed.
    pair.say(ServerMessage::Event(updated(
        ROOM,
        "bob",
        8,
        Some(at(1, 6)),
    )));
    pair.say(ServerMessage::Event(updated(
        ROOM,
        "zoe",
        9,
        Some(at(1, 7)),
    )));
    pair.expect(&[
        "presence-room updated bob Number(7)",
        "presence-room updated zoe Number(9)",
    ]);
    let infos: Vec<Data> = (pair.client.members(&name(ROOM)).iter())
        .map(|member| member.info.clone())
        .collect();
    assert_eq!(
        infos,
        [Data::Text("info"), Data::Number(7), Data::Text("info")]
    );
    assert_eq!(pair.client.synced_members(&name(ROOM)).unwrap().1, 4);
}

#[test]
fn other_info_that_came_with_a_snapshot_under_way_follows_it() {
    let mut pair = in_room(Some(at(1, 5)), &["ann", "bob"]);
    pair.say(gap(ROOM, None));
    let id = pair.id("presence");
    for (info, offset) in [(6, 6), (7, 7)] {
        let event = updated(ROOM, "bob", info, Some(at(1, offset)));
        pair.say(ServerMessage::Event(event));
    }
    pair.say(snapshot(id, Some(at(1, 6)), &["ann", "bob"]));
    let bob = &pair.client.members(&name(ROOM))[1];
    assert_eq!(bob.info, Data::Number(7));
}

#[test]
fn members_are_kept_while_away_and_missed_changes_come_before_the_new_snapshot() {
    let mut pair = in_room(Some(at(1, 5)), &["ann", "bob"]);
    pair.close(1006);
    check_members(&pair, &["ann", "bob"]);
    pair.advance_to_timer();
    pair.greet();
    pair.take();
    let id = pair.id("subscribe");
    let missed = vec![
        went(ROOM, "bob", Some(at(1, 6))),
        came(ROOM, "cid", Some(at(1, 7))),
    ];
    pair.say(joined(id, Some(at(1, 7)), true, missed, &["ann", "cid"]));
    pair.expect(&[
        "presence-room subscribed recovered",
        "presence-room left bob recovered",
        "presence-room joined cid recovered",
        "presence-room sync 2 ann,cid",
    ]);
}

#[test]
fn a_first_subscription_does_not_replay_old_comings() {
    let mut pair = Pair::connected(Options::default());
    pair.subscribe(ROOM);
    let id = pair.id("subscribe");
    pair.take();
    let rewound = vec![came(ROOM, "ann", Some(at(1, 1)))];
    pair.say(joined(id, Some(at(1, 1)), false, rewound, &["ann"]));
    pair.expect(&["presence-room subscribed", "presence-room sync 1 ann"]);
}

#[test]
fn after_a_gap_or_a_reset_the_members_are_asked_for() {
    for lost in [gap(ROOM, None), reset(ROOM, at(2, 0))] {
        let mut pair = in_room(Some(at(1, 5)), &["ann", "bob"]);
        pair.say(lost);
        let trace = pair.take();
        assert_eq!(trace[1..], ["> presence presence-room"]);
        let id = pair.id("presence");
        pair.say(snapshot(id, None, &["bob", "cid"]));
        pair.expect(&["presence-room sync 2 bob,cid"]);
        check_members(&pair, &["bob", "cid"]);
    }
}

#[test]
fn changes_and_a_snapshot_compose_in_either_order() {
    let mut pair = in_room(Some(at(1, 5)), &["ann"]);
    pair.say(reset(ROOM, at(2, 0)));
    let id = pair.id("presence");
    // The snapshot is of 2/2: two changes came before its reply, of which it has one, and one it has comes after it.
    pair.say(ServerMessage::Event(came(ROOM, "bob", Some(at(2, 1)))));
    pair.take();
    pair.say(snapshot(id, Some(at(2, 2)), &["ann", "bob", "cid"]));
    pair.say(ServerMessage::Event(came(ROOM, "cid", Some(at(2, 2)))));
    pair.say(ServerMessage::Event(went(ROOM, "bob", Some(at(2, 3)))));
    pair.expect(&["presence-room sync 3 ann,bob,cid", "presence-room left bob"]);

    pair.advance(1_000);
    pair.say(gap(ROOM, None));
    let id = pair.id("presence");
    pair.say(ServerMessage::Event(went(ROOM, "ann", Some(at(2, 4)))));
    pair.take();
    pair.say(snapshot(id, Some(at(2, 3)), &["ann", "cid"]));
    pair.expect(&["presence-room sync 1 cid"]);
}

#[test]
fn more_changes_than_a_snapshot_can_wait_for_ask_for_another() {
    let mut pair = in_room(Some(at(1, 0)), &["ann"]);
    pair.say(gap(ROOM, None));
    let id = pair.id("presence");
    for offset in 1..=300 {
        let member = format!("u{offset}");
        pair.say(ServerMessage::Event(came(
            ROOM,
            &member,
            Some(at(1, offset)),
        )));
    }
    pair.take();
    pair.say(snapshot(id, Some(at(1, 1)), &["ann"]));
    pair.expect(&[]);
    assert_eq!(pair.advance_to_timer(), 1_000);
    pair.expect(&["> presence presence-room"]);
}

#[test]
fn any_number_of_gaps_costs_one_question_a_second() {
    let mut pair = in_room(Some(at(1, 5)), &["ann"]);
    for _ in 0..100 {
        pair.say(gap(ROOM, None));
    }
    let asked = |trace: Vec<String>| {
        trace
            .iter()
            .filter(|line| line.contains("> presence"))
            .count()
    };
    assert_eq!(asked(pair.take()), 1);
    // The snapshot may be older than the last of them.
    pair.say(snapshot(pair.id("presence"), None, &["ann"]));
    pair.expect(&[]);
    assert_eq!(pair.advance_to_timer(), 1_000);
    pair.say(snapshot(pair.id("presence"), None, &["bob"]));
    pair.expect(&["> presence presence-room", "presence-room sync 1 bob"]);

    for _ in 0..50 {
        pair.say(gap(ROOM, None));
        pair.advance(100);
        let id = pair.id("presence");
        pair.say(snapshot(id, None, &["ann"]));
    }
    let asked = asked(pair.take());
    assert!((4..=6).contains(&asked), "{asked} in 5 s");
}

#[test]
fn a_snapshot_that_does_not_come_is_given_up() {
    let mut pair = in_room(Some(at(1, 5)), &["ann"]);
    pair.say(gap(ROOM, None));
    let id = pair.id("presence");
    pair.take();
    pair.advance(10_000);
    pair.say(snapshot(id, None, &["zoe"]));
    pair.expect(&[]);
    check_members(&pair, &["ann"]);
    pair.advance(1_000);
    pair.expect(&["> presence presence-room"]);
}

#[test]
fn members_go_with_the_subscription() {
    let mut pair = in_room(Some(at(1, 5)), &["ann"]);
    pair.unsubscribe(ROOM);
    check_members(&pair, &[]);
    let id = pair.id("unsubscribe");
    pair.say(unsubscribed(id, ROOM, 1000));
    pair.subscribe(ROOM);
    check_members(&pair, &[]);
}

#[test]
fn a_change_that_cannot_be_read_is_told_and_moves_the_position() {
    let mut pair = in_room(Some(at(1, 5)), &["ann"]);
    let mut strange = came(ROOM, "bob", Some(at(1, 6)));
    strange.data = Data::Text("?");
    pair.say(ServerMessage::Event(strange));
    pair.say(ServerMessage::Event(came(ROOM, "cid", Some(at(1, 7)))));
    pair.expect(&["error: protocol", "presence-room joined cid"]);
    assert!(pair.client.user_id() != Some(&user("bob")));
}
