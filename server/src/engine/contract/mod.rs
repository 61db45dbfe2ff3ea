//! The suite that every engine passes, run unchanged against each of them.
//!
//! A scenario asks a fresh engine for something that the traits promise, and answers the first promise that was broken. It knows
//! no internals, uses channel names of its own, and takes what differs between engines from the [`Features`] that the
//! [`Harness`] declares. The suite is trusted because planted faults turn it red: each fault at least one scenario, and each
//! scenario by at least one fault.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;

use super::Engine;

/// Returns a violation unless a claim holds.
macro_rules! ensure {
    ($claim:expr, $($text:tt)+) => {
        if !$claim {
            return Err($crate::engine::contract::Violation::new(format!($($text)+)));
        }
    };
}

mod broker;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod faulty;
mod history;
mod keys;
mod model;
mod presence;
mod presence_info;
mod presence_state;
#[cfg(test)]
mod tests;
mod trial;

pub use trial::Trial;

/// How the suite gets at an engine and at its time.
#[async_trait]
pub trait Harness: Send + Sync {
    /// What the engine is set up for.
    fn features(&self) -> Features;

    /// A fresh engine that was not started yet.
    async fn open(&self) -> Engine;

    /// Lets time pass for the engine, by waiting where there is no other way.
    async fn advance(&self, by: Duration);
}

/// What an engine is set up for; the suite waits by these.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Features {
    /// How long a lost connection still counts as present.
    pub presence_grace: Duration,
    /// A life for histories that the harness can wait out.
    pub history_ttl: Duration,
    /// How long an idempotency key is remembered, where the harness can wait that out.
    pub key_ttl: Option<Duration>,
    /// How many random runs the model test makes.
    pub model_runs: u64,
    /// How many steps each of them has.
    pub model_steps: usize,
}

impl Features {
    /// An engine with this grace period, whose time passes at no cost.
    #[must_use]
    pub fn new(presence_grace: Duration) -> Self {
        Self {
            presence_grace,
            history_ttl: Duration::from_mins(1),
            key_ttl: None,
            model_runs: 50,
            model_steps: 100,
        }
    }

    /// Says that a history's life of `ttl` can be waited out.
    #[must_use]
    pub fn with_history_ttl(mut self, ttl: Duration) -> Self {
        self.history_ttl = ttl;
        self
    }

    /// Says that the life of idempotency keys is `ttl` and can be waited out.
    #[must_use]
    pub fn with_key_ttl(mut self, ttl: Duration) -> Self {
        self.key_ttl = Some(ttl);
        self
    }

    /// Decides how much the model test does.
    #[must_use]
    pub fn with_model(mut self, runs: u64, steps: usize) -> Self {
        self.model_runs = runs;
        self.model_steps = steps;
        self
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone)]
pub struct Violation(String);

impl Violation {
    /// With what was expected and what was found.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Violation {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// What a scenario found.
pub type Outcome = Result<(), Violation>;

/// One promise, put to the test.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Scenario {
    /// What is promised, in plain words.
    pub name: &'static str,
    /// Whether it lets time pass.
    pub advances: bool,
    check: for<'a> fn(&'a Trial<'a>) -> Check<'a>,
}

type Check<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

impl Scenario {
    /// Puts a fresh engine to the test.
    ///
    /// # Errors
    /// The first promise that it broke.
    pub async fn run(&self, harness: &dyn Harness) -> Outcome {
        let trial = Trial::open(harness).await?;
        let outcome = (self.check)(&trial).await;
        trial.engine.broker.close().await;
        outcome
    }
}

/// Runs scenarios one after the other and answers those that failed.
pub async fn run(
    harness: &dyn Harness,
    scenarios: impl IntoIterator<Item = &Scenario>,
) -> Vec<(&'static str, Violation)> {
    let mut failed = Vec::new();
    for scenario in scenarios {
        if let Err(violation) = scenario.run(harness).await {
            failed.push((scenario.name, violation));
        }
    }
    failed
}

macro_rules! scenarios {
    ($($module:ident::$name:ident $($advances:ident)?;)*) => {
        &[$(Scenario {
            name: stringify!($name),
            advances: scenarios!(@ $($advances)?),
            check: |trial| Box::pin($module::$name(trial)),
        }),*]
    };
    (@ advances) => { true };
    (@) => { false };
}

/// Everything that is promised.
pub const SCENARIOS: &[Scenario] = scenarios! {
    broker::order_holds_under_concurrent_publishers;
    broker::live_only_order_holds_per_publisher;
    broker::live_only_messages_have_no_position;
    broker::what_was_published_arrives_unchanged;
    broker::channels_do_not_mix;
    broker::deliveries_flow_while_a_channel_is_wanted;
    broker::a_closed_engine_delivers_nothing;
    keys::a_repetition_yields_the_first_result;
    keys::a_repetition_is_recognised_on_live_only_channels;
    keys::a_key_belongs_to_its_channel;
    keys::a_key_belongs_to_its_sender;
    keys::of_concurrent_repetitions_one_is_published;
    keys::a_key_is_forgotten_after_its_time advances;
    history::the_position_before_the_first_message_holds;
    history::ranges_are_read_oldest_first;
    history::no_more_than_the_size_is_kept;
    history::messages_go_after_their_time_and_the_position_stays advances;
    history::a_message_is_in_the_history_once_it_was_delivered;
    history::joining_first_and_reading_second_leaves_no_hole;
    history::clearing_a_history_starts_a_new_epoch;
    presence::the_first_connection_adds_and_the_last_removes;
    presence::goodbye_and_removal_are_immediate;
    presence::a_lost_connection_counts_until_its_grace_is_over advances;
    presence::a_loss_reported_twice_counts_from_the_first_time advances;
    presence::back_within_the_grace_period_is_silent advances;
    presence::every_lost_connection_has_its_own_grace advances;
    presence::a_goodbye_ends_the_grace_period;
    presence::member_events_are_messages_of_the_channel;
    presence_state::joining_twice_is_one_membership;
    presence_state::leaving_without_having_joined_does_nothing;
    presence_state::a_refresh_answers_what_is_unknown;
    presence_state::a_refresh_does_not_undo_a_loss advances;
    presence_state::a_snapshot_is_the_sum_of_the_events_before_it;
    presence_state::an_empty_channel_has_a_position_too;
    presence_state::clearing_a_history_keeps_the_members;
    presence_info::who_joined_last_is_shown;
    presence_info::an_equal_info_is_not_told;
    presence_info::a_repeated_call_shows_nothing_again;
    presence_info::who_comes_back_is_shown advances;
    presence_info::when_the_shown_one_goes_the_one_before_is_shown advances;
    presence_info::an_update_is_told_like_a_message;
    presence_info::an_update_brings_nobody_here advances;
    presence_info::a_snapshot_shows_what_was_told_before_it;
    model::random_histories_agree_with_the_model advances;
};
