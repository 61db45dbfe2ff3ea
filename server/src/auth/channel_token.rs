//! Channel tokens: what the auth endpoint signs and a `subscribe` command shows.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_protocol::{ChannelName, SocketId, UserId};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::member::INFO_BYTES_MAX;
use super::signature::{self, Signature};
use crate::clock::as_unix_ms;

/// Signs and verifies channel tokens.
///
/// A token permits one connection one channel, and has to be shown within a minute at first. The subscription then lasts as
/// long as the token [says](Lasts). Its MAC (HMAC-SHA256) covers the purpose, the connection's id, the channel, the user, the
/// member data and the times, each with its length in front, so no two permissions share a signed text. Every node of a
/// cluster needs the same secrets. docs/protocol.md has the bytes.
///
/// Where there is a secret, a signature in the form of Pusher Channels counts as well: `<key>:<hex HMAC-SHA256>` of
/// `socket_id:channel[:channel_data]`.
///
/// ```
/// use std::time::SystemTime;
/// use fanfare_server::auth::{ChannelTokens, Lasts, TokenClaims};
/// use fanfare_server::protocol::{ChannelName, SocketId};
///
/// let tokens = ChannelTokens::new("a secret of at least thirty-two bytes")?;
/// let channel = ChannelName::new("private-orders")?;
/// let claims = TokenClaims::new(SocketId::from_bits(7), &channel);
/// let auth = tokens.sign(&claims, Lasts::default(), SystemTime::now());
/// assert!(tokens.verify(&auth, &claims, SystemTime::now()).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChannelTokens {
    keys: Vec<Hmac<Sha256>>,
    /// The secrets as they are, for signatures that others make.
    plain_keys: Vec<Hmac<Sha256>>,
    validity: Duration,
    clock_skew: Duration,
}

/// What a channel token is bound to.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct TokenClaims<'a> {
    /// The connection.
    pub socket: SocketId,
    /// The channel.
    pub channel: &'a ChannelName,
    /// Signing: the user that the permission is for. Verifying: the user of the connection, where it has one.
    pub user: Option<&'a UserId>,
    /// The member data of a presence channel, byte for byte as it is shown.
    pub channel_data: Option<&'a str>,
}

impl<'a> TokenClaims<'a> {
    /// Binds to a connection and a channel.
    #[must_use]
    pub const fn new(socket: SocketId, channel: &'a ChannelName) -> Self {
        Self {
            socket,
            channel,
            user: None,
            channel_data: None,
        }
    }

    /// Binds to a user as well.
    #[must_use]
    pub const fn with_user(mut self, user: Option<&'a UserId>) -> Self {
        self.user = user;
        self
    }

    /// Binds to member data as well.
    #[must_use]
    pub const fn with_channel_data(mut self, channel_data: Option<&'a str>) -> Self {
        self.channel_data = channel_data;
        self
    }
}

/// How long a permission lasts once it was shown; as long as the connection by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lasts {
    /// When the permission ends, and the subscription with it.
    pub until: Option<SystemTime>,
    /// When the session ends that the permission was given to. It counts on a connection without a session of its own: one that
    /// has one ends with that, and may have it renewed.
    pub session_until: Option<SystemTime>,
}

impl Lasts {
    /// Ends the permission.
    #[must_use]
    pub const fn with_until(mut self, until: Option<SystemTime>) -> Self {
        self.until = until;
        self
    }

    /// Ends the session that the permission was given to.
    #[must_use]
    pub const fn with_session_until(mut self, session_until: Option<SystemTime>) -> Self {
        self.session_until = session_until;
        self
    }
}

/// What a valid channel token says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The user that it was made for; none when the caller of the auth endpoint was anonymous.
    pub user: Option<UserId>,
    /// When the permission ends, and the subscription with it.
    pub until: Option<SystemTime>,
    /// When the session ends that the permission was given to.
    pub session_until: Option<SystemTime>,
    /// When it was signed; a signature in Pusher's form does not say.
    pub issued_at: Option<SystemTime>,
}

/// A signing secret is too short, or is nothing but white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signing secret needs at least {bytes_min} bytes, this one has {bytes}")]
pub struct WeakSecret {
    /// The length it has; 0 when it is blank.
    pub bytes: usize,
    /// The length it needs.
    pub bytes_min: usize,
}

/// Why a channel token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text is not a channel token.
    #[error("the text is not a channel token")]
    Malformed,
    /// It was altered, signed with another secret, or made for another connection, channel or member.
    #[error("the channel token was not made for this subscription")]
    NotForThis,
    /// It was made for another user than the connection's.
    #[error("the channel token was made for another user")]
    OtherUser,
    /// It was not used in time.
    #[error("the channel token has expired, ask for a new one")]
    Expired,
    /// The member data that is signed with it names no user.
    #[error("channel_data is not an object with a valid user id")]
    BadMember,
    /// The member data that is signed with it says more about the member than others are told.
    #[error("the info in channel_data has more than {} bytes", INFO_BYTES_MAX)]
    LongInfo,
    /// It comes from a node whose clock is ahead by more than is tolerated.
    #[error("the channel token is from the future, check the clocks of the nodes")]
    FromTheFuture,
}

impl ChannelTokens {
    /// Signs and verifies with a secret of at least 32 bytes.
    ///
    /// # Errors
    /// When the secret is shorter.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, WeakSecret> {
        let secret = secret.as_ref();
        let mut tokens = Self::from_key(derive_key(secret, CHANNEL_PURPOSE)?);
        tokens.plain_keys.push(plain_key(secret));
        Ok(tokens)
    }

    /// Signs with a secret of its own that ends with the process; for servers of a single node.
    #[must_use]
    pub fn random() -> Self {
        let secret: [u8; 32] = rand::random();
        Self::from_key(expand(&secret, CHANNEL_PURPOSE))
    }

    /// Also verifies tokens that were signed with an earlier secret; new ones are signed with the first secret.
    ///
    /// # Errors
    /// When the secret has less than 32 bytes.
    pub fn with_previous_secret(mut self, secret: impl AsRef<[u8]>) -> Result<Self, WeakSecret> {
        let secret = secret.as_ref();
        self.keys.push(derive_key(secret, CHANNEL_PURPOSE)?);
        self.plain_keys.push(plain_key(secret));
        Ok(self)
    }

    /// Sets how long a token can be used; 60 seconds by default.
    #[must_use]
    pub const fn with_validity(mut self, validity: Duration) -> Self {
        self.validity = validity;
        self
    }

    /// Sets how far the clocks of two nodes may differ: 1 second by default, enough for a single node whose clock is being
    /// adjusted. A cluster should allow 30 seconds.
    #[must_use]
    pub const fn with_clock_skew(mut self, clock_skew: Duration) -> Self {
        self.clock_skew = clock_skew;
        self
    }

    /// Makes a token.
    #[must_use]
    pub fn sign(&self, claims: &TokenClaims<'_>, lasts: Lasts, now: SystemTime) -> String {
        // 0 stands for "never", so the earliest end is 1.
        let end_ms = |end: Option<SystemTime>| end.map_or(0, |end| as_unix_ms(end).max(1));
        let times = Times {
            use_by_ms: as_unix_ms(now).saturating_add(as_ms(self.validity)),
            until_ms: end_ms(lasts.until),
            session_until_ms: end_ms(lasts.session_until),
        };
        let mac = self.keys[0]
            .clone()
            .chain_update(signed_text(claims, times))
            .finalize()
            .into_bytes();
        let user = claims.user.map_or("", UserId::as_str).as_bytes();
        let mut token = Vec::with_capacity(HEAD_BYTES + user.len() + MAC_BYTES);
        token.push(VERSION);
        token.extend_from_slice(&times.to_bytes());
        token.extend_from_slice(user);
        token.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Makes a signature in the form of Pusher Channels; the user is whom `channel_data` names. None without a secret.
    #[must_use]
    pub fn sign_plain(&self, claims: &TokenClaims<'_>) -> Option<String> {
        let key = self.plain_keys.first()?;
        Some(signature::sign(key, claims))
    }

    /// Checks a token against the subscription it is shown for.
    ///
    /// A token made for a user does not count on a connection of another user. On an anonymous connection it does: it is
    /// bound to that connection's unguessable id.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify(
        &self,
        token: &str,
        claims: &TokenClaims<'_>,
        now: SystemTime,
    ) -> Result<Verified, TokenError> {
        let verified = match Signature::is_meant(token) {
            true => self.verify_signature(token, claims)?,
            false => self.verify_own(token, claims, now)?,
        };
        if let (Some(connection), Some(token)) = (claims.user, &verified.user)
            && connection != token
        {
            return Err(TokenError::OtherUser);
        }
        Ok(verified)
    }

    pub(crate) fn clock_skew_ms(&self) -> u64 {
        as_ms(self.clock_skew)
    }

    fn verify_own(
        &self,
        token: &str,
        claims: &TokenClaims<'_>,
        now: SystemTime,
    ) -> Result<Verified, TokenError> {
        let token = Decoded::parse(token)?;
        let text = signed_text(&claims.with_user(token.user.as_ref()), token.times);
        // No early return: how many secrets there are and which one fits does not show in the time this takes.
        let is_genuine = self.keys.iter().fold(false, |found, key| {
            let mac = key.clone().chain_update(&text);
            found | mac.verify_slice(&token.mac).is_ok()
        });
        if !is_genuine {
            return Err(TokenError::NotForThis);
        }
        self.check_times(token.times, as_unix_ms(now))?;
        let issued_ms = token.times.use_by_ms.saturating_sub(as_ms(self.validity));
        Ok(Verified {
            user: token.user,
            until: time_of(token.times.until_ms),
            session_until: time_of(token.times.session_until_ms),
            issued_at: UNIX_EPOCH.checked_add(Duration::from_millis(issued_ms)),
        })
    }

    fn verify_signature(
        &self,
        token: &str,
        claims: &TokenClaims<'_>,
    ) -> Result<Verified, TokenError> {
        if !Signature::parse(token)?.is_genuine(&self.plain_keys, claims) {
            return Err(TokenError::NotForThis);
        }
        Ok(Verified {
            user: claims.channel_data.map(signature::user_of).transpose()?,
            until: None,
            session_until: None,
            issued_at: None,
        })
    }

    fn from_key(key: Hmac<Sha256>) -> Self {
        Self {
            keys: vec![key],
            plain_keys: Vec::new(),
            validity: Duration::from_secs(60),
            clock_skew: Duration::from_secs(1),
        }
    }

    fn check_times(&self, times: Times, now_ms: u64) -> Result<(), TokenError> {
        let skew_ms = as_ms(self.clock_skew);
        let ends = [times.until_ms, times.session_until_ms];
        let has_ended = ends.iter().any(|&end_ms| end_ms != 0 && end_ms <= now_ms);
        if has_ended || times.use_by_ms.saturating_add(skew_ms) <= now_ms {
            return Err(TokenError::Expired);
        }
        let latest_ms = now_ms
            .saturating_add(as_ms(self.validity))
            .saturating_add(skew_ms);
        if times.use_by_ms > latest_ms {
            return Err(TokenError::FromTheFuture);
        }
        Ok(())
    }
}

impl fmt::Debug for ChannelTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelTokens")
            .field("secrets", &self.keys.len())
            .field("validity", &self.validity)
            .field("clock_skew", &self.clock_skew)
            .finish()
    }
}

/// By when a token has to be shown at first, and how long it lasts (0: no end), in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    use_by_ms: u64,
    until_ms: u64,
    session_until_ms: u64,
}

impl Times {
    fn to_bytes(self) -> [u8; TIMES_BYTES] {
        let mut bytes = [0; TIMES_BYTES];
        let times = [self.use_by_ms, self.until_ms, self.session_until_ms];
        for (place, time) in bytes.chunks_exact_mut(8).zip(times) {
            place.copy_from_slice(&time.to_be_bytes());
        }
        bytes
    }

    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (use_by_ms, rest) = bytes.split_first_chunk()?;
        let (until_ms, rest) = rest.split_first_chunk()?;
        let (session_until_ms, rest) = rest.split_first_chunk()?;
        let times = Self {
            use_by_ms: u64::from_be_bytes(*use_by_ms),
            until_ms: u64::from_be_bytes(*until_ms),
            session_until_ms: u64::from_be_bytes(*session_until_ms),
        };
        Some((times, rest))
    }
}

fn time_of(unix_ms: u64) -> Option<SystemTime> {
    let elapsed = Duration::from_millis(unix_ms);
    (unix_ms != 0)
        .then(|| UNIX_EPOCH.checked_add(elapsed))
        .flatten()
}

struct Decoded {
    times: Times,
    user: Option<UserId>,
    mac: [u8; MAC_BYTES],
}

impl Decoded {
    fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| TokenError::Malformed)?;
        Self::split(&bytes).ok_or(TokenError::Malformed)
    }

    fn split(bytes: &[u8]) -> Option<Self> {
        let (body, mac) = bytes.split_last_chunk::<MAC_BYTES>()?;
        let (&version, rest) = body.split_first()?;
        let (times, user) = Times::split(rest)?;
        if version != VERSION {
            return None;
        }
        let user = match user {
            [] => None,
            text => Some(UserId::new(std::str::from_utf8(text).ok()?).ok()?),
        };
        Some(Self {
            times,
            user,
            mac: *mac,
        })
    }
}

/// The text under the MAC. Injective: every field has a fixed length or its length in front, optional ones a mark.
fn signed_text(claims: &TokenClaims<'_>, times: Times) -> Vec<u8> {
    let mut text = Vec::with_capacity(160);
    push_field(&mut text, CHANNEL_PURPOSE);
    text.extend_from_slice(&claims.socket.bits().to_be_bytes());
    push_field(&mut text, claims.channel.as_str().as_bytes());
    for optional in [claims.user.map(UserId::as_str), claims.channel_data] {
        text.push(u8::from(optional.is_some()));
        push_field(&mut text, optional.unwrap_or_default().as_bytes());
    }
    text.extend_from_slice(&times.to_bytes());
    text
}

fn push_field(text: &mut Vec<u8>, field: &[u8]) {
    text.extend_from_slice(&(field.len() as u64).to_be_bytes());
    text.extend_from_slice(field);
}

fn derive_key(secret: &[u8], purpose: &[u8]) -> Result<Hmac<Sha256>, WeakSecret> {
    // Blanks are what is left of a variable that was not filled in.
    let bytes = match secret.trim_ascii().is_empty() {
        true => 0,
        false => secret.len(),
    };
    if bytes < SECRET_BYTES_MIN {
        return Err(WeakSecret {
            bytes,
            bytes_min: SECRET_BYTES_MIN,
        });
    }
    Ok(expand(secret, purpose))
}

#[expect(
    clippy::expect_used,
    reason = "32 bytes are a valid HKDF output length and any length is a valid HMAC key"
)]
fn expand(secret: &[u8], purpose: &[u8]) -> Hmac<Sha256> {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(b"fanfare"), secret)
        .expand(purpose, &mut key)
        .expect("32 bytes are a valid HKDF output length");
    Hmac::new_from_slice(&key).expect("HMAC takes keys of any length")
}

#[expect(clippy::expect_used, reason = "any length is a valid HMAC key")]
fn plain_key(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Keys of different purposes are unrelated, and the purpose is part of the signed text as well.
const CHANNEL_PURPOSE: &[u8] = b"fanfare/2/channel-token";
const VERSION: u8 = 2;
const MAC_BYTES: usize = 32;
const TIMES_BYTES: usize = 24;
/// Version and times.
const HEAD_BYTES: usize = 1 + TIMES_BYTES;
/// 32: as many bytes as the digest; a shorter secret is weaker than the MAC it makes.
const SECRET_BYTES_MIN: usize = 32;
/// 320: head, the longest user id and MAC are 185 bytes, 247 in base64.
const TOKEN_BYTES_MAX: usize = 320;

#[cfg(test)]
mod tests;
