//! Payloads as JSON text.

use std::collections::HashMap;

use fanfare_protocol::{Member, RawJson, UserId};
use serde_json::value::RawValue;

use crate::io::Payload;

impl Payload for RawJson {
    fn member_added(&self) -> Option<Member<Self>> {
        let fields: Fields<'_> = self.decode().ok()?;
        Some(Member {
            id: id(&fields)?,
            info: fields
                .get("info")
                .map_or_else(Self::null, |info| Self::trusted(info.get())),
        })
    }

    fn member_removed(&self) -> Option<(UserId, Option<String>)> {
        let fields: Fields<'_> = self.decode().ok()?;
        let reason = fields.get("reason");
        let reason = reason.and_then(|reason| serde_json::from_str(reason.get()).ok());
        Some((id(&fields)?, reason))
    }
}

type Fields<'a> = HashMap<String, &'a RawValue>;

fn id(fields: &Fields<'_>) -> Option<UserId> {
    let text: String = serde_json::from_str(fields.get("id")?.get()).ok()?;
    UserId::new(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_and_who_left_is_read_and_the_rest_is_kept_as_it_is() {
        let came = RawJson::trusted(r#"{"info":{"b":1,"a":[1.50]},"id":"ann","more":0}"#);
        let member = came.member_added().unwrap();
        assert_eq!(member.id.as_str(), "ann");
        assert_eq!(member.info.as_str(), r#"{"b":1,"a":[1.50]}"#);

        let went = RawJson::trusted(r#"{"id":"ann","reason":"timeout"}"#);
        let (id, reason) = went.member_removed().unwrap();
        assert_eq!((id.as_str(), reason.as_deref()), ("ann", Some("timeout")));
        let silent = RawJson::trusted(r#"{"id":"ann"}"#);
        assert_eq!(silent.member_removed().unwrap().1, None);
        assert_eq!(silent.member_added().unwrap().info.as_str(), "null");
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in ["1", "[]", "{}", r#"{"id":1}"#, r#"{"id":""}"#] {
            let payload = RawJson::trusted(text);
            assert!(payload.member_added().is_none(), "{text}");
            assert!(payload.member_removed().is_none(), "{text}");
        }
    }
}
