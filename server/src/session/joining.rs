//! How a subscription is made: authorize, join the hub, ask the engine, go live.

use std::sync::Arc;

use fanfare_protocol::{ChannelName, Presence, UserId};

use super::effects::{NOTHING, Setting};
use super::io::{Joining, Outcome, Permission, Refusal};
use super::reads;
use crate::clock::{self, Instant};
use crate::delivery::{Departure, History, HistoryRange};
use crate::hub::{Activated, Activation, Membership, Wish};

impl Setting {
    /// Authorize, join the hub, read the history, go live: in this order, which is what makes a subscription gap-free.
    pub(super) async fn subscribe(
        &self,
        joining: Joining,
    ) -> Result<(Membership, Outcome), Refusal> {
        if let Permission::Held { expires_at } = joining.permission {
            return self.move_to(&joining, expires_at).await;
        }
        let channel = joining.subscribe.channel.clone();
        let permit = self.permit(&joining).await?;
        let terms = &self.services.terms;
        let mut member = terms
            .rules
            .has_presence(&channel)
            .then(|| self.member(&permit))
            .transpose()?;
        let may_update = terms.rules.of(&channel).presence_update;
        let known = member.as_ref().filter(|_| may_update);
        let joined_info = known.map(|member| member.info.clone());
        if let (Some(member), Some(info)) = (&mut member, &joining.info) {
            member.info = info.clone();
        }
        if let Some(member) = &member {
            // Before the others see anything: what is refused for this must not show a member who comes and goes.
            self.check_peer()?;
            self.charge_join(&member.id)?;
            // Joining waits for nothing that others publish; how often a user joins is bounded.
            let _ = self.take_info_bytes(&channel, &joining);
        }
        let membership = self.join_hub(&channel).await?;
        let present = member.as_ref().map(|member| member.id.clone());
        let is_present = member.is_some();
        if let Some(member) = member {
            let retention = terms.rules.retention(&channel);
            let presence = &self.services.engine.presence;
            let join = presence.join(&channel, self.outbox.socket(), member, retention);
            if let Err(refusal) = self.within_engine(join).await {
                // A join without an answer may have happened, or happen yet: who is told "unavailable" must not be shown as here.
                self.leave_presence(&channel, Departure::Removed).await;
                return Err(refusal);
            }
        }
        match self
            .go_live(&membership, &joining, is_present, present)
            .await
        {
            Ok(()) => {
                let expires_at = permit.grant.expires_at.map(clock::instant_of);
                let outcome = Outcome::Subscribed {
                    expires_at,
                    joined_info,
                };
                Ok((membership, outcome))
            }
            Err(refusal) => {
                if is_present {
                    self.leave_presence(&channel, Departure::Removed).await;
                }
                Err(refusal)
            }
        }
    }

    /// Joins the hub again at another position. Who is present already stays so, and leaves when this fails.
    async fn move_to(
        &self,
        joining: &Joining,
        expires_at: Option<Instant>,
    ) -> Result<(Membership, Outcome), Refusal> {
        let channel = &joining.subscribe.channel;
        let is_present = self.services.terms.rules.has_presence(channel);
        let moved = async {
            self.take_info_bytes(channel, joining)?;
            let membership = self.join_hub(channel).await?;
            if let Some(info) = &joining.info {
                self.show(channel, info.clone()).await?;
            }
            self.go_live(&membership, joining, is_present, None).await?;
            Ok(membership)
        };
        let moved = moved.await;
        if moved.is_err() && is_present {
            self.leave_presence(channel, Departure::Removed).await;
        }
        let outcome = Outcome::Subscribed {
            expires_at,
            joined_info: None,
        };
        moved.map(|membership| (membership, outcome))
    }

    /// Takes the info that comes with a subscription from what its channel takes, as that of an update. It is never charged beyond
    /// that: a channel in debt would refuse what all others publish.
    fn take_info_bytes(&self, channel: &ChannelName, joining: &Joining) -> Result<(), Refusal> {
        match &joining.info {
            Some(info) => self.take_channel_bytes(channel, info.len()),
            None => Ok(()),
        }
    }

    /// From now on the channel's deliveries are held for this subscription.
    async fn join_hub(&self, channel: &ChannelName) -> Result<Membership, Refusal> {
        let _slot = self.begin_subscribing().await?;
        let slow_reader = self.services.terms.rules.of(channel).slow_reader;
        let hub = &self.services.hub;
        let joined = hub.join(channel.clone(), Arc::clone(&self.outbox), slow_reader);
        let membership = joined.await.ok_or_else(Refusal::unavailable)?;
        self.within_engine(self.services.engine.broker.interested(channel))
            .await?;
        Ok(membership)
    }

    async fn go_live(
        &self,
        membership: &Membership,
        joining: &Joining,
        is_present: bool,
        member: Option<UserId>,
    ) -> Result<(), Refusal> {
        let terms = &self.services.terms;
        let channel = membership.channel();
        let retention = terms.rules.retention(channel);
        let (wish, range) = self.wish(joining);
        for is_last_try in [false, true] {
            let standing = match wish {
                Wish::Rewind => None,
                _ if !retention.is_positioned => None,
                Wish::Live | Wish::Since(_) => Some(self.read_range(channel, NOTHING).await?),
            };
            let is_behind = match (wish, &standing) {
                (Wish::Rewind, _) => retention.is_positioned,
                (Wish::Since(since), Some(History { top, .. })) => {
                    top.epoch == since.epoch && top.offset > since.offset
                }
                _ => false,
            };
            let reading = match is_behind || is_present {
                true => Some(self.begin_recovery().await?),
                false => None,
            };
            let history = match is_behind {
                true => {
                    let history = self.read_range(channel, range).await?;
                    self.answered(reads::bytes_of_events(&history.entries));
                    Some(history)
                }
                false => standing,
            };
            let presence = if is_present {
                let presence = &self.services.engine.presence;
                let members = self
                    .within_engine(presence.members(channel, Some(self.outbox.socket())))
                    .await?;
                self.answered(reads::bytes_of_members(&members.members));
                Some((
                    Presence {
                        count: members.count,
                        members: members.members,
                    },
                    members.position,
                ))
            } else {
                None
            };
            let bytes_max = terms.limits.recovery_bytes_max;
            let request = joining.request;
            let activation = Activation {
                request,
                wish,
                history,
                presence,
                member: member.clone(),
                is_last_try,
                bytes_max,
            };
            // Who reads as fast as its line allows is not slow: it gets one large reply after the other. When the outbox does
            // not drain in time the reply goes out all the same.
            let _turn = match &reading {
                Some(_) => None,
                None => self.outbox.turn(terms.limits.engine_deadline).await,
            };
            match membership.activate(activation).await {
                Activated::Live => return Ok(()),
                Activated::Hole => {}
                Activated::Failed | Activated::Gone => break,
            }
        }
        Err(Refusal::unavailable())
    }

    fn wish(&self, joining: &Joining) -> (Wish, HistoryRange) {
        let terms = &self.services.terms;
        let rewind_max = terms.rules.of(&joining.subscribe.channel).rewind_max;
        match (joining.subscribe.since, joining.subscribe.rewind) {
            (Some(since), _) => {
                let limit = terms.limits.recovery_events_max;
                (
                    Wish::Since(since),
                    HistoryRange::After {
                        offset: since.offset,
                        limit,
                    },
                )
            }
            (None, Some(count)) if rewind_max > 0 => {
                let limit = count.min(rewind_max).min(terms.limits.recovery_events_max);
                (Wish::Rewind, HistoryRange::Last { limit })
            }
            (None, _) => (Wish::Live, HistoryRange::Last { limit: 0 }),
        }
    }
}
