//! Asks every master for the time at short intervals, whether or not members are present there. The replies make up the uptime of
//! the connections, which decides what this node may evict: [`eviction`](super::eviction).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_protocol::ChannelName;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::scripts::PresenceScripts;
use crate::engine::redis::connection::cluster::migrating_slots;
use crate::engine::redis::connection::commands::{Call, within};
use crate::engine::redis::connection::connections::Server;
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::topology::Layout;

/// The pulses to all masters.
pub(super) struct Pulses {
    scripts: PresenceScripts,
    masters: Mutex<HashMap<Server, Pulse>>,
}

#[derive(Debug, Default)]
struct Pulse {
    /// Failures so far: each moves the pulse to another slot of the master.
    failures: u32,
    /// Whether the master refuses to reply, and that has been logged.
    is_refused: bool,
}

impl Pulses {
    /// No master was asked yet.
    pub(super) fn new(scripts: PresenceScripts) -> Self {
        Self {
            scripts,
            masters: Mutex::default(),
        }
    }

    /// Asks at intervals until it is stopped. A master that is slow holds up no other one.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let interval = self.scripts.timings().pulse_interval;
        let mut turns = tokio::time::interval_at(Instant::now() + interval, interval);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asking = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(_) = asking.join_next() => {}
                _ = turns.tick() => {
                    let pulses = Arc::clone(&self);
                    asking.spawn(async move { pulses.ask_all().await });
                }
            }
        }
    }

    /// Asks every master for the time.
    pub(super) async fn ask_all(&self) {
        let commands = self.scripts.store().commands();
        let options = commands.options();
        let deadline = Instant::now() + options.connect_deadline + options.command_deadline;
        let looking = tokio::time::timeout_at(deadline, commands.topology().layout());
        let Ok(Ok(layout)) = looking.await else {
            return;
        };
        let masters = layout.masters();
        self.lock().retain(|server, _| masters.contains(server));
        self.scripts.eviction().retain(&masters);
        let asked = masters.iter().map(async |server| {
            let Some(tag) = self.tag(&layout, server) else {
                return;
            };
            match self.ask(deadline, &tag).await {
                Ok(()) => self.note_reply(server),
                Err(error) => self.note_failure(server, &error),
            }
        });
        join_all(asked).await;
    }

    /// Asks the master that owns a tag for the time and, in a cluster, for the slots that are migrating.
    async fn ask(&self, deadline: Instant, tag: &ChannelName) -> Result<(), CommandError> {
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, Pulse>> {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
