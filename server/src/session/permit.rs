//! Whether a subscription is allowed: on the server's word, by a channel token, or by the authorizer.

use fanfare_protocol::{Code, Member, Subscribe, UserId};

use super::effects::Setting;
use super::io::{Joining, Permission, Refusal};
use crate::auth::{Grant, TokenClaims, TokenError, Verified, member};
use crate::clock;
use crate::sessions::Unbound;

/// A subscription that is allowed.
#[derive(Debug, Default)]
pub(super) struct Permit {
    pub(super) grant: Grant,
    /// The member that a channel token was signed for.
    signed: Option<Member>,
}

impl Setting {
    pub(super) async fn permit(&self, joining: &Joining) -> Result<Permit, Refusal> {
        let subscribe = &joining.subscribe;
        let Permission::Required { voided_until } = joining.permission else {
            return Ok(Permit::default());
        };
        // A presence channel's token covers the member data. Who shows it without is judged by who they are, if that is known.
        let is_partial = subscribe.channel_data.is_none()
            && self.caller.identity.is_some()
            && self.services.terms.rules.has_presence(&subscribe.channel);
        if let Some(auth) = &subscribe.auth
            && !is_partial
        {
            return self.permit_by_token(subscribe, auth, voided_until);
        }
        let asking = self
            .services
            .authorizer
            .subscribe(&self.caller, &subscribe.channel);
        let grant = self.within_authorizer(asking).await?;
        Ok(Permit {
            grant,
            signed: None,
        })
    }

    /// Who the members will see: signed member data first, then the grant, then the identity; never the client's own word.
    pub(super) fn member(&self, permit: &Permit) -> Result<Member, Refusal> {
        if let Some(signed) = &permit.signed {
            return Ok(signed.clone());
        }
        let Some(identity) = &self.caller.identity else {
            let text = "a presence channel needs a user or signed member data";
            return Err(Refusal::new(Code::NOT_AUTHENTICATED).with_text(text));
        };
        member::member_of(identity, &permit.grant)
            .map_err(|error| Refusal::new(Code::FORBIDDEN).with_text(error.to_string()))
    }

    fn permit_by_token(
        &self,
        subscribe: &Subscribe,
        auth: &str,
        voided_until: Option<u64>,
    ) -> Result<Permit, Refusal> {
        let claims = TokenClaims::new(self.caller.socket, &subscribe.channel)
            .with_user(self.user())
            .with_channel_data(subscribe.channel_data.as_deref());
        let tokens = &self.services.tokens;
        let verified = tokens
            .verify(auth, &claims, clock::now())
            .map_err(|error| self.refused_token(error))?;
        let earliest_ms = verified.issued_at.map(|issued_at| {
            // By the clock of the node that signed it, which may be ahead of this one.
            clock::as_unix_ms(issued_at).saturating_sub(tokens.clock_skew_ms())
        });
        check_removal(voided_until, earliest_ms)?;
        let signed = match &subscribe.channel_data {
            Some(data) if self.services.terms.rules.has_presence(&subscribe.channel) => {
                let member = member::parse_member(data);
                Some(member.map_err(|error| Refusal::invalid_auth(error.to_string()))?)
            }
            _ => None,
        };
        if let (Some(user), Some(member)) = (&verified.user, &signed)
            && *user != member.id
        {
            return Err(Refusal::new(Code::OTHER_USER));
        }
        let named = signed.as_ref().map(|member| &member.id);
        if let Some(user) = verified.user.as_ref().or(named) {
            self.bind(user, earliest_ms)?;
        }
        let grant = Grant {
            info: None,
            expires_at: self.end_of(&verified),
        };
        Ok(Permit { grant, signed })
    }

    /// The connection is the user's from now on: one connection holds one user, and orders about the user reach it.
    fn bind(&self, user: &UserId, earliest_ms: Option<u64>) -> Result<(), Refusal> {
        let sessions = &self.services.sessions;
        let socket = self.caller.socket;
        let judged = sessions.signed(socket, earliest_ms);
        sessions
            .bind(socket, user, judged)
            .map_err(|unbound| match unbound {
                Unbound::OtherUser => Refusal::new(Code::OTHER_USER),
                Unbound::Revoked => Refusal::invalid_auth(
                    "the application disconnected this user after the channel token was made",
                ),
                Unbound::Ended => Refusal::unavailable(),
            })
    }

    /// The grant ends with what was signed. The session that asked for it is looked at only where the connection has none.
    fn end_of(&self, verified: &Verified) -> Option<std::time::SystemTime> {
        let session_until = match self.caller.identity {
            Some(_) => None,
            None => verified.session_until,
        };
        verified.until.into_iter().chain(session_until).min()
    }

    fn user(&self) -> Option<&UserId> {
        let identity = self.caller.identity.as_ref();
        identity.map(|identity| &identity.user)
    }

    fn refused_token(&self, error: TokenError) -> Refusal {
        if let Some(unsaid) = self.services.refusals.turn(error) {
            tracing::warn!(%error, unsaid, "channel token refused");
        }
        match error {
            TokenError::OtherUser => Refusal::new(Code::OTHER_USER),
            _ => Refusal::invalid_auth(error.to_string()),
        }
    }
}

/// Refuses a token that may have been made before the application removed the connection from the channel.
fn check_removal(voided_until: Option<u64>, earliest_ms: Option<u64>) -> Result<(), Refusal> {
    let Some(voided_until) = voided_until else {
        return Ok(());
    };
    match earliest_ms {
        Some(earliest_ms) if earliest_ms > voided_until => Ok(()),
        Some(_) => Err(Refusal::invalid_auth(
            "the application ended this subscription after the channel token was made",
        )),
        None => Err(Refusal::new(Code::FORBIDDEN).with_text(
            "the application ended this subscription, and the signature does not say that it was made afterwards",
        )),
    }
}
