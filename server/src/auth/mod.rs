//! Who may connect, subscribe and publish.
//!
//! An [`Authorizer`] gets parsed parts, never a raw string to slice. Ready-made: [`JwtAuthorizer`], [`CookieAuthorizer`],
//! [`RequestAuthorizer`] and [`first_of`] two of them; [`Policy`] puts an application's own rules for channels on top.
//! The auth endpoint hands out [channel tokens](ChannelTokens) to callers that an authorizer let in.

mod channel_token;
mod cookie;
pub(crate) mod endpoint;
mod first_of;
pub(crate) mod guarded;
mod jwt;
pub(crate) mod member;
pub(crate) mod origin;
mod policy;
mod shares;
mod signature;

pub use channel_token::{ChannelTokens, Lasts, TokenClaims, TokenError, Verified, WeakSecret};
pub use cookie::{CookieAuthorizer, RequestAuthorizer};
pub use first_of::{FirstOf, first_of};
pub use jwt::{JwtAuthorizer, JwtKey, JwtKeyError};
pub use member::INFO_BYTES_MAX;
pub use origin::{BadOrigin, OriginRefused, Origins};
pub use policy::{Policy, PublicOnly};

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use async_trait::async_trait;
use fanfare_protocol::{ChannelName, EventName, RawJson, SocketId, UserId};

/// Decides who may connect, subscribe and publish. Every call has a deadline of two seconds; no answer means "not now".
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Who is this?
    ///
    /// Called once for the handshake (no token, unless it had an `Authorization: Bearer` header), and again for every
    /// `authenticate` message.
    ///
    /// # Errors
    /// [`Denied::NoCredentials`] when there is nothing to judge, [`Denied::Refused`] when there is and it is wrong.
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied>;

    /// May this connection subscribe? Asked for every kind of channel, unless a valid channel token already says so.
    ///
    /// By default public channels are open to everybody and other channels are refused.
    ///
    /// # Errors
    /// The reason to refuse.
    async fn subscribe(&self, caller: &Caller, channel: &ChannelName) -> Result<Grant, Denied> {
        let _ = caller;
        match channel.kind() {
            fanfare_protocol::ChannelKind::Public => Ok(Grant::default()),
            _ => Err(Denied::refused("this channel needs a channel token")),
        }
    }

    /// May this connection publish a client event? Asked only where the channel's rule allows client events at all.
    ///
    /// By default everybody who is subscribed may.
    ///
    /// # Errors
    /// The reason to refuse.
    async fn publish(
        &self,
        caller: &Caller,
        channel: &ChannelName,
        event: &EventName,
    ) -> Result<(), Denied> {
        let _ = (caller, channel, event);
        Ok(())
    }

    /// Whether a cookie can say who the caller is.
    ///
    /// A browser sends cookies whichever site asks it to, so requests that carry one then have to come from an allowed
    /// [origin](Origins). Say `false` only where cookies are never read.
    fn reads_cookies(&self) -> bool {
        true
    }
}

/// What a peer shows to say who it is.
#[derive(Debug)]
#[non_exhaustive]
pub struct Credentials<'a> {
    /// The head of the HTTP request that opened the connection, or that asked the auth endpoint. Absent once the connection
    /// is identified or anonymous: a token that it shows later is judged alone.
    pub request: Option<&'a http::request::Parts>,
    /// The bearer token, from an `authenticate` message or the `Authorization` header.
    pub token: Option<&'a Token>,
    /// Where the request came from, where that is known.
    pub remote: Option<SocketAddr>,
    /// Its address, where addresses are counted.
    pub(crate) address: Option<IpAddr>,
}

impl<'a> Credentials<'a> {
    /// Credentials of one request.
    #[must_use]
    pub fn new(
        request: Option<&'a http::request::Parts>,
        token: Option<&'a Token>,
        remote: Option<SocketAddr>,
    ) -> Self {
        Self {
            request,
            token,
            remote,
            address: None,
        }
    }

    /// Says which address the call counts for.
    #[must_use]
    pub(crate) fn at_address(mut self, address: Option<IpAddr>) -> Self {
        self.address = address;
        self
    }
}

/// A bearer token; it never shows itself in logs.
#[derive(Clone)]
pub struct Token(Box<str>);

impl Token {
    /// Takes a token's text.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The token of an `Authorization: Bearer` header; none when there is no such header, or more than one.
    #[must_use]
    pub fn of_headers(headers: &http::HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        // Text that is not UTF-8 is no token, but it was shown: it is refused, not passed over.
        let value = String::from_utf8_lossy(value.as_bytes());
        let (scheme, text) = value.split_once(' ')?;
        let text = text.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !text.is_empty()).then(|| Self::new(text))
    }

    /// The text, for whoever verifies it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Who a connection belongs to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// What other members of a presence channel may know, a JSON value; `{}` when absent.
    pub info: Option<RawJson>,
    /// What only the application knows about the user (roles, a tenant), a JSON value. It never leaves the server.
    pub claims: Option<RawJson>,
    /// When the identity ends unless it is refreshed.
    pub expires_at: Option<SystemTime>,
}

impl Identity {
    /// A user without further information and without an end.
    #[must_use]
    pub fn new(user: UserId) -> Self {
        Self {
            user,
            info: None,
            claims: None,
            expires_at: None,
        }
    }

    /// Adds what other members may know.
    #[must_use]
    pub fn with_info(mut self, info: RawJson) -> Self {
        self.info = Some(info);
        self
    }

    /// Adds what only the application may know.
    #[must_use]
    pub fn with_claims(mut self, claims: RawJson) -> Self {
        self.claims = Some(claims);
        self
    }

    /// Adds an end.
    #[must_use]
    pub fn expiring_at(mut self, expires_at: SystemTime) -> Self {
        self.expires_at = Some(expires_at);
        self
    }
}

/// The connection that asks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Caller {
    /// Its id.
    pub socket: SocketId,
    /// Who it belongs to; none when anonymous.
    pub identity: Option<Identity>,
    /// Where it comes from, where addresses are counted.
    pub(crate) address: Option<IpAddr>,
}

impl Caller {
    /// A connection and its owner.
    #[must_use]
    pub fn new(socket: SocketId, identity: Option<Identity>) -> Self {
        Self {
            socket,
            identity,
            address: None,
        }
    }

    /// Says which address its calls count for.
    #[must_use]
    pub(crate) fn at_address(mut self, address: Option<IpAddr>) -> Self {
        self.address = address;
        self
    }

    /// Whom its calls count for, beside the connection.
    pub(crate) fn peer(&self) -> Option<Peer> {
        match (&self.identity, self.address) {
            (Some(identity), _) => Some(Peer::User(identity.user.clone())),
            (None, Some(address)) => Some(Peer::Address(address)),
            (None, None) => None,
        }
    }

    /// The user, or the refusal that asks for credentials.
    ///
    /// # Errors
    /// [`Denied::NoCredentials`] when the connection is anonymous.
    pub fn user(&self) -> Result<&UserId, Denied> {
        self.identity
            .as_ref()
            .map(|identity| &identity.user)
            .ok_or(Denied::NoCredentials)
    }
}

/// Whom the calls of several connections count for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// A user's connections.
    User(UserId),
    /// Those without a user that come from one address, where addresses are counted.
    Address(IpAddr),
}

/// A permitted subscription.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Grant {
    /// On presence channels: what others may know of this member, in place of the identity's own `info`.
    pub info: Option<RawJson>,
    /// When the permission ends; the subscription ends with it.
    pub expires_at: Option<SystemTime>,
}

impl Grant {
    /// Says what others may know of this member, in place of the identity's own `info`.
    #[must_use]
    pub fn with_info(mut self, info: RawJson) -> Self {
        self.info = Some(info);
        self
    }

    /// Ends the permission, and the subscription with it.
    #[must_use]
    pub fn expiring_at(mut self, expires_at: SystemTime) -> Self {
        self.expires_at = Some(expires_at);
        self
    }
}

/// Why the answer is no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// Nothing was shown that could be judged.
    #[error("authentication required")]
    NoCredentials,
    /// What was shown is wrong, or not enough. The text reaches the client.
    #[error("{reason}")]
    Refused {
        /// A sentence for the client.
        reason: String,
    },
    /// Whoever decides did not answer; the same request may succeed later.
    #[error("the authorizer did not answer: {detail}")]
    Unavailable {
        /// What happened, for the log; the client is not told.
        detail: String,
    },
}

impl Denied {
    /// A refusal with a sentence for the client.
    #[must_use]
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused {
            reason: reason.into(),
        }
    }

    /// No answer, with a sentence for the log.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::Unavailable {
            detail: detail.into(),
        }
    }
}
