//! Runs one effect of a session against the authorizer, the hub and the engine. Every wait has a deadline.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use fanfare_protocol::{ChannelName, Code, Position, Presence, Reply};

use super::io::{Effect, OpId, Outcome, Refusal};
use super::reads;
use crate::auth::{Caller, Credentials, Denied, Token};
use crate::clock;
use crate::delivery::{Delivery, Departure, History, HistoryRange, Publication};
use crate::engine::EngineError;
use crate::hub::{Membership, Outbox};
use crate::publish::{self, PublishError};
use crate::services::Services;
use crate::session::Terms;
use crate::sessions::Unbound;

/// What one effect works with.
pub(super) struct Setting {
    pub(super) services: Arc<Services>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) caller: Caller,
    /// The handshake, while it still matters.
    pub(super) request: Option<Arc<http::request::Parts>>,
    /// What was read for its answer.
    pub(super) answered_bytes: AtomicUsize,
}

/// How an effect ended.
pub(super) struct Done {
    pub(super) op: OpId,
    pub(super) outcome: Outcome,
    /// A new place in a channel, for the driver to keep.
    pub(super) membership: Option<Membership>,
    /// What was read for its answer.
    pub(super) answered_bytes: usize,
}

/// Runs one effect to its end.
///
/// # Cancel safety
/// A dropped effect leaves no membership behind. It may leave presence behind, which is why a driver that ends leaves every
/// presence channel it was in or on its way into.
pub(super) async fn run(setting: Setting, op: OpId, effect: Effect) -> Done {
    let mut membership = None;
    let outcome = match effect {
        Effect::Authenticate(token) => setting.authenticate(&token).await,
        Effect::Subscribe(joining) => match setting.subscribe(*joining).await {
            Ok((joined, outcome)) => {
                membership = Some(joined);
                Ok(outcome)
            }
            Err(refusal) => Err(refusal),
        },
        Effect::LeavePresence { channel, departure } => {
            setting.leave_presence(&channel, departure).await;
            Ok(Outcome::Accepted)
        }
        Effect::Publish {
            request,
            channel,
            event,
            data,
            key,
        } => {
            let mut publication = Publication::new(channel, event, data);
            publication.key = key;
            publication.sender = Some(setting.outbox.socket());
            setting.publish(request, publication).await
        }
        Effect::UpdatePresence {
            request,
            channel,
            info,
        } => setting.update_presence(request, &channel, info).await,
        Effect::ReadPresence { request, channel } => setting.read_presence(request, &channel).await,
        Effect::ReadHistory {
            request,
            channel,
            since,
            limit,
        } => setting.read_history(request, &channel, since, limit).await,
    };
    let outcome = outcome.unwrap_or_else(Outcome::Refused);
    Done {
        op,
        outcome,
        membership,
        answered_bytes: setting.answered_bytes.into_inner(),
    }
}

impl Setting {
    async fn authenticate(&self, token: &Token) -> Result<Outcome, Refusal> {
        let sessions = &self.services.sessions;
        let judged = sessions.judging();
        let credentials = Credentials::new(self.request.as_deref(), Some(token), None);
        let identity = self
            .within_authorizer(self.services.authorizer.connect(&credentials))
            .await;
        let identity = identity.map_err(|refusal| match refusal.code {
            Code::FORBIDDEN | Code::NOT_AUTHENTICATED => Refusal {
                code: Code::CREDENTIALS_REFUSED,
                ..refusal
            },
            _ => refusal,
        })?;
        // Before anybody is told: what the application orders about the user from here on reaches the connection.
        let bound = sessions.bind(self.caller.socket, &identity.user, judged);
        bound.map_err(|unbound| match unbound {
            Unbound::OtherUser => {
                Refusal::new(Code::TOKEN_REFUSED).with_text("a connection cannot change its user")
            }
            Unbound::Revoked => Refusal::new(Code::DISCONNECTED),
            Unbound::Ended => Refusal::unavailable(),
        })?;
        let ends_at = identity.expires_at.map(clock::instant_of);
        Ok(Outcome::Authenticated { identity, ends_at })
    }

    async fn publish(
        &self,
        request: Option<u64>,
        publication: Publication,
    ) -> Result<Outcome, Refusal> {
        let publication = match &self.caller.identity {
            Some(identity) => publication.from_user(identity.user.clone()),
            None => publication,
        };
        let Services {
            authorizer,
            publisher,
            ..
        } = &*self.services;
        let permission = authorizer.publish(&self.caller, &publication.channel, &publication.event);
        let permitted = self.within_authorizer(permission).await;
        let permitted = permitted
            .and_then(|()| self.take_channel_bytes(&publication.channel, publication.data.len()));
        if let Err(refusal) = permitted {
            // It says nothing about an earlier attempt.
            if !publisher.may_have_published(&publication) {
                return Err(refusal);
            }
            let unknown = refusal_of(&publish::unknown(publication.channel));
            return Err(match refusal.retry_after {
                Some(wait) => unknown.with_retry_after(wait),
                None => unknown,
            });
        }
        let published = publisher
            .publish(publication)
            .await
            .map_err(|error| refusal_of(&error))?;
        Ok(request.map_or(Outcome::Accepted, |id| {
            reply(Reply {
                position: published.position,
                ..Reply::new(id)
            })
        }))
    }

    /// Takes what a client publishes from what its user may publish, and from what its channel takes per second.
    pub(super) fn take_channel_bytes(
        &self,
        channel: &ChannelName,
        bytes: usize,
    ) -> Result<(), Refusal> {
        let Terms { limits, rules, .. } = &*self.services.terms;
        let rate = limits.channel_bytes_rate(rules.of(channel));
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.take_peer_bytes(bytes)?;
        let budgets = &self.services.channel_bytes;
        budgets
            .take(channel, bytes, rate, clock::moment().instant)
            .map_err(|wait| {
                let text = format!(
                    "clients publish at most {} bytes per second on {channel}, {bytes} more are too many now",
                    rate.per_second
                );
                let refusal = Refusal::new(Code::CHANNEL_RATE).with_text(text);
                refusal.with_retry_after(wait)
            })
    }

    async fn read_presence(&self, request: u64, channel: &ChannelName) -> Result<Outcome, Refusal> {
        let _reading = self.begin_read().await?;
        let presence = &self.services.engine.presence;
        let members = self
            .within_engine(presence.members(channel, Some(self.outbox.socket())))
            .await?;
        self.answered(reads::bytes_of_members(&members.members));
        let position = Some(members.position);
        let presence = Some(Presence {
            count: members.count,
            members: members.members,
        });
        Ok(reply(Reply {
            presence,
            position,
            ..Reply::new(request)
        }))
    }

    async fn read_history(
        &self,
        request: u64,
        channel: &ChannelName,
        since: Option<Position>,
        limit: Option<u32>,
    ) -> Result<Outcome, Refusal> {
        let most = self.services.terms.limits.recovery_events_max;
        let limit = limit.map_or(most, |limit| limit.min(most));
        let range = match since {
            Some(since) => HistoryRange::After {
                offset: since.offset,
                limit,
            },
            None => HistoryRange::Last { limit },
        };
        let history = match since {
            Some(since) => {
                let standing = self.read_range(channel, NOTHING).await?;
                // Another epoch: what it has need not be read.
                match standing.top.epoch == since.epoch {
                    true => self.read_for_answer(channel, range).await?,
                    false => standing,
                }
            }
            None => self.read_for_answer(channel, range).await?,
        };
        let follows = since.is_none_or(|since| history.may_follow(since));
        let mut entries = history.entries;
        if !follows {
            // Another history: its messages do not come after that position. The new position says so.
            entries = Vec::new();
        }
        let events = entries.iter().map(Delivery::to_event).collect();
        Ok(reply(Reply {
            events: Some(events),
            position: Some(history.top),
            ..Reply::new(request)
        }))
    }

    /// Reads part of a history that may be large.
    async fn read_for_answer(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Result<History, Refusal> {
        let _reading = self.begin_read().await?;
        let history = self.read_range(channel, range).await?;
        self.answered(reads::bytes_of_events(&history.entries));
        Ok(history)
    }

    /// Reads part of a history.
    pub(super) async fn read_range(
        &self,
        channel: &ChannelName,
        range: HistoryRange,
    ) -> Result<History, Refusal> {
        let retention = self.services.terms.rules.retention(channel);
        let broker = &self.services.engine.broker;
        self.within_engine(broker.history(channel, range, retention))
            .await
    }

    /// Failing here is covered like a crash: the store forgets what is not refreshed, and there is nobody to tell.
    pub(super) async fn leave_presence(&self, channel: &ChannelName, departure: Departure) {
        let presence = &self.services.engine.presence;
        let _ = self
            .within_engine(presence.leave(channel, self.outbox.socket(), departure))
            .await;
    }

    pub(super) async fn within_engine<T>(
        &self,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, Refusal> {
        let answer = tokio::time::timeout(self.services.terms.limits.engine_deadline, call).await;
        answer.map_err(|_| Refusal::unavailable())?.map_err(|error| {
            // A store that is full or gone fails every session's every command.
            if let Some(unsaid) = self.services.refusals.turn(error.to_string()) {
                tracing::warn!(session = %self.outbox.socket(), %error, unsaid, "the engine failed a session");
            }
            Refusal::unavailable()
        })
    }

    /// The authorizer is guarded: it has a deadline of its own and its failures are logged there.
    pub(super) async fn within_authorizer<T>(
        &self,
        call: impl Future<Output = Result<T, Denied>>,
    ) -> Result<T, Refusal> {
        call.await.map_err(|denied| match denied {
            Denied::NoCredentials => Refusal::new(Code::NOT_AUTHENTICATED),
            Denied::Refused { reason } => Refusal::new(Code::FORBIDDEN).with_text(reason),
            Denied::Unavailable { .. } => Refusal::unavailable(),
        })
    }
}

/// Where a channel stands, and none of its messages: nodes know that of the channels they follow, and others read it cheaply.
pub(super) const NOTHING: HistoryRange = HistoryRange::Last { limit: 0 };

fn reply(reply: Reply) -> Outcome {
    Outcome::Replied(Box::new(reply))
}

fn refusal_of(error: &PublishError) -> Refusal {
    let code = match error {
        PublishError::Channel(_) => Code::BAD_CHANNEL,
        PublishError::Event(_) | PublishError::Reserved { .. } => Code::BAD_EVENT,
        PublishError::Payload(_) => Code::BAD_MESSAGE,
        PublishError::PayloadTooLarge { .. } => Code::PAYLOAD_TOO_LARGE,
        error if error.may_have_happened() => Code::UNKNOWN_OUTCOME,
        PublishError::Overloaded { .. } | PublishError::Engine { .. } => Code::UNAVAILABLE,
    };
    Refusal::new(code).with_text(error.to_string())
}
