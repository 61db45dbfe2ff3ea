//! The two halves of a token, read strictly: no member twice, no number written as text, nothing passed over.

use std::fmt;

use fanfare_protocol::RawJson;
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Why a token does not count. The text is for the log; the client is told less.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    #[error("malformed token: {0}")]
    Malformed(&'static str),
    #[error("no key is configured for the token's algorithm and kid")]
    NoKey,
    #[error("the signature does not fit")]
    BadSignature,
    #[error("the header's typ is not the expected one")]
    WrongType,
    #[error("the header has critical extensions, which are not supported")]
    CriticalExtension,
    #[error("the claim {0} is missing")]
    Missing(&'static str),
    #[error("the claim {0} does not have the expected form")]
    BadClaim(String),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token was issued by somebody else")]
    WrongIssuer,
    #[error("the token is meant for somebody else, or names an audience where none is configured")]
    WrongAudience,
    #[error("the token names no valid user")]
    NoUser,
}

impl Rejection {
    /// What the client may know.
    pub(super) const fn told(&self) -> &'static str {
        match self {
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            _ => "the token is not valid",
        }
    }
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

    /// A time in whole seconds since the Unix epoch.
    pub(super) fn seconds(&self, name: &'static str) -> Result<Option<u64>, Rejection> {
        let Some((_, value)) = self.members.iter().find(|(known, _)| known == name) else {
            return Ok(None);
        };
        match serde_json::from_str::<u64>(value.get()) {
            Ok(seconds @ 1..=SECONDS_MAX) => Ok(Some(seconds)),
            _ => Err(Rejection::BadClaim(name.to_owned())),
        }
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
const SECONDS_MAX: u64 = 253_402_300_799;
/// 256: far above any real token, and a bound for the search of repetitions.
const MEMBERS_MAX: usize = 256;
