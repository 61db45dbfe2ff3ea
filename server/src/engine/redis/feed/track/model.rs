//! A track between a store that forgets and a network that loses, against what a subscriber must see.

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use self::world::World;

mod world;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A message is published; the network delivers it, or does not.
    Publish { arrives: bool },
    /// The oldest message under way arrives.
    Arrive,
    /// A message under way arrives a second time.
    Repeat,
    /// The subscription ends; what was under way is gone.
    Cut,
    /// The subscription stands again.
    Subscribe,
    /// The queue before the track was full: what was under way is gone and the track is told.
    Overflow,
    /// A read that was asked for starts.
    BeginRead,
    /// It comes back with what the store says now.
    EndRead,
    /// The store is asked where it stands.
    BeginSync,
    /// The answer is there.
    EndSync,
    /// The store loses its newest messages, and what was under way stays under way.
    Rewind(u8),
    /// Another master takes over that lacks the newest messages. Some are repeated there, and a new one comes before the last.
    Fork {
        lost: u8,
        /// One bit for each.
        repeated: u8,
    },
    /// The store loses everything.
    Lose,
    /// The oldest messages are trimmed.
    Trim(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<bool>().prop_map(|arrives| Step::Publish { arrives }),
        4 => Just(Step::Publish { arrives: true }),
        12 => Just(Step::Arrive),
        1 => Just(Step::Repeat),
        2 => Just(Step::Cut),
        4 => Just(Step::Subscribe),
        1 => Just(Step::Overflow),
        6 => Just(Step::BeginRead),
        6 => Just(Step::EndRead),
        2 => Just(Step::BeginSync),
        2 => Just(Step::EndSync),
        1 => (1_u8..4).prop_map(Step::Rewind),
        3 => (1_u8..4, any::<u8>()).prop_map(|(lost, repeated)| Step::Fork { lost, repeated }),
        1 => Just(Step::Lose),
        1 => (1_u8..4).prop_map(Step::Trim),
    ]
}

/// What happens in one run. In every other one the network loses nothing silently and the store forgets nothing.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let steps = proptest::collection::vec(step(), 1..120);
    (any::<bool>(), steps).prop_map(|(is_honest, mut steps)| {
        for step in steps.iter_mut().filter(|_| is_honest) {
            match step {
                Step::Publish { arrives } => *arrives = true,
                Step::Rewind(_) | Step::Fork { .. } | Step::Lose => *step = Step::Arrive,
                _ => {}
            }
        }
        steps
    })
}

/// What can be wrong around a track, planted to see whether the property notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The position is read before the subscription stands.
    ReadBeforeSubscribed,
    /// A read's messages come newest first.
    FeedReversed,
    /// A read's oldest message is left out.
    SkipFirstRead,
    /// The store is never compared.
    NeverSync,
    /// A lost connection is not told to the track.
    HideCut,
    /// An overflow is not told to the track.
    HideOverflow,
    /// A read counts for losses that came after it began.
    TrustOldReads,
    /// What the store says is compared with where the track stands when the answer comes.
    CompareLate,
    /// A tag names its message, and not what came before it.
    TagOneMessage,
}

impl Fault {
    const ALL: &[Self] = &[
        Self::ReadBeforeSubscribed,
        Self::FeedReversed,
        Self::SkipFirstRead,
        Self::NeverSync,
        Self::HideCut,
        Self::HideOverflow,
        Self::TrustOldReads,
        Self::CompareLate,
        Self::TagOneMessage,
    ];
}

/// Whatever happens: a subscriber sees an unbroken chain, or is told.
fn check(steps: Vec<Step>, fault: Option<Fault>) -> Result<(), TestCaseError> {
    let mut world = World::new(fault);
    for step in steps {
        world.apply(step)?;
    }
    world.settle()?;
    if !world.has_lost_history {
        prop_assert_eq!(world.resets, 0, "nothing was lost, yet a reset was told");
        let first = world.delivered.first();
        let first = first.map_or(world.top.offset + 1, |first| first.offset);
        let expected: Vec<u64> = (first..=world.top.offset).collect();
        let offsets: Vec<u64> = world.delivered.iter().map(|at| at.offset).collect();
        prop_assert_eq!(offsets, expected, "every message once and in order");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn subscribers_see_an_unbroken_chain_or_are_told(
        steps in steps(),
    ) {
        check(steps, None)?;
    }
}

/// A master pauses while three messages are published, and its last words are x, a and b. A replica without them takes over,
/// where a and b are repeated and c comes in between. The subscribers here have heard the old master.
fn two_masters(fault: Option<Fault>) -> Result<(), TestCaseError> {
    let mut world = World::new(fault);
    let [x_a_b, a_and_b] = [3, 0b110];
    let publish = Step::Publish { arrives: true };
    let began = [Step::Subscribe, Step::BeginRead, Step::EndRead];
    let heard = [publish, publish, publish, publish].into_iter();
    let heard = heard.flat_map(|step| [step, Step::Arrive]);
    let forked = Step::Fork {
        lost: x_a_b,
        repeated: a_and_b,
    };
    let changed = [Step::Cut, forked, Step::Subscribe];
    let read = [Step::BeginRead, Step::EndRead, publish, Step::Arrive];
    for step in began.into_iter().chain(heard).chain(changed).chain(read) {
        world.apply(step)?;
    }
    world.settle()?;
    prop_assert_eq!(world.resets, 1);
    Ok(())
}

#[test]
fn messages_repeated_at_another_master_are_another_history() {
    two_masters(None).unwrap();
    let with_tags_of_one_message = two_masters(Some(Fault::TagOneMessage));
    assert!(with_tags_of_one_message.is_err());
}

#[test]
fn every_planted_fault_is_noticed() {
    for fault in Fault::ALL {
        let config = ProptestConfig {
            cases: 300,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..ProptestConfig::default()
        };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let found = runner.run(&steps(), |steps| check(steps, Some(*fault)));
        assert!(found.is_err(), "{fault:?} goes unnoticed");
    }
}
