//! The two halves of a token, read strictly: no member twice, no number written as text, nothing passed over.

use std::fmt;

use fanfare_protocol::RawJson;
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Why a token does not count. The text is for the log; the client is told less.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Rejection {
    #[error("malformed token: {0}")]
    Malformed(&'static str),
    #[error("the token is signed with {0}, and no key for that algorithm is configured")]
    NoKeyForAlgorithm(&'static str),
    #[error("no configured key has the token's kid")]
    NoKeyWithId,
    #[error("the signature does not fit: the token was signed with another key, or altered")]
    BadSignature,
    #[error("the header's typ is not the expected one")]
    WrongType,
    #[error("the header has critical extensions, which are not supported")]
    CriticalExtension,
    #[error("the claim {0} is missing")]
    Missing(&'static str),
    #[error("the claim {0} does not have the expected form")]
    BadClaim(String),
    #[error("the claim {0} is after the year 9999: it counts seconds, not milliseconds")]
    Milliseconds(&'static str),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet, check the clocks")]
    NotYetValid,
    #[error("the claim iss is not the configured issuer")]
    WrongIssuer,
    #[error("the token has the claim aud, and no audience is configured")]
    UnexpectedAudience,
    #[error("the claim aud names no configured audience")]
    WrongAudience,
    #[error("the claim {0} is missing or is no valid user id")]
    NoUser(String),
}

impl Rejection {
    /// What the client may know: nothing about the configured keys and claims.
    pub(super) const fn told(&self) -> &'static str {
        match self {
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            _ => "the token is not valid",
        }
    }

    /// Whether this happens with a correct configuration as well.
    pub(super) const fn is_expected(&self) -> bool {
        matches!(self, Self::Expired)
    }
}

/// Looks for what often stands around a token by mistake.
///
/// # Errors
/// What it is.
pub(super) fn check_surroundings(token: &str) -> Result<(), Rejection> {
    let begins_with_scheme = token
        .get(.."bearer ".len())
        .is_some_and(|start| start.eq_ignore_ascii_case("bearer "));
    let mistake = if begins_with_scheme {
        "it begins with \"Bearer \", which belongs to the Authorization header alone"
    } else if token.ends_with(['\n', '\r']) {
        "it ends with a line break"
    } else if token.trim() != token {
        "it has white space around it"
    } else if token.starts_with('"') {
        "it has quotation marks around it"
    } else if token.is_empty() {
        "it is empty"
    } else {
        return Ok(());
    };
    Err(Rejection::Malformed(mistake))
}

/// The header of a token (RFC 7515, 4.1). Keys and addresses in it are never looked at.
#[derive(Deserialize)]
pub(super) struct Head {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
}

impl Head {
    pub(super) fn parse(json: &[u8]) -> Result<Self, Rejection> {
        let head: Self = serde_json::from_slice(json)
            .map_err(|_| Rejection::Malformed("the header is not a JOSE header"))?;
        if head.crit {
            return Err(Rejection::CriticalExtension);
        }
        Ok(head)
    }
}

fn is_present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The claims of a token whose signature was verified.
pub(super) struct Claims {
    json: String,
    members: Vec<(String, Box<RawValue>)>,
}

impl Claims {
    pub(super) fn parse(json: Vec<u8>) -> Result<Self, Rejection> {
        const NO_CLAIMS: Rejection =
            Rejection::Malformed("the claims are not an object without repetitions");
        let json = String::from_utf8(json).map_err(|_| NO_CLAIMS)?;
        let Members(members) = serde_json::from_str(&json).map_err(|_| NO_CLAIMS)?;
        Ok(Self { json, members })
    }

    /// A claim as it is written; `null` counts as absent.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        let (_, value) = self.members.iter().find(|(known, _)| known == name)?;
        Some(value.get()).filter(|text| *text != "null")
    }

    /// A time in milliseconds since the Unix epoch. It is written as any JSON number of seconds (RFC 7519, 2, NumericDate).
    pub(super) fn time_ms(&self, name: &'static str) -> Result<Option<u64>, Rejection> {
        let Some(seconds) = self.decode::<f64>(name)? else {
            return Ok(None);
        };
        if seconds > SECONDS_MAX {
            return Err(Rejection::Milliseconds(name));
        }
        if seconds.is_sign_negative() {
            return Err(Rejection::BadClaim(name.to_owned()));
        }
        // Not negative and below 2^53: the fraction of a millisecond is all that is lost.
        Ok(Some((seconds * 1_000.0) as u64))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Rejection> {
        self.decode(name)
    }

    /// A text, or a list of texts (RFC 7519, 4.1.3).
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Rejection> {
        match self.raw(name) {
            Some(text) if text.starts_with('[') => self.decode(name),
            _ => Ok(self.text(name)?.map(|text| vec![text])),
        }
    }

    pub(super) fn text_or_number(&self, name: &str) -> Result<Option<String>, Rejection> {
        match self.raw(name) {
            Some(text) if !text.starts_with('"') => {
                Ok(self.decode::<i64>(name)?.map(|number| number.to_string()))
            }
            _ => self.text(name),
        }
    }

    pub(super) fn all(&self) -> RawJson {
        RawJson::trusted(self.json.as_str())
    }

    fn decode<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Rejection> {
        let decoded = self.raw(name).map(serde_json::from_str).transpose();
        decoded.map_err(|_| Rejection::BadClaim(name.to_owned()))
    }
}

/// An object's members in order. A member that comes twice is an error: two readers could take different ones.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, _>()? {
            if members.len() == MEMBERS_MAX || members.iter().any(|(known, _)| *known == name) {
                return Err(de::Error::custom("too many members, or one twice"));
            }
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

/// The last second of the year 9999. Milliseconds given as seconds are above it.
const SECONDS_MAX: f64 = 253_402_300_799.0;
/// 256: far above any real token, and a bound for the search of repetitions.
const MEMBERS_MAX: usize = 256;
