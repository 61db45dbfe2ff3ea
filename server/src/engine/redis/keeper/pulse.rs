//! Contact with every master, kept up whether or not somebody is present there: what is known of it decides whom this node may
//! take for gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fanfare_protocol::ChannelName;
use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::debug;

use super::Keeper;
use crate::engine::redis::commands::Call;
use crate::engine::redis::connections::Server;
use crate::engine::redis::keys;
use crate::engine::redis::topology::Layout;

/// Where each master is asked: which of the numbered tags is in a slot of its own.
#[derive(Debug, Default)]
pub(super) struct Pulses(Mutex<HashMap<Server, u32>>);

impl Pulses {
    /// A tag in a slot of this master.
    fn tag(&self, layout: &Layout, server: &Server) -> Option<ChannelName> {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = attempts.get(server).copied().unwrap_or(0);
        let mut attempts_left = (attempt..attempt + ATTEMPTS_MAX).filter_map(|attempt| {
            let tag = ChannelName::new(&format!("pulse:{attempt}")).ok()?;
            let is_its = layout.owner(keys::slot(tag.as_str())) == Some(server);
            is_its.then_some((attempt, tag))
        });
        let (attempt, tag) = attempts_left.next()?;
        attempts.insert(server.clone(), attempt);
        Some(tag)
    }

    /// The slot of the tag may be on its way elsewhere, which says nothing about the master: another one next time.
    fn turn(&self, server: &Server) {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = attempts.get_mut(server) {
            *attempt = (*attempt + 1) % ATTEMPTS_MAX;
        }
    }
}

impl Keeper {
    /// Makes sure of the contact now and then, until it is stopped. A master that is slow holds up no other one.
    pub(super) async fn keep_contact(self: Arc<Self>) {
        let interval = self.presence.terms().pulse_interval;
        let mut turns = tokio::time::interval_at(Instant::now() + interval, interval);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                _ = turns.tick() => {}
            }
            let keeper = Arc::clone(&self);
            self.tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = keeper.stop.cancelled() => {}
                    () = keeper.pulse() => {}
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
            if let Err(error) = commands.touch(deadline, call).await {
                debug!(%server, %error, "contact is lost");
                self.pulses.turn(server);
            }
        });
        join_all(asked).await;
    }
}

/// 100,000: even a master with one slot of 16,384 owns one of so many tags.
const ATTEMPTS_MAX: u32 = 100_000;
