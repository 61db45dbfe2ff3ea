//! Contact with every master, kept up whether or not somebody is present there: what is known of it decides whom this node may
//! take for gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::ChannelName;
use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, warn};

use super::PresenceLeases;
use crate::engine::redis::connection::cluster::migrating_slots;
use crate::engine::redis::connection::commands::{Call, within};
use crate::engine::redis::connection::connections::Server;
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::topology::Layout;

/// How each master is asked.
#[derive(Debug, Default)]
pub(super) struct Pulses(Mutex<HashMap<Server, Pulse>>);

#[derive(Debug, Default)]
struct Pulse {
    /// Failures so far: each moves the pulse to another slot of the master.
    failures: u32,
    /// Whether the master refuses to reply, and that has been logged.
    is_refused: bool,
}

impl Pulses {
    /// A tag in a slot of this master.
    fn tag(&self, layout: &Layout, server: &Server) -> Option<ChannelName> {
        let failures = self.lock().entry(server.clone()).or_default().failures;
        layout.tag_at(server, &format!("pulse:{failures}"))
    }

    /// It has replied.
    fn note_reply(&self, server: &Server) {
        if let Some(pulse) = self.lock().get_mut(server) {
            pulse.is_refused = false;
        }
    }

    /// It has not. The slot of the tag may be migrating, which says nothing about the master: another one next time.
    fn note_failure(&self, server: &Server, error: &CommandError) {
        let mut pulses = self.lock();
        let Some(pulse) = pulses.get_mut(server) else {
            return;
        };
        pulse.failures = pulse.failures.wrapping_add(1);
        let is_refused = matches!(
            error,
            CommandError::Refused(_) | CommandError::Denied { .. }
        );
        if is_refused && !pulse.is_refused {
            warn!(%server, %error, "expired members of this server's channels are not evicted: Redis refuses the pulse");
        } else {
            debug!(%server, %error, "a pulse failed");
        }
        pulse.is_refused = is_refused;
    }

    fn retain(&self, servers: &[Server]) {
        self.lock().retain(|server, _| servers.contains(server));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, Pulse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PresenceLeases {
    /// Makes sure of the contact now and then, until it is stopped. A master that is slow holds up no other one.
    pub(super) async fn keep_contact(self: Arc<Self>) {
        let interval = self.scripts.timings().pulse_interval;
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
        let commands = self.scripts.store().commands();
        let options = commands.options();
        let deadline = Instant::now() + options.connect_deadline + options.command_deadline;
        let looking = tokio::time::timeout_at(deadline, commands.topology().layout());
        let Ok(Ok(layout)) = looking.await else {
            return;
        };
        let masters = layout.masters();
        self.pulses.retain(&masters);
        self.scripts.eviction().retain(&masters);
        let asked = masters.iter().map(async |server| {
            let Some(tag) = self.pulses.tag(&layout, server) else {
                return;
            };
            match self.pulse_at(deadline, &tag).await {
                Ok(()) => self.pulses.note_reply(server),
                Err(error) => self.pulses.note_failure(server, &error),
            }
        });
        join_all(asked).await;
    }

    /// Asks the master that owns a tag for the time and, in a cluster, for the slots that are migrating.
    async fn pulse_at(&self, deadline: Instant, tag: &ChannelName) -> Result<(), CommandError> {
        let (store, eviction) = (self.scripts.store(), self.scripts.eviction());
        let commands = store.commands();
        let connection = commands.connection(deadline, tag).await?;
        if commands.topology().is_cluster() {
            let asked = within(deadline, migrating_slots(&connection)).await;
            let migrating = asked.map_err(|error| commands.judge(&connection, &error))?;
            eviction.note_migrating(&migrating);
        }
        let keys = [store.keys().pulse(tag)];
        let call = Call {
            attempted: "asking for the time",
            script: &store.scripts().pulse,
            channel: tag,
            keys: &keys,
            args: &[],
            last_args: None,
        };
        let reply = commands.run_on(deadline, &connection, call).await?;
        if let Ok(now) = redis::from_redis_value(reply) {
            eviction.note_heard(&connection, now);
        }
        Ok(())
    }
}
