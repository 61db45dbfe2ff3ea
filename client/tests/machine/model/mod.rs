//! Random worlds: whatever the line, the server, the page and the application do, what the application is told stays true, and
//! once everything works again nothing is missing.

mod checker;
mod server;
mod world;

use fanfare_client::{Event, Options};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use checker::Checker;
use server::{Disturbance, Trouble};
use world::{CHANNELS, Step, World};

use crate::say::name;

/// What happens to any client, on servers that keep their history.
fn ordinary_step() -> BoxedStrategy<Step> {
    let channel = 0..CHANNELS.len();
    let member = 0..4_u8;
    let frame = 0..6_u8;
    let disturbance = select(&[Disturbance::Lose, Disturbance::Duplicate, Disturbance::Swap]);
    let trouble = select(&[
        Trouble::UnknownAndDone,
        Trouble::UnknownAndNot,
        Trouble::Unavailable,
        Trouble::Forbidden,
    ]);
    prop_oneof![
        1 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        4 => channel.clone().prop_map(Step::Subscribe),
        2 => channel.clone().prop_map(Step::Unsubscribe),
        3 => channel.clone().prop_map(Step::Publish),
        12 => channel.clone().prop_map(Step::Event),
        3 => member.clone().prop_map(Step::MemberComes),
        2 => member.clone().prop_map(Step::MemberGoes),
        3 => (member.clone(), 0..9_u64).prop_map(|(id, info)| Step::MemberUpdates(id, info)),
        3 => member.prop_map(Step::Update),
        10 => Just(Step::SocketOpens),
        1 => Just(Step::SocketFails),
        2 => Just(Step::Cut),
        1 => Just(Step::Stall),
        14 => (1..8_u8).prop_map(Step::ServerTurns),
        14 => (1..8_u8).prop_map(Step::ClientTurns),
        6 => (frame, disturbance).prop_map(|(at, how)| Step::Disturb(at, how)),
        2 => (1..8_u8, channel.clone()).prop_map(|(n, at)| Step::BatchThenUnsubscribe(n, at)),
        1 => Just(Step::RefuseNext),
        3 => trouble.prop_map(Step::Trouble),
        6 => any::<bool>().prop_map(Step::Answer),
        1 => Just(Step::Online),
        1 => Just(Step::Offline),
        1 => Just(Step::Wake),
        1 => Just(Step::Suspend),
        6 => (0..12_000_u64).prop_map(Step::Wait),
        1 => (0..90_000_u64).prop_map(Step::Sleep),
    ]
    .boxed()
}

/// The same, and the server loses history.
fn lossy_step() -> BoxedStrategy<Step> {
    let channel = 0..CHANNELS.len();
    prop_oneof![
        20 => ordinary_step(),
        1 => channel.clone().prop_map(Step::Restart),
        1 => channel.prop_map(Step::Trim),
    ]
    .boxed()
}

fn options() -> impl Strategy<Value = Options> {
    (any::<bool>(), any::<bool>()).prop_map(|(token_provider, channel_auth)| {
        let mut options = Options::default();
        options.token_provider = token_provider;
        options.channel_auth = channel_auth;
        options
    })
}

/// With a user or without.
fn user() -> impl Strategy<Value = Option<&'static str>> {
    select(&[None, Some("ann")])
}

fn run(options: Options, user: Option<&str>, seed: u64, steps: &[Step]) -> Result<World, String> {
    let mut world = World::new(options, user, seed);
    world.step(&Step::Connect)?;
    for step in steps {
        world.step(step)?;
    }
    world.heal()?;
    Ok(world)
}

proptest! {
    /// No gap and no reset is excused, for nothing is ever lost.
    #[test]
    fn with_a_history_that_lasts_every_message_arrives_once_and_in_order(
        options in options(),
        user in user(),
        seed in any::<u64>(),
        steps in vec(ordinary_step(), 0..250),
    ) {
        run(options, user, seed, &steps).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn with_a_history_that_is_lost_nothing_is_missing_without_a_word(
        options in options(),
        user in user(),
        seed in any::<u64>(),
        steps in vec(lossy_step(), 0..250),
    ) {
        run(options, user, seed, &steps).map_err(TestCaseError::fail)?;
    }
}

/// A world in which a lot comes out: two connections, ten messages.
fn busy_world() -> World {
    let mut steps = vec![
        Step::SocketOpens,
        Step::ClientTurns(1),
        Step::Subscribe(1),
        Step::ServerTurns(1),
        Step::ClientTurns(1),
    ];
    for round in 0..2 {
        steps.extend((0..5).map(|_| Step::Event(1)));
        steps.push(Step::ClientTurns(if round == 0 { 3 } else { 9 }));
        if round == 0 {
            steps.extend([Step::Cut, Step::Wait(600), Step::SocketOpens]);
            steps.extend([Step::ClientTurns(1), Step::ServerTurns(1)]);
        }
    }
    run(Options::default(), None, 1, &steps).expect("an ordinary world")
}

/// Feeds the checker a trace that was tampered with.
fn check(world: &World, tamper: impl FnOnce(&mut Vec<usize>)) -> Result<(), String> {
    let is_message = |at: &usize| matches!(world.trace[*at].0, Event::Message(_));
    let mut order: Vec<usize> = (0..world.trace.len()).collect();
    let messages = order.iter().copied().filter(is_message).count();
    assert!(messages > 10, "{messages} messages");
    tamper(&mut order);
    let mut checker = Checker::default();
    checker.want(&name("orders"));
    for at in order {
        let (event, start) = &world.trace[at];
        checker.event(event, world.published(), *start)?;
    }
    Ok(())
}

#[test]
fn the_checker_finds_what_is_planted() {
    let world = busy_world();
    let messages: Vec<usize> = (0..world.trace.len())
        .filter(|&at| matches!(world.trace[at].0, Event::Message(_)))
        .collect();
    let last = messages[messages.len() - 1];
    check(&world, |_| {}).expect("the trace itself is right");
    for &at in &messages {
        if at != last {
            check(&world, |order| order.retain(|&other| other != at)).expect_err("a loss");
        }
        if messages.contains(&(at + 1)) {
            check(&world, |order| order.swap(at, at + 1)).expect_err("a swap");
        }
        check(&world, |order| order.insert(at, at)).expect_err("a repetition");
    }
    let published = world.published();
    let mut checker = Checker::default();
    checker.want(&name("orders"));
    let mut unwanted = Checker::default();
    let (event, start) = &world.trace[messages[0]];
    unwanted
        .event(event, published, *start)
        .expect_err("a message that nobody wants");
    checker
        .event(event, published, *start)
        .expect_err("a message before the subscription");
}
