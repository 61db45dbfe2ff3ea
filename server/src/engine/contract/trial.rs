//! One fresh engine under test, and everything it delivered.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare_protocol::{ChannelName, EventName, Link, Member, Position, RawJson, SocketId, UserId};
use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::{Features, Harness, Outcome, Violation};
use crate::delivery::{
    Delivery, Departure, History, HistoryRange, Members, Publication, Published, Retention,
};
use crate::engine::{Arrival, Deliver, Engine};

/// Enough that nothing a scenario published is ever missing.
pub(super) const KEPT: Retention = Retention::new(1_000, Duration::from_mins(5));

/// All that is kept.
pub(super) const ALL: HistoryRange = HistoryRange::After {
    offset: 0,
    limit: u32::MAX,
};

/// One fresh engine under test.
pub struct Trial<'a> {
    /// The engine.
    pub engine: Engine,
    harness: &'a dyn Harness,
    record: Arc<Record>,
}

#[derive(Default)]
struct Record {
    deliveries: Mutex<HashMap<ChannelName, Vec<Delivery>>>,
    added: Notify,
}

impl<'a> Trial<'a> {
    /// Starts a fresh engine and records what it delivers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn open(harness: &'a dyn Harness) -> Result<Self, Violation> {
        let engine = harness.open().await;
        let record = Arc::new(Record::default());
        let deliveries = Arc::clone(&record);
        let deliver: Deliver = Arc::new(move |arrival| {
            if let Arrival::Delivery(delivery) = arrival {
                deliveries.add(delivery);
            }
        });
        engine.broker.start(deliver).await?;
        Ok(Self {
            engine,
            harness,
            record,
        })
    }

    pub(super) fn features(&self) -> Features {
        self.harness.features()
    }

    pub(super) async fn advance(&self, by: Duration) {
        self.harness.advance(by).await;
    }

    /// A channel that nobody else uses, with deliveries flowing.
    pub(super) async fn channel(&self) -> Result<ChannelName, Violation> {
        let channel = unused_channel()?;
        self.engine.broker.set_interest(&channel, KEPT, true);
        self.engine.broker.interested(&channel).await?;
        Ok(channel)
    }

    pub(super) async fn send(
        &self,
        publication: Publication,
        retention: Retention,
    ) -> Result<Published, Violation> {
        Ok(self.engine.broker.publish(publication, retention).await?)
    }

    /// Publishes a number on a channel that keeps its messages.
    pub(super) async fn publish(
        &self,
        channel: &ChannelName,
        data: impl fmt::Display,
    ) -> Result<Position, Violation> {
        let published = self.send(publication(channel, data)?, KEPT).await?;
        published
            .position
            .ok_or_else(|| Violation::new("a kept message has no position"))
    }

    pub(super) async fn history(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Result<History, Violation> {
        Ok(self.engine.broker.history(channel, range, KEPT).await?)
    }

    pub(super) async fn join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        member: Member,
    ) -> Outcome {
        let presence = &self.engine.presence;
        Ok(presence.join(channel, connection, member, KEPT).await?)
    }

    pub(super) async fn update(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        info: impl fmt::Display,
    ) -> Result<bool, Violation> {
        let info = RawJson::trusted(info.to_string());
        let presence = &self.engine.presence;
        Ok(presence.update(channel, connection, info, KEPT).await?)
    }

    pub(super) async fn leave(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        departure: Departure,
    ) -> Outcome {
        let presence = &self.engine.presence;
        Ok(presence.leave(channel, connection, departure).await?)
    }

    pub(super) async fn members(&self, channel: &ChannelName) -> Result<Members, Violation> {
        Ok(self.engine.presence.members(channel, None).await?)
    }

    /// What was delivered so far.
    pub(super) fn seen(&self, channel: &ChannelName) -> Vec<Delivery> {
        let deliveries = self.record.lock();
        deliveries.get(channel).cloned().unwrap_or_default()
    }

    /// Waits until so many were delivered.
    pub(super) async fn seen_count(
        &self,
        channel: &ChannelName,
        count: usize,
    ) -> Result<Vec<Delivery>, Violation> {
        let wanted = format!("{count} deliveries");
        self.seen_when(channel, &wanted, |seen| seen.len() >= count)
            .await
    }

    /// Waits until the message at a position was delivered.
    pub(super) async fn seen_position(
        &self,
        channel: &ChannelName,
        position: Position,
    ) -> Result<Vec<Delivery>, Violation> {
        let wanted = format!("the message at {position:?}");
        self.seen_when(channel, &wanted, |seen| {
            position.offset == 0 || seen.iter().any(|d| d.position == Some(position))
        })
        .await
    }

    /// All that was delivered, sure that nothing is on its way: a message published now has arrived behind it.
    pub(super) async fn settled(&self, channel: &ChannelName) -> Result<Vec<Delivery>, Violation> {
        let mark = format!("\"fence {:x}\"", fastrand::u64(..));
        self.send(publication(channel, &mark)?, Retention::NONE)
            .await?;
        let mut seen = self
            .seen_when(channel, "a message published as a fence", |seen| {
                seen.iter().any(|d| d.data.as_str() == mark)
            })
            .await?;
        seen.retain(|delivery| !delivery.data.as_str().starts_with("\"fence "));
        Ok(seen)
    }

    pub(super) async fn seen_when(
        &self,
        channel: &ChannelName,
        wanted: &str,
        is_enough: impl Fn(&[Delivery]) -> bool,
    ) -> Result<Vec<Delivery>, Violation> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let added = self.record.added.notified();
            let seen = self.seen(channel);
            if is_enough(&seen) {
                return Ok(seen);
            }
            if tokio::time::timeout_at(deadline, added).await.is_err() {
                let count = seen.len();
                return Err(Violation::new(format!(
                    "waited in vain for {wanted}, {count} messages have arrived"
                )));
            }
        }
    }
}

impl Record {
    fn add(&self, delivery: Delivery) {
        let channel = delivery.channel.clone();
        self.lock().entry(channel).or_default().push(delivery);
        self.added.notify_waiters();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelName, Vec<Delivery>>> {
        self.deliveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that nobody else uses.
pub(super) fn unused_channel() -> Result<ChannelName, Violation> {
    let random = fastrand::u128(..);
    Ok(ChannelName::new(&format!("presence-contract.{random:x}"))?)
}

/// A publication of some JSON.
pub(super) fn publication(
    channel: &ChannelName,
    data: impl fmt::Display,
) -> Result<Publication, Violation> {
    let data = RawJson::trusted(data.to_string());
    Ok(Publication::new(
        channel.clone(),
        EventName::new("contract")?,
        data,
    ))
}

/// A connection that nobody else has.
pub(super) fn connection() -> SocketId {
    SocketId::from_bits(fastrand::u128(..))
}

pub(super) fn member(id: &str, info: impl fmt::Display) -> Result<Member, Violation> {
    Ok(Member {
        id: UserId::new(id)?,
        info: RawJson::trusted(info.to_string()),
    })
}

/// Deliveries follow each other from a position on: offsets by one, each naming the tag before it.
pub(super) fn follow(start: Position, deliveries: &[Delivery]) -> Result<Position, Violation> {
    let mut last = start;
    for delivery in deliveries {
        let (Some(position), Some(previous)) = (delivery.position, delivery.previous) else {
            return Err(Violation::new(format!(
                "a message behind {last:?} lacks its position or the tag before it"
            )));
        };
        let link = last.link(position, Some(previous));
        ensure!(
            link == Link::Next,
            "{position:?} (after tag {previous}) does not follow {last:?}: {link:?}"
        );
        last = position;
    }
    Ok(last)
}

/// What the member events of a channel say, in order.
pub(super) fn member_events(deliveries: &[Delivery]) -> Result<Vec<MemberEvent>, Violation> {
    /// The data of any of them.
    #[derive(serde::Deserialize)]
    struct Data<'a> {
        id: String,
        #[serde(borrow)]
        info: Option<&'a RawValue>,
        reason: Option<String>,
    }
    let mut events = Vec::new();
    for delivery in deliveries.iter().filter(|one| one.event.is_reserved()) {
        let data: Data<'_> = delivery.data.decode()?;
        let info = data.info.map(|info| info.get().to_owned());
        let what = match (delivery.event.as_str(), info, data.reason) {
            (EventName::MEMBER_ADDED, Some(info), None) => What::Came(info),
            (EventName::MEMBER_UPDATED, Some(info), None) => What::Shown(info),
            (EventName::MEMBER_REMOVED, None, Some(reason)) => What::Left(reason),
            (name, ..) => {
                let text = format!("{name} says {}", delivery.data.as_str());
                return Err(Violation::new(text));
            }
        };
        let user = data.id;
        events.push(MemberEvent { user, what });
    }
    Ok(events)
}

/// What happened to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberEvent {
    pub(super) user: String,
    pub(super) what: What,
}

/// What a member event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The user came, with this info.
    Came(String),
    /// Another info is shown.
    Shown(String),
    /// The user has left, for this reason.
    Left(String),
}

impl MemberEvent {
    pub(super) fn came(user: &str, info: impl fmt::Display) -> Self {
        Self {
            user: user.to_owned(),
            what: What::Came(info.to_string()),
        }
    }

    pub(super) fn shown(user: &str, info: impl fmt::Display) -> Self {
        Self {
            user: user.to_owned(),
            what: What::Shown(info.to_string()),
        }
    }

    pub(super) fn left(user: &str, departure: Departure) -> Self {
        Self {
            user: user.to_owned(),
            what: What::Left(departure.reason().to_owned()),
        }
    }
}

/// 10 s: far longer than any engine takes, and only a failing scenario waits so long.
const PATIENCE: Duration = Duration::from_secs(10);
