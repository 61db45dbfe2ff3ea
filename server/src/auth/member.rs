//! What the members of a presence channel may know of each other, and its signed form.

use fanfare_protocol::{Member, RawJson, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Grant, Identity};

/// Why somebody cannot be shown as a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum MemberError {
    /// The information for other members is too long.
    #[error("a member's info has at most {bytes_max} bytes, this one has {bytes}")]
    InfoTooLong { bytes: usize, bytes_max: usize },
    /// The text is not `{"id","info"}`.
    #[error("channel_data is not an object with a valid id and an info")]
    Malformed,
}

/// The member that an identity is on a channel it was granted.
///
/// # Errors
/// When the information for others is above the limit.
pub(crate) fn member_of(identity: &Identity, grant: &Grant) -> Result<Member, MemberError> {
    let info = grant
        .info
        .as_ref()
        .or(identity.info.as_ref())
        .cloned()
        .unwrap_or_else(|| RawJson::trusted("{}"));
    check_info(&info)?;
    Ok(Member {
        id: identity.user.clone(),
        info,
    })
}

/// Checks that information about a member is not longer than others are told.
///
/// # Errors
/// When it is.
pub(crate) fn check_info(info: &RawJson) -> Result<(), MemberError> {
    match info.len() {
        0..=INFO_BYTES_MAX => Ok(()),
        bytes => Err(MemberError::InfoTooLong {
            bytes,
            bytes_max: INFO_BYTES_MAX,
        }),
    }
}

/// The `channel_data` of a member, as the auth endpoint answers it and a channel token signs it.
///
/// # Errors
/// When the information for others is not one JSON value.
pub(crate) fn encode_member(member: &Member) -> Result<String, MemberError> {
    let info: &RawValue =
        serde_json::from_str(member.info.as_str()).map_err(|_| MemberError::Malformed)?;
    let wire = ChannelData {
        id: member.id.as_str(),
        info,
    };
    serde_json::to_string(&wire).map_err(|_| MemberError::Malformed)
}

/// The member in a `channel_data` whose signature was verified.
///
/// # Errors
/// When a key of ours signed something else.
pub(crate) fn parse_member(channel_data: &str) -> Result<Member, MemberError> {
    let wire: WireChannelData<'_> =
        serde_json::from_str(channel_data).map_err(|_| MemberError::Malformed)?;
    let id = match wire.id {
        WireId::Text(text) => UserId::new(&text),
        WireId::Number(number) => UserId::new(&number.to_string()),
    };
    let info = RawJson::trusted(wire.info.get());
    check_info(&info)?;
    Ok(Member {
        id: id.map_err(|_| MemberError::Malformed)?,
        info,
    })
}

#[derive(Serialize)]
struct ChannelData<'a> {
    id: &'a str,
    info: &'a RawValue,
}

/// Member data as we write it, or as backends do that know Pusher Channels (its *presence channels*).
#[derive(Deserialize)]
struct WireChannelData<'a> {
    #[serde(alias = "user_id")]
    id: WireId,
    #[serde(borrow, default = "no_info", alias = "user_info")]
    info: &'a RawValue,
}

fn no_info<'a>() -> &'a RawValue {
    serde_json::from_str("{}").unwrap_or(RawValue::NULL)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireId {
    Text(String),
    Number(i64),
}

/// The most bytes of a member's info: 1 KiB, enough for a name, an avatar's address and a role; a list of 1,000 members stays at
/// 1 MiB.
pub const INFO_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Identity {
        Identity::new(UserId::new("ann \"the\" \\ one").unwrap())
    }

    #[test]
    fn the_grant_says_it_before_the_identity() {
        let (own, granted) = (RawJson::trusted("1"), RawJson::trusted("2"));
        let identity = ann().with_info(own.clone());
        let info = |identity: &Identity, grant: &Grant| member_of(identity, grant).unwrap().info;
        assert_eq!(info(&ann(), &Grant::default()).as_str(), "{}");
        assert_eq!(info(&identity, &Grant::default()), own);
        assert_eq!(
            info(&identity, &Grant::default().with_info(granted.clone())),
            granted
        );
    }

    #[test]
    fn channel_data_comes_back_as_it_was() {
        let info = RawJson::trusted(r#"{"name":"A\"n","tags":[1,2]}"#);
        let member = member_of(&ann().with_info(info), &Grant::default()).unwrap();
        let text = encode_member(&member).unwrap();
        assert_eq!(parse_member(&text).unwrap(), member);
    }

    #[test]
    fn member_data_of_other_backends_is_understood() {
        for (text, id, info) in [
            (
                r#"{"user_id":"7","user_info":{"name":"Ann"}}"#,
                "7",
                r#"{"name":"Ann"}"#,
            ),
            (r#"{ "user_id": 7 }"#, "7", "{}"),
            (r#"{"id":"a","info":null,"more":1}"#, "a", "null"),
        ] {
            let member = parse_member(text).unwrap();
            assert_eq!(
                (member.id.as_str(), member.info.as_str()),
                (id, info),
                "{text}"
            );
        }
    }

    #[test]
    fn long_or_broken_info_is_refused() {
        let long = RawJson::trusted(format!("\"{}\"", "x".repeat(INFO_BYTES_MAX)));
        let error = member_of(&ann().with_info(long.clone()), &Grant::default()).unwrap_err();
        assert_eq!(
            error,
            MemberError::InfoTooLong {
                bytes: 1_026,
                bytes_max: 1_024
            }
        );
        let text = format!(r#"{{"id":"ann","info":{}}}"#, long.as_str());
        assert_eq!(parse_member(&text), Err(error));
        for text in [
            "",
            "[]",
            "{}",
            r#"{"id":"","info":{}}"#,
            r#"{"id":null,"info":{}}"#,
            r#"{"id":7.5,"info":{}}"#,
            r#"{"id":"a","user_id":"b"}"#,
            r#"{"info":{}}"#,
        ] {
            assert_eq!(parse_member(text), Err(MemberError::Malformed), "{text}");
        }
        let broken = Member {
            id: ann().user,
            info: RawJson::trusted("}{"),
        };
        assert_eq!(encode_member(&broken), Err(MemberError::Malformed));
    }
}
