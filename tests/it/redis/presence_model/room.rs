//! A channel, as Redis has it, beside the ledger that says how it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanfare_protocol::{ChannelName, EventName, Link, Member, Position, RawJson, SocketId};
use fanfare_server::delivery::{Delivery, Departure, Retention};
use fanfare_server::engine::redis::scripted::{Next, ScriptedPresence};

use super::ledger::{Ledger, May, Told, What};

/// Nothing that is told is ever missing.
const KEPT: Retention = Retention::new(100_000, Duration::from_secs(3_600));

/// Who calls, when, and whom they may take out.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) presence: &'a ScriptedPresence,
    pub(super) now: u64,
    pub(super) may: May,
}

/// A promise that was not kept.
pub(super) type Outcome<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($claim:expr, $($text:tt)+) => {
        if !$claim {
            return Err(format!($($text)+));
        }
    };
}
pub(super) use ensure;

pub(super) struct Room {
    pub(super) channel: ChannelName,
    pub(super) ledger: Ledger,
    /// Where the messages that were read end.
    pub(super) last: Position,
    /// The sum of all messages.
    pub(super) folded: BTreeMap<String, String>,
    /// Users who are connected to a node that is alive: only Redis was away.
    pub(super) connected: BTreeSet<String>,
    /// Whether the history may begin anew.
    has_new_epoch: bool,
    /// How often nobody listened.
    unheard: u32,
}

impl Room {
    pub(super) async fn open(presence: &ScriptedPresence, channel: ChannelName) -> Outcome<Self> {
        let members = presence.members(&channel).await.map_err(told)?;
        Ok(Self {
            channel,
            ledger: Ledger::default(),
            last: members.position,
            folded: BTreeMap::new(),
            connected: BTreeSet::new(),
            has_new_epoch: false,
            unheard: 0,
        })
    }

    pub(super) async fn join(
        &mut self,
        caller: Caller<'_>,
        connection: SocketId,
        member: &Member,
        lease: u64,
    ) -> Outcome {
        let joined = caller
            .presence
            .join(&self.channel, connection, member, KEPT)
            .await;
        joined.map_err(told)?;
        self.ledger
            .join(caller.now, caller.may, connection, member, lease);
        self.listen(caller.presence).await
    }

    pub(super) async fn update(
        &mut self,
        caller: Caller<'_>,
        connection: SocketId,
        info: &RawJson,
    ) -> Outcome<bool> {
        let updated = caller
            .presence
            .update(&self.channel, connection, info, KEPT)
            .await;
        let is_here = updated.map_err(told)?;
        let expected = self
            .ledger
            .update(caller.now, caller.may, connection, info.as_str());
        ensure!(is_here == expected, "an update answered {is_here}");
        self.listen(caller.presence).await?;
        Ok(is_here)
    }

    pub(super) async fn leave(
        &mut self,
        caller: Caller<'_>,
        connection: SocketId,
        departure: Departure,
        grace: u64,
    ) -> Outcome<Option<u64>> {
        let within = Duration::from_millis(grace);
        let left = caller
            .presence
            .leave(&self.channel, connection, departure, within);
        let wait = milliseconds(left.await.map_err(told)?);
        let expected = self
            .ledger
            .leave(caller.now, caller.may, connection, departure, grace);
        ensure!(
            wait == expected,
            "a loss ends in {wait:?} instead of {expected:?}"
        );
        self.listen(caller.presence).await?;
        Ok(wait)
    }

    /// Answers who must join again, and how long until the next member expires.
    pub(super) async fn refresh(
        &mut self,
        caller: Caller<'_>,
        connections: &[SocketId],
        lease: u64,
    ) -> Outcome<(Vec<SocketId>, Next)> {
        let within = Duration::from_millis(lease);
        let refreshed = caller
            .presence
            .refresh(&self.channel, connections, within)
            .await;
        let answer = refreshed.map_err(told)?;
        let expected = self
            .ledger
            .refresh(caller.now, caller.may, connections, lease);
        ensure!(
            answer == expected,
            "a refresh answered {answer:?} instead of {expected:?}"
        );
        self.listen(caller.presence).await?;
        Ok(answer)
    }

    pub(super) async fn evict_expired(&mut self, caller: Caller<'_>) -> Outcome<Next> {
        let next = caller
            .presence
            .evict_expired(&self.channel)
            .await
            .map_err(told)?;
        let expected = self.ledger.evict_expired(caller.now, caller.may);
        ensure!(
            next == expected,
            "the next one goes in {next:?} instead of {expected:?}"
        );
        self.listen(caller.presence).await?;
        Ok(next)
    }

    /// A snapshot is what the ledger says, and the sum of the messages up to its position.
    pub(super) async fn check_snapshot(&mut self, caller: Caller<'_>) -> Outcome {
        let snapshot = caller.presence.members(&self.channel).await;
        let snapshot = snapshot.map_err(told)?;
        let expected = self.ledger.members(caller.now, caller.may);
        self.hear(caller.presence).await?;
        let shown = snapshot.members.iter().map(|member| {
            let info = member.info.as_str().to_owned();
            (member.id.as_str().to_owned(), info)
        });
        let shown: BTreeMap<String, String> = shown.collect();
        ensure!(
            shown == expected,
            "{shown:?} are shown instead of {expected:?}"
        );
        let (listed, count) = (snapshot.members.len(), snapshot.count);
        ensure!(
            listed == shown.len() && count == listed as u64,
            "{count} of {listed} members"
        );
        ensure!(
            snapshot.position == self.last,
            "the snapshot is of {:?}, the messages end at {:?}",
            snapshot.position,
            self.last
        );
        ensure!(shown == self.folded, "the messages leave {:?}", self.folded);
        Ok(())
    }

    /// Redis lost everything that it knows of the channel, or is about to notice that it lost some of it.
    pub(super) fn lost_all(&mut self) {
        self.ledger.wipe();
        self.folded.clear();
        self.has_new_epoch = true;
    }

    pub(super) async fn clear_history(&mut self, presence: &ScriptedPresence) -> Outcome {
        presence.clear_history(&self.channel).await.map_err(told)?;
        self.has_new_epoch = true;
        self.listen(presence).await
    }

    /// Hears what the channel was told, if there is something to hear; if not, now and then all the same.
    async fn listen(&mut self, presence: &ScriptedPresence) -> Outcome {
        self.unheard += 1;
        let is_silent = self.ledger.untold.is_empty() && !self.has_new_epoch;
        if is_silent && self.unheard < UNHEARD_MAX {
            return Ok(());
        }
        self.hear(presence).await
    }

    /// Reads what the channel was told, link by link, and compares it with the ledger.
    pub(super) async fn hear(&mut self, presence: &ScriptedPresence) -> Outcome {
        self.unheard = 0;
        let mut offset = self.last.offset;
        if std::mem::take(&mut self.has_new_epoch) {
            offset = 0;
        }
        let history = presence.told_after(&self.channel, offset, KEPT).await;
        let history = history.map_err(told)?;
        if offset == 0 && history.top.epoch != self.last.epoch {
            self.last = Position::start(history.top.epoch);
        }
        let mut heard = Vec::new();
        for delivery in &history.entries {
            heard.push(self.take(delivery)?);
        }
        ensure!(
            self.last == history.top,
            "{:?} is not {:?}",
            self.last,
            history.top
        );
        let expected = std::mem::take(&mut self.ledger.untold);
        ensure!(
            heard == expected,
            "the channel was told {heard:?} instead of {expected:?}"
        );
        Ok(())
    }

    fn take(&mut self, delivery: &Delivery) -> Outcome<Told> {
        let position = delivery.position.ok_or("a message without a position")?;
        let link = self.last.link(position, delivery.previous);
        ensure!(
            link == Link::Next,
            "{position:?} after {:?}: {link:?}",
            self.last
        );
        ensure!(
            position.tag != self.last.tag,
            "two messages have the same tag"
        );
        self.last = position;
        let data: serde_json::Value = delivery.data.decode().map_err(told)?;
        let text = |field: &str| data[field].as_str().map(str::to_owned);
        let user = text("id").ok_or("a message about nobody")?;
        // Numbers, which are written in one way only.
        let info = data.get("info").map(ToString::to_string);
        let what = match (delivery.event.as_str(), info, text("reason")) {
            (EventName::MEMBER_ADDED, Some(info), None) => What::Came(info),
            (EventName::MEMBER_UPDATED, Some(info), None) => What::Shown(info),
            (EventName::MEMBER_REMOVED, None, Some(reason)) => What::Left(reason),
            (name, ..) => return Err(format!("{name} says {data}")),
        };
        let is_news = match &what {
            What::Came(info) => self.folded.insert(user.clone(), info.clone()).is_none(),
            What::Shown(info) => {
                let before = self.folded.insert(user.clone(), info.clone());
                before.is_some_and(|before| before != *info)
            }
            What::Left(_) => {
                ensure!(
                    !self.connected.contains(&user),
                    "{user} is shown as gone by an outage of Redis"
                );
                self.folded.remove(&user).is_some()
            }
        };
        ensure!(
            is_news,
            "{user} was told to have {what:?}, which is no news"
        );
        Ok(Told { user, what })
    }
}

fn milliseconds(duration: Option<Duration>) -> Option<u64> {
    duration.and_then(|duration| u64::try_from(duration.as_millis()).ok())
}

pub(super) fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// 5: what nobody should have been told is heard soon enough.
const UNHEARD_MAX: u32 = 5;
