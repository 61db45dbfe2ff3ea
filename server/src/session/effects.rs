//! Runs one effect of a session against the authorizer, the hub and the engine. Every wait has a deadline.

use std::future::Future;
use std::sync::Arc;

use fanfare_protocol::{ChannelName, Code, Member, Position, Presence, Reply};

use super::io::{Effect, Joining, OpId, Outcome};
use crate::auth::{Caller, Credentials, Denied, Grant, Token, member};
use crate::clock;
use crate::delivery::{Delivery, Departure, HistoryRange, Publication};
use crate::engine::EngineError;
use crate::hub::{Activated, Activation, Membership, Outbox, Wish};
use crate::publish::PublishError;
use crate::services::Services;

/// What one effect works with.
pub(super) struct Setting {
    pub(super) services: Arc<Services>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) caller: Caller,
    /// The handshake, while it still matters.
    pub(super) request: Option<Arc<http::request::Parts>>,
}

/// How an effect ended.
pub(super) struct Done {
    pub(super) op: OpId,
    pub(super) outcome: Outcome,
    /// A new place in a channel, for the driver to keep.
    pub(super) membership: Option<Membership>,
}

/// Why an effect came to nothing.
struct Refusal {
    code: Code,
    text: Option<String>,
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
            setting.publish(request, publication).await
        }
        Effect::ReadPresence { request, channel } => setting.read_presence(request, &channel).await,
        Effect::ReadHistory {
            request,
            channel,
            since,
            limit,
        } => setting.read_history(request, &channel, since, limit).await,
    };
    let outcome = outcome.unwrap_or_else(|Refusal { code, text }| Outcome::Refused { code, text });
    Done {
        op,
        outcome,
        membership,
    }
}

impl Setting {
    async fn authenticate(&self, token: &Token) -> Result<Outcome, Refusal> {
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
        let ends_at = identity.expires_at.map(clock::instant_of);
        Ok(Outcome::Authenticated { identity, ends_at })
    }

    async fn publish(
        &self,
        request: Option<u64>,
        publication: Publication,
    ) -> Result<Outcome, Refusal> {
        let authorizer = &self.services.authorizer;
        let permission = authorizer.publish(&self.caller, &publication.channel, &publication.event);
        self.within_authorizer(permission).await?;
        let publication = match &self.caller.identity {
            Some(identity) => publication.from_user(identity.user.clone()),
            None => publication,
        };
        let published = self
            .services
            .publisher
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

    async fn read_presence(&self, request: u64, channel: &ChannelName) -> Result<Outcome, Refusal> {
        let members = self
            .within_engine(self.services.engine.presence.members(channel))
            .await?;
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
        let history = self
            .within_engine(self.services.engine.broker.history(channel, range))
            .await?;
        let events = history.entries.iter().map(Delivery::to_event).collect();
        Ok(reply(Reply {
            events: Some(events),
            position: Some(history.top),
            ..Reply::new(request)
        }))
    }

    /// Failing here is covered like a crash: the store forgets what is not refreshed, and there is nobody to tell.
    async fn leave_presence(&self, channel: &ChannelName, departure: Departure) {
        let presence = &self.services.engine.presence;
        let _ = self
            .within_engine(presence.leave(channel, self.outbox.socket(), departure))
            .await;
    }

    /// Authorize, join the hub, read the history, go live: in this order, which is what makes a subscription gap-free.
    async fn subscribe(&self, joining: Joining) -> Result<(Membership, Outcome), Refusal> {
        let channel = joining.subscribe.channel.clone();
        let grant = self.permit(&joining).await?;
        let terms = &self.services.terms;
        let member = terms
            .rules
            .has_presence(&channel)
            .then(|| self.member(&joining, &grant))
            .transpose()?;
        let slow_reader = terms.rules.of(&channel).slow_reader;
        let joined = self
            .services
            .hub
            .join(channel.clone(), Arc::clone(&self.outbox), slow_reader)
            .await;
        let membership = joined.ok_or_else(unavailable)?;
        self.within_engine(self.services.engine.broker.interested(&channel))
            .await?;
        let is_present = member.is_some();
        let shown_as = member.as_ref().map(|member| member.id.clone());
        if let Some(member) = member {
            let retention = terms.rules.retention(&channel);
            let presence = &self.services.engine.presence;
            self.within_engine(presence.join(&channel, self.outbox.socket(), member, retention))
                .await?;
        }
        match self.go_live(&membership, &joining, is_present).await {
            Ok(()) => {
                let expires_at = grant.expires_at.map(clock::instant_of);
                Ok((
                    membership,
                    Outcome::Subscribed {
                        expires_at,
                        member: shown_as,
                    },
                ))
            }
            Err(refusal) => {
                if is_present {
                    self.leave_presence(&channel, Departure::Removed).await;
                }
                Err(refusal)
            }
        }
    }

    async fn go_live(
        &self,
        membership: &Membership,
        joining: &Joining,
        is_present: bool,
    ) -> Result<(), Refusal> {
        let terms = &self.services.terms;
        let channel = membership.channel();
        let is_positioned = terms.rules.retention(channel).is_positioned;
        let (wish, range) = self.wish(joining);
        for is_last_try in [false, true] {
            let history = if is_positioned {
                Some(
                    self.within_engine(self.services.engine.broker.history(channel, range))
                        .await?,
                )
            } else {
                None
            };
            let presence = if is_present {
                let members = self
                    .within_engine(self.services.engine.presence.members(channel))
                    .await?;
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
                is_last_try,
                bytes_max,
            };
            match membership.activate(activation).await {
                Activated::Live => return Ok(()),
                Activated::Hole => {}
                Activated::Failed | Activated::Gone => break,
            }
        }
        Err(unavailable())
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

    /// Whether the subscription is allowed: on the server's word, by a channel token, or by the authorizer.
    async fn permit(&self, joining: &Joining) -> Result<Grant, Refusal> {
        let subscribe = &joining.subscribe;
        if joining.is_granted {
            return Ok(Grant::default());
        }
        if let Some(auth) = &subscribe.auth {
            return self
                .services
                .verify_channel_token(&self.caller, auth, subscribe)
                .map_err(invalid_auth);
        }
        self.within_authorizer(
            self.services
                .authorizer
                .subscribe(&self.caller, &subscribe.channel),
        )
        .await
    }

    /// Who the members will see: signed member data first, then the grant, then the identity; never the client's own word.
    fn member(&self, joining: &Joining, grant: &Grant) -> Result<Member, Refusal> {
        if let (Some(_), Some(signed)) = (&joining.subscribe.auth, &joining.subscribe.channel_data)
        {
            let member =
                member::parse_member(signed).map_err(|error| invalid_auth(error.to_string()))?;
            if self
                .caller
                .identity
                .as_ref()
                .is_some_and(|identity| identity.user != member.id)
            {
                return Err(invalid_auth(
                    "the member data speaks of another user".to_owned(),
                ));
            }
            return Ok(member);
        }
        let Some(identity) = &self.caller.identity else {
            let text = "a presence channel needs a user or signed member data".to_owned();
            return Err(Refusal {
                code: Code::NOT_AUTHENTICATED,
                text: Some(text),
            });
        };
        member::member_of(identity, grant).map_err(|error| Refusal {
            code: Code::FORBIDDEN,
            text: Some(error.to_string()),
        })
    }

    async fn within_engine<T>(
        &self,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, Refusal> {
        let answer = tokio::time::timeout(self.services.terms.limits.engine_deadline, call).await;
        answer.map_err(|_| unavailable())?.map_err(|error| {
            tracing::warn!(session = %self.outbox.socket(), %error, "the engine failed a session");
            unavailable()
        })
    }

    /// The authorizer is guarded: it has a deadline of its own and its failures are logged there.
    async fn within_authorizer<T>(
        &self,
        call: impl Future<Output = Result<T, Denied>>,
    ) -> Result<T, Refusal> {
        call.await.map_err(|denied| match denied {
            Denied::NoCredentials => Refusal {
                code: Code::NOT_AUTHENTICATED,
                text: None,
            },
            Denied::Refused { reason } => Refusal {
                code: Code::FORBIDDEN,
                text: Some(reason),
            },
            Denied::Unavailable { .. } => unavailable(),
        })
    }
}

fn invalid_auth(text: String) -> Refusal {
    Refusal {
        code: Code::INVALID_AUTH,
        text: Some(text),
    }
}

fn unavailable() -> Refusal {
    Refusal {
        code: Code::UNAVAILABLE,
        text: None,
    }
}

fn reply(reply: Reply) -> Outcome {
    Outcome::Replied(Box::new(reply))
}

fn refusal_of(error: &PublishError) -> Refusal {
    let code = match error {
        PublishError::Channel(_) => Code::BAD_CHANNEL,
        PublishError::Event(_) | PublishError::Reserved { .. } => Code::BAD_EVENT,
        PublishError::Payload(_) => Code::BAD_MESSAGE,
        PublishError::PayloadTooLarge { .. } => Code::PAYLOAD_TOO_LARGE,
        PublishError::Engine {
            error: EngineError::Unknown { .. },
            ..
        } => Code::UNKNOWN_OUTCOME,
        PublishError::Overloaded { .. } | PublishError::Engine { .. } => Code::UNAVAILABLE,
    };
    Refusal {
        code,
        text: Some(error.to_string()),
    }
}
