//! Identities from JSON Web Tokens.

mod claims;
mod key;

use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_protocol::{RawJson, UserId};

use self::claims::{Claims, Head, Rejection, check_surroundings};
pub use self::key::{JwtKey, JwtKeyError};
use super::{Authorizer, Credentials, Denied, Identity, Token};
use crate::clock;
use crate::refusal_log::RefusalLog;

/// Says who a connection belongs to by a JSON Web Token (RFC 7519, with the advice of RFC 8725).
///
/// The token comes from an `authenticate` message or an `Authorization: Bearer` header. Each [key](JwtKey) is bound to one
/// algorithm, whatever the token claims. `exp` is required; the identity ends with it and the leeway.
///
/// Why a token was refused is in the log, at a bounded rate and without the token; the client is told less.
///
/// ```
/// use fanfare_server::auth::{JwtAuthorizer, JwtKey};
///
/// let authorizer = JwtAuthorizer::new(JwtKey::hs256("a secret of at least thirty-two bytes")?)
///     .with_issuer("https://login.example.com")
///     .with_audience("realtime");
/// # let _ = authorizer;
/// # Ok::<(), fanfare_server::auth::JwtKeyError>(())
/// ```
#[derive(Debug)]
pub struct JwtAuthorizer {
    keys: Vec<JwtKey>,
    issuer: Option<String>,
    audiences: Vec<String>,
    token_type: Option<String>,
    leeway: Duration,
    user_claim: String,
    info_claim: String,
    keeps_claims: bool,
    refusals: RefusalLog,
}

impl JwtAuthorizer {
    /// Accepts tokens that this key signed.
    #[must_use]
    pub fn new(key: JwtKey) -> Self {
        Self {
            keys: vec![key],
            issuer: None,
            audiences: Vec::new(),
            token_type: None,
            leeway: Duration::from_secs(30),
            user_claim: "sub".to_owned(),
            info_claim: "info".to_owned(),
            keeps_claims: false,
            refusals: RefusalLog::new(),
        }
    }

    /// Also accepts tokens that this key signed.
    #[must_use]
    pub fn with_key(mut self, key: JwtKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Requires `iss` to be this text, for every key that has no issuer of its own.
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Requires `aud` to name this audience, or one of several when called repeatedly.
    ///
    /// Without an audience, tokens that name one are refused: they are meant for somebody else (RFC 7519, 4.1.3).
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Requires the header's `typ` to be this text, such as `at+jwt`. By default it may be absent, `JWT` or `at+jwt`.
    #[must_use]
    pub fn with_type(mut self, token_type: impl Into<String>) -> Self {
        self.token_type = Some(token_type.into());
        self
    }

    /// Sets how far the issuer's clock may differ; 30 seconds by default.
    #[must_use]
    pub const fn with_leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Takes the user id from this claim, a text or a whole number; `sub` by default.
    #[must_use]
    pub fn with_user_claim(mut self, claim: impl Into<String>) -> Self {
        self.user_claim = claim.into();
        self
    }

    /// Takes what other members may know from this claim; `info` by default.
    #[must_use]
    pub fn with_info_claim(mut self, claim: impl Into<String>) -> Self {
        self.info_claim = claim.into();
        self
    }

    /// Keeps all claims in [`Identity::claims`], for decisions about channels. They take memory as long as the connection lives.
    #[must_use]
    pub const fn keeping_claims(mut self) -> Self {
        self.keeps_claims = true;
        self
    }

    fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, Rejection> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Rejection::Malformed("the token is too long"));
        }
        check_surroundings(token)?;
        let parts: Vec<&str> = token.split('.').collect();
        let &[head, claims, signature] = parts.as_slice() else {
            return Err(Rejection::Malformed("a token has three parts"));
        };
        let signed = &token[..head.len() + 1 + claims.len()];
        let head = Head::parse(&decode(head)?)?;
        self.check_type(&head)?;
        let key = self.signer(&head, signed, &decode(signature)?)?;
        let claims = Claims::parse(decode(claims)?)?;
        self.check_claims(&claims, key, now_ms)
    }

    /// The key that signed the token. The token chooses among the configured keys by `kid`, never an algorithm.
    fn signer(&self, head: &Head, signed: &str, signature: &Vec<u8>) -> Result<&JwtKey, Rejection> {
        let mut fitting = self.keys.iter().filter(|key| key.is_for(head)).peekable();
        if fitting.peek().is_none() {
            let has_algorithm = self.keys.iter().any(|key| key.has_algorithm(head));
            return Err(match has_algorithm {
                true => Rejection::NoKeyWithId,
                false => Rejection::NoKeyForAlgorithm(key::known_algorithm(&head.alg)),
            });
        }
        fitting
            .find(|key| key.has_signed(signed, signature))
            .ok_or(Rejection::BadSignature)
    }

    fn check_type(&self, head: &Head) -> Result<(), Rejection> {
        let typ = head.typ.as_deref();
        let is_known = match &self.token_type {
            Some(required) => typ.is_some_and(|typ| typ.eq_ignore_ascii_case(required)),
            None => typ.is_none_or(|typ| {
                ["jwt", "at+jwt"]
                    .iter()
                    .any(|known| typ.eq_ignore_ascii_case(known))
            }),
        };
        is_known.then_some(()).ok_or(Rejection::WrongType)
    }

    fn check_claims(
        &self,
        claims: &Claims,
        key: &JwtKey,
        now_ms: u64,
    ) -> Result<Identity, Rejection> {
        let leeway_ms = u64::try_from(self.leeway.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = claims.time_ms("exp")?.ok_or(Rejection::Missing("exp"))?;
        // The identity ends when the token stops counting: one that is let in within the leeway is not thrown out at once.
        let ends_ms = expires_ms.saturating_add(leeway_ms);
        if ends_ms <= now_ms {
            return Err(Rejection::Expired);
        }
        let not_before_ms = claims.time_ms("nbf")?.unwrap_or(0);
        if not_before_ms > now_ms.saturating_add(leeway_ms) {
            return Err(Rejection::NotYetValid);
        }
        if let Some(issuer) = key.issuer.as_ref().or(self.issuer.as_ref())
            && claims.text("iss")?.as_ref() != Some(issuer)
        {
            return Err(Rejection::WrongIssuer);
        }
        self.check_audience(claims)?;
        let user = claims
            .text_or_number(&self.user_claim)?
            .ok_or_else(|| Rejection::NoUser(self.user_claim.clone()))?;
        let user = UserId::new(&user).map_err(|_| Rejection::NoUser(self.user_claim.clone()))?;
        let mut identity = Identity::new(user);
        // A leeway without bound is an identity without end.
        identity.expires_at = UNIX_EPOCH.checked_add(Duration::from_millis(ends_ms));
        identity.info = claims.raw(&self.info_claim).map(RawJson::trusted);
        identity.claims = self.keeps_claims.then(|| claims.all());
        Ok(identity)
    }

    fn log(&self, rejection: &Rejection) {
        let Some(unsaid) = self.refusals.turn(rejection) else {
            return;
        };
        if rejection.is_expected() {
            tracing::info!(error = %rejection, unsaid, "token refused");
        } else {
            tracing::warn!(error = %rejection, unsaid, "token refused");
        }
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Rejection> {
        let named = claims.texts("aud")?;
        let is_meant = match &named {
            None => self.audiences.is_empty(),
            Some(_) if self.audiences.is_empty() => return Err(Rejection::UnexpectedAudience),
            Some(named) => named.iter().any(|name| self.audiences.contains(name)),
        };
        is_meant.then_some(()).ok_or(Rejection::WrongAudience)
    }
}

#[async_trait]
impl Authorizer for JwtAuthorizer {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        let in_header = match (credentials.token, credentials.request) {
            (None, Some(request)) => Token::of_headers(&request.headers),
            _ => None,
        };
        let token = credentials.token.or(in_header.as_ref());
        let token = token.ok_or(Denied::NoCredentials)?;
        self.verify(token.expose(), clock::unix_ms())
            .map_err(|rejection| {
                self.log(&rejection);
                Denied::refused(rejection.told())
            })
    }

    fn reads_cookies(&self) -> bool {
        false
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| Rejection::Malformed("a part is not base64url"))
}

/// 8 KiB: what a header line may have in most servers.
const TOKEN_BYTES_MAX: usize = 8 * 1_024;

#[cfg(test)]
mod tests;
