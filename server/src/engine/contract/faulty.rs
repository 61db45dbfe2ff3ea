//! Engines with a planted fault each. The suite counts only because it tells every one of them from a good one.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use fanfare_protocol::{ChannelName, Epoch, Member, Position, RawJson, SocketId, UserId};

use super::faults::{Fault, State};
use super::trial::KEPT;
use crate::delivery::{
    Departure, History, HistoryRange, Members, Publication, Published, Retention,
};
use crate::engine::{Arrival, Broker, Deliver, Engine, EngineError, Health, PresenceStore};

/// A good engine with a fault in front of it.
pub(super) struct Faulty {
    good: Engine,
    fault: Fault,
    state: Arc<Mutex<State>>,
}

impl Faulty {
    pub(super) fn new(good: Engine, fault: Fault) -> Self {
        Self {
            good,
            fault,
            state: Arc::default(),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The user of a connection that has joined.
    fn known(&self, channel: &ChannelName, connection: SocketId) -> Option<UserId> {
        let state = self.state.lock().unwrap();
        let mut joined = state.joined.iter();
        let known = joined.find(|one| one.0 == *channel && one.1 == connection);
        known.map(|known| known.2.id.clone())
    }

    /// A connection has gone, and another one of its user is made to show the wrong thing.
    async fn spoil_successor(
        &self,
        channel: &ChannelName,
        gone: SocketId,
    ) -> Result<(), EngineError> {
        let presence = &self.good.presence;
        let (before, oldest) = {
            let mut state = self.state.lock().unwrap();
            let is_in = |one: &(ChannelName, SocketId, Member)| one.0 == *channel;
            let mut joined = state.joined.iter();
            let before = joined.find(|one| is_in(one) && one.1 == gone).cloned();
            state.joined.retain(|one| !is_in(one) || one.1 != gone);
            let Some((_, _, before)) = before else {
                return Ok(());
            };
            let mut joined = state.joined.iter();
            let oldest = joined.find(|one| is_in(one) && one.2.id == before.id);
            (before, oldest.cloned())
        };
        let Some((_, oldest, member)) = oldest else {
            return Ok(());
        };
        if self.is(Fault::OldestIsNext) {
            presence.leave(channel, oldest, Departure::Lost).await?;
            return presence.join(channel, oldest, member, KEPT).await;
        }
        let outlived = presence.update(channel, oldest, before.info, KEPT);
        outlived.await.map(|_| ())
    }

    /// All connections of the user that a connection belongs to.
    fn all_of(&self, channel: &ChannelName, connection: SocketId) -> Vec<SocketId> {
        let state = self.state.lock().unwrap();
        let here = || state.joined.iter().filter(|one| one.0 == *channel);
        let user = here().find(|one| one.1 == connection);
        here()
            .filter(|one| user.is_some_and(|user| user.2.id == one.2.id))
            .map(|one| one.1)
            .collect()
    }
}

#[async_trait]
impl Broker for Faulty {
    async fn start(&self, deliver: Deliver) -> Result<(), EngineError> {
        let (fault, state) = (self.fault, Arc::clone(&self.state));
        let spoil: Deliver = Arc::new(move |arrival| {
            let Arrival::Delivery(delivery) = arrival else {
                return deliver(arrival);
            };
            let spoiled = state.lock().unwrap().spoil(fault, delivery);
            spoiled
                .into_iter()
                .for_each(|delivery| deliver(Arrival::Delivery(delivery)));
        });
        self.good.broker.start(spoil).await
    }

    async fn publish(
        &self,
        mut publication: Publication,
        mut retention: Retention,
    ) -> Result<Published, EngineError> {
        let is_live_only = !retention.is_positioned;
        match self.fault {
            Fault::IgnoreKey => publication.key = None,
            Fault::IgnoreKeyWithoutPosition if is_live_only => publication.key = None,
            Fault::KeepOneMore if retention.size > 0 => retention.size += 1,
            Fault::KeepForever => retention.ttl *= 1_000,
            _ => {}
        }
        let key = publication.key.clone();
        let channel = publication.channel.clone();
        let memory = match self.fault {
            Fault::ShareKeys => key.map(|key| (None, key)),
            Fault::KeepKeys => key.map(|key| (Some(channel.clone()), key)),
            _ => None,
        };
        if let Some(memory) = &memory
            && let Some(first) = self.state.lock().unwrap().keys.get(memory)
        {
            return Ok(Published::duplicate(first.position));
        }
        let mut published = self.good.broker.publish(publication, retention).await?;
        if let Some(memory) = memory {
            self.state.lock().unwrap().keys.insert(memory, published);
        }
        match self.fault {
            Fault::HideRepetition => published.is_duplicate = false,
            Fault::AnswerNewest if published.is_duplicate => {
                let last = self.state.lock().unwrap().last.get(&channel).copied();
                published.position = last;
            }
            Fault::AnswerPosition if is_live_only => {
                published.position = Some(Position::start(Epoch(1)));
            }
            _ => {}
        }
        Ok(published)
    }

    async fn history(
        &self,
        channel: &ChannelName,
        mut range: HistoryRange,
        retention: Retention,
    ) -> Result<History, EngineError> {
        if self.is(Fault::IgnoreLimit) {
            range = match range {
                HistoryRange::After { offset, .. } => HistoryRange::After {
                    offset,
                    limit: u32::MAX,
                },
                HistoryRange::Last { .. } => HistoryRange::Last { limit: u32::MAX },
            };
        }
        let mut history = self.good.broker.history(channel, range, retention).await?;
        match self.fault {
            Fault::LagHistory => {
                if let Some(newest) = history.entries.pop()
                    && let (Some(position), Some(tag)) = (newest.position, newest.previous)
                {
                    let offset = position.offset - 1;
                    history.top = Position {
                        offset,
                        tag,
                        ..position
                    };
                }
            }
            Fault::SkipFirst if history.entries.len() > 1 => drop(history.entries.remove(0)),
            Fault::ReverseHistory => history.entries.reverse(),
            Fault::LosePosition if history.entries.is_empty() => {
                history.top = Position::start(Epoch(fastrand::u64(..)));
            }
            _ => {}
        }
        Ok(history)
    }

    async fn clear_history(&self, channel: &ChannelName) -> Result<(), EngineError> {
        if self.is(Fault::IgnoreForget) {
            return Ok(());
        }
        if self.is(Fault::ForgetMembers) {
            let joined = self.state.lock().unwrap().joined.clone();
            for (_, connection, _) in joined.iter().filter(|one| one.0 == *channel) {
                let departure = Departure::Removed;
                self.good
                    .presence
                    .leave(channel, *connection, departure)
                    .await?;
            }
        }
        self.good.broker.clear_history(channel).await
    }

    fn set_interest(&self, channel: &ChannelName, retention: Retention, wanted: bool) {
        if !wanted {
            self.state.lock().unwrap().unwanted.push(channel.clone());
        }
        self.good.broker.set_interest(channel, retention, wanted);
    }

    async fn interested(&self, channel: &ChannelName) -> Result<(), EngineError> {
        if self.is(Fault::RefuseInterest) {
            return Err(EngineError::Unknown {
                engine: "faulty",
                attempted: "subscribing",
            });
        }
        self.good.broker.interested(channel).await
    }

    async fn request(&self, request: Bytes) -> Result<Vec<Bytes>, EngineError> {
        self.good.broker.request(request).await
    }

    fn health(&self) -> Health {
        self.good.broker.health()
    }

    async fn close(&self) {
        if !self.is(Fault::StayOpen) {
            self.good.broker.close().await;
        }
    }
}

#[async_trait]
impl PresenceStore for Faulty {
    async fn join(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        mut member: Member,
        retention: Retention,
    ) -> Result<(), EngineError> {
        let announces = {
            let mut state = self.state.lock().unwrap();
            let mut own = state
                .joined
                .iter()
                .filter(|one| one.0 == *channel && one.2.id == member.id);
            let first = own.next().map(|one| one.2.info.clone());
            let was_lost = state.lost.iter().any(|one| one.0 == *channel);
            if self.is(Fault::FirstInfoWins)
                && let Some(info) = &first
            {
                member.info = info.clone();
            }
            state
                .lost
                .retain(|one| *one != (channel.clone(), connection));
            state
                .joined
                .push((channel.clone(), connection, member.clone()));
            (self.is(Fault::AnnounceAll) && first.is_some())
                || (self.is(Fault::AnnounceReturn) && was_lost)
        };
        if announces {
            let added = Publication::member_added(channel.clone(), &member);
            self.good.broker.publish(added, retention).await?;
        }
        let presence = &self.good.presence;
        presence.join(channel, connection, member, retention).await
    }

    async fn update(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        info: RawJson,
        retention: Retention,
    ) -> Result<bool, EngineError> {
        let store = &self.good.presence;
        let known = self.known(channel, connection);
        match self.fault {
            Fault::IgnoreUpdate => return Ok(known.is_some()),
            Fault::RepeatShows => {
                let other = RawJson::trusted(r#""other""#);
                store.update(channel, connection, other, retention).await?;
            }
            Fault::UpdateRevives => {
                if let Some(id) = known {
                    let member = Member { id, info };
                    store.join(channel, connection, member, retention).await?;
                    return Ok(true);
                }
            }
            _ => {}
        }
        let is_here = store.update(channel, connection, info, retention).await?;
        Ok(is_here || self.is(Fault::UpdateFindsAll))
    }

    async fn leave(
        &self,
        channel: &ChannelName,
        connection: SocketId,
        mut departure: Departure,
    ) -> Result<(), EngineError> {
        let presence = &self.good.presence;
        let is_lost = departure == Departure::Lost;
        match self.fault {
            Fault::ForgetLeave if !is_lost => return Ok(()),
            Fault::ForgetLoss if is_lost => return Ok(()),
            Fault::NoGrace if is_lost => departure = Departure::Goodbye,
            Fault::GraceForAll => departure = Departure::Lost,
            Fault::RestartGrace if is_lost => {
                let member = Member {
                    id: UserId::new("ann").unwrap(),
                    info: RawJson::null(),
                };
                if presence
                    .refresh(&[(channel.clone(), connection)])
                    .await?
                    .is_empty()
                {
                    presence.join(channel, connection, member, KEPT).await?;
                }
            }
            Fault::LeaveTakesAll => {
                for other in self.all_of(channel, connection) {
                    presence.leave(channel, other, departure).await?;
                }
            }
            Fault::LeaveTakesAnyone => {
                let joined = self.state.lock().unwrap().joined.clone();
                for (_, other, _) in joined.iter().filter(|one| one.0 == *channel) {
                    presence.leave(channel, *other, departure).await?;
                }
            }
            Fault::CountJoins => {
                let mut state = self.state.lock().unwrap();
                let is_it = |one: &(ChannelName, SocketId, Member)| {
                    one.0 == *channel && one.1 == connection
                };
                let joins = state.joined.iter().filter(|one| is_it(one)).count();
                if let Some(index) = state.joined.iter().position(is_it)
                    && joins > 1
                {
                    state.joined.remove(index);
                    return Ok(());
                }
            }
            _ => {}
        }
        if is_lost {
            let mut state = self.state.lock().unwrap();
            state.lost.push((channel.clone(), connection));
        }
        presence.leave(channel, connection, departure).await?;
        match self.fault {
            Fault::InfoOutlives | Fault::OldestIsNext if !is_lost => {
                self.spoil_successor(channel, connection).await
            }
            _ => Ok(()),
        }
    }

    async fn refresh(
        &self,
        held: &[(ChannelName, SocketId)],
    ) -> Result<Vec<(ChannelName, SocketId)>, EngineError> {
        match self.fault {
            Fault::RefreshKnowsAll => return Ok(Vec::new()),
            Fault::RefreshKnowsNobody => return Ok(held.to_vec()),
            Fault::RefreshRevives => {
                let joined = self.state.lock().unwrap().joined.clone();
                for (channel, connection, member) in joined {
                    let presence = &self.good.presence;
                    presence.join(&channel, connection, member, KEPT).await?;
                }
            }
            _ => {}
        }
        self.good.presence.refresh(held).await
    }

    async fn members(
        &self,
        channel: &ChannelName,
        caller: Option<SocketId>,
    ) -> Result<Members, EngineError> {
        let mut members = self.good.presence.members(channel, caller).await?;
        match self.fault {
            Fault::StaleMembers => {
                let mut state = self.state.lock().unwrap();
                let position = members.position;
                if let Some(older) = state.snapshots.insert(channel.clone(), members.clone()) {
                    members = Members { position, ..older };
                }
            }
            Fault::EarlyPosition => members.position.offset += 1,
            Fault::Miscount => members.count += 1,
            _ => {}
        }
        Ok(members)
    }
}
