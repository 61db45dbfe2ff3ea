//! Contact with every master, kept up whether or not somebody is present there: what is known of it decides whom this node may
//! take for gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::ChannelName;
use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, warn};

use super::PresenceLeases;
use crate::engine::redis::channel::keys;
use crate::engine::redis::connection::commands::Call;
use crate::engine::redis::connection::connections::Server;
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::topology::Layout;

/// How each master is asked.
#[derive(Debug, Default)]
pub(super) struct Pulses(Mutex<HashMap<Server, Pulse>>);

#[derive(Debug, Default)]
struct Pulse {
    /// Which of the numbered tags is in a slot of its own.
    attempt: u32,
    /// Whether it refuses to answer, and that has been said.
    is_refused: bool,
}

impl Pulses {
    /// A tag in a slot of this master.
    fn tag(&self, layout: &Layout, server: &Server) -> Option<ChannelName> {
        let mut pulses = self.lock();
        let pulse = pulses.entry(server.clone()).or_default();
        let attempts = pulse.attempt..pulse.attempt + ATTEMPTS_MAX;
        let mut found = attempts.filter_map(|attempt| {
            let tag = ChannelName::new(&format!("pulse:{attempt}")).ok()?;
            let is_its = layout.owner(keys::slot(tag.as_str())) == Some(server);
            is_its.then_some((attempt, tag))
        });
        let (attempt, tag) = found.next()?;
        pulse.attempt = attempt;
        Some(tag)
    }

    /// It has answered.
    fn note_answer(&self, server: &Server) {
        if let Some(pulse) = self.lock().get_mut(server) {
            pulse.is_refused = false;
        }
    }

    /// It has not. The slot of the tag may be migrating elsewhere, which says nothing about the master: another one next time.
    fn note_failure(&self, server: &Server, error: &CommandError) {
        let mut pulses = self.lock();
        let Some(pulse) = pulses.get_mut(server) else {
            return;
        };
        pulse.attempt = (pulse.attempt + 1) % ATTEMPTS_MAX;
        let is_refused = matches!(
            error,
            CommandError::Refused(_) | CommandError::Denied { .. }
        );
        if is_refused && !pulse.is_refused {
            warn!(%server, %error, "nobody there is taken for gone: Redis refuses to run_refreshes uptime");
        } else {
            debug!(%server, %error, "uptime is lost");
        }
        pulse.is_refused = is_refused;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, Pulse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PresenceLeases {
    /// Makes sure of the contact now and then, until it is stopped. A master that is slow holds up no other one.
    pub(super) async fn keep_contact(self: Arc<Self>) {
        let interval = self.presence.timings().pulse_interval;
        let mut turns = tokio::time::interval_at(Instant::now() + interval, interval);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                _ = turns.tick() => {}
            }
            let leases = Arc::clone(&self);
            self.tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = leases.stop.cancelled() => {}
                    () = leases.pulse() => {}
                }
            });
        }
    }

    /// Asks every master for the time.
    pub(super) async fn pulse(&self) {
        let commands = self.presence.commands();
        let options = commands.options();
        let deadline = Instant::now() + options.connect_deadline + options.command_deadline;
        let looking = tokio::time::timeout_at(deadline, commands.topology().layout());
        let Ok(Ok(layout)) = looking.await else {
            return;
        };
        let masters = layout.masters();
        let asked = masters.iter().map(async |server| {
            let Some(tag) = self.pulses.tag(&layout, server) else {
                return;
            };
            let keys = [commands.keys().pulse(&tag)];
            let call = Call {
                attempted: "asking for the time",
                script: &commands.scripts().pulse,
                channel: &tag,
                keys: &keys,
                args: &[],
            };
            match commands.touch(deadline, call).await {
                Ok(()) => self.pulses.note_answer(server),
                Err(error) => self.pulses.note_failure(server, &error),
            }
        });
        join_all(asked).await;
    }
}

/// 100,000: even a master with one slot of 16,384 owns one of so many tags.
const ATTEMPTS_MAX: u32 = 100_000;
