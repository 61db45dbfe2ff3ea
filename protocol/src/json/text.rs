//! Reading JSON text: every level is scanned only as deep as its fields are asked for, and payloads stay the text they were.

use alloc::borrow::Cow;
use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::command::Request;
use crate::json::error::{DecodeError, DecodeProblem};
use crate::json::field::Field;
use crate::json::message::read_message;
use crate::json::request::read_request;
use crate::json::value::{Object, Value};
use crate::message::ServerMessage;
use crate::raw::RawJson;

/// Reads one command.
///
/// Unknown fields are ignored. The payload is checked to be JSON and kept byte for byte.
///
/// # Errors
/// When the text is not a JSON object, its `type` is unknown, or a field is missing or wrong. The error carries the command's
/// `id` whenever that can be read.
pub fn decode_request(text: &str) -> Result<Request, DecodeError> {
    read_request(&root(text)?, payload)
}

/// Reads every message of a frame: one object, or an array of them.
///
/// The messages of a batch stand alone: one that cannot be read does not take the others with it. Text that is not JSON gives
/// one error.
#[must_use]
pub fn decode_messages(text: &str) -> Vec<Result<ServerMessage, DecodeError>> {
    if text.trim_start().starts_with('[') {
        return match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(messages) => messages.iter().map(|raw| message(raw.get())).collect(),
            Err(error) => vec![Err(not_json(&error).into())],
        };
    }
    vec![message(text)]
}

fn message(text: &str) -> Result<ServerMessage, DecodeError> {
    read_message(&root(text)?, payload)
}

/// The object that a text holds.
pub(crate) fn root(text: &str) -> Result<Fields<'_>, DecodeError> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| not_json(&error).into());
    }
    Err(match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => DecodeProblem::NotAnObject.into(),
        Err(error) => not_json(&error).into(),
    })
}

pub(crate) fn payload(value: Text<'_>) -> RawJson {
    RawJson::trusted(value.0)
}

fn not_json(error: &serde_json::Error) -> DecodeProblem {
    DecodeProblem::NotJson {
        reason: error.to_string(),
    }
}

/// The text of one JSON value, already known to be valid.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a>(&'a str);

impl<'a> Value for Text<'a> {
    type Object = Fields<'a>;
    type Problem = DecodeProblem;

    fn object(&self) -> Option<Fields<'a>> {
        self.parse(b'{')
    }

    fn items(&self) -> Option<Vec<Self>> {
        let items: Vec<&'a RawValue> = self.parse(b'[')?;
        Some(items.into_iter().map(|item| Self(item.get())).collect())
    }

    fn text(&self) -> Option<Cow<'_, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            serde_json::from_str(self.0).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inner))
        }
    }

    fn number(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    fn flag(&self) -> Option<bool> {
        self.0.parse().ok()
    }

    fn is_null(&self) -> bool {
        self.0 == "null"
    }

    fn null() -> Self {
        Self("null")
    }
}

impl<'a> Text<'a> {
    /// Parses the value when it starts as it should: anything else is not worth a scan.
    fn parse<T: serde::Deserialize<'a>>(&self, first: u8) -> Option<T> {
        (self.0.as_bytes().first() == Some(&first))
            .then(|| serde_json::from_str(self.0).ok())
            .flatten()
    }
}

/// The known fields of an object, each still text.
pub(crate) struct Fields<'a>([Option<Text<'a>>; Field::ALL.len()]);

impl<'a> Object for Fields<'a> {
    type Value = Text<'a>;

    fn field(&self, field: Field) -> Option<Text<'a>> {
        self.0[field as usize]
    }
}

impl<'de> serde::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields([None; Field::ALL.len()]);
        while let Some(known) = map.next_key_seed(KnownField)? {
            match known {
                Some(field) => {
                    let value: &'de RawValue = map.next_value()?;
                    fields.0[field as usize] = Some(Text(value.get()));
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

struct KnownField;

impl<'de> DeserializeSeed<'de> for KnownField {
    type Value = Option<Field>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Option<Field>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KnownField {
    type Value = Option<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<Field>, E> {
        Ok(Field::from_name(name))
    }
}
