//! What a reader needs of a parsed JSON value, whoever parsed it.

use std::borrow::Cow;
use std::str::FromStr;

use crate::json::error::{DecodeProblem, Place};
use crate::json::field::Field;
use crate::name::NameError;
use crate::position::{Epoch, OFFSET_MAX, Position, PositionError, Tag};

/// A JSON value.
pub trait Value: Sized {
    /// What an object gives access to.
    type Object: Object<Value = Self>;

    /// The value as an object; `None` for any other kind.
    fn object(&self) -> Option<Self::Object>;

    /// The items of an array; `None` for any other kind.
    fn items(&self) -> Option<Vec<Self>>;

    /// The text of a string; `None` for any other kind.
    fn text(&self) -> Option<Cow<'_, str>>;

    /// A whole number that is not negative; `None` for any other value.
    fn number(&self) -> Option<u64>;

    /// The value of a boolean; `None` for any other kind.
    fn flag(&self) -> Option<bool>;

    /// Whether this is `null`.
    fn is_null(&self) -> bool;
}

/// A JSON object.
pub trait Object {
    /// What its fields hold.
    type Value: Value;

    /// The value of a field; `None` when the object has no such field. Of a repeated field the last counts.
    fn field(&self, field: Field) -> Option<Self::Value>;
}

/// Takes fields out of an object and says precisely which one is wrong.
pub(crate) struct Reader<'a, O> {
    object: &'a O,
    within: Option<Field>,
}

impl<'a, O: Object> Reader<'a, O> {
    pub(crate) const fn new(object: &'a O) -> Self {
        Self {
            object,
            within: None,
        }
    }

    pub(crate) const fn within(object: &'a O, within: Field) -> Self {
        Self {
            object,
            within: Some(within),
        }
    }

    /// An optional field; `null` counts as absent.
    pub(crate) fn optional<T>(
        &self,
        field: Field,
        read: fn(&O::Value, Place) -> Result<T, DecodeProblem>,
    ) -> Result<Option<T>, DecodeProblem> {
        match self.object.field(field) {
            Some(value) if !value.is_null() => read(&value, self.place(field)).map(Some),
            _ => Ok(None),
        }
    }

    /// A field that must be there.
    pub(crate) fn required<T>(
        &self,
        field: Field,
        read: fn(&O::Value, Place) -> Result<T, DecodeProblem>,
    ) -> Result<T, DecodeProblem> {
        self.optional(field, read)?
            .ok_or_else(|| DecodeProblem::Missing {
                at: self.place(field),
            })
    }

    /// The message's `type` or `action`, told by what `known` makes of its text.
    pub(crate) fn kind<T>(
        &self,
        field: Field,
        known: impl FnOnce(&str) -> Result<T, DecodeProblem>,
    ) -> Result<T, DecodeProblem> {
        with_text(&self.payload(field)?, self.place(field), known)
    }

    /// A payload that must be there; `null` is a payload.
    pub(crate) fn payload(&self, field: Field) -> Result<O::Value, DecodeProblem> {
        self.object
            .field(field)
            .ok_or_else(|| DecodeProblem::Missing {
                at: self.place(field),
            })
    }

    /// An optional payload; `null` is a payload.
    #[cfg(feature = "json")]
    pub(crate) fn optional_payload(&self, field: Field) -> Option<O::Value> {
        self.object.field(field)
    }

    const fn place(&self, field: Field) -> Place {
        Place {
            within: self.within,
            field,
        }
    }
}

pub(crate) fn text<V: Value>(value: &V, at: Place) -> Result<String, DecodeProblem> {
    with_text(value, at, |text| Ok(text.to_owned()))
}

pub(crate) fn flag<V: Value>(value: &V, at: Place) -> Result<bool, DecodeProblem> {
    value.flag().ok_or(DecodeProblem::WrongType {
        at,
        expected: "true or false",
    })
}

/// A number that every side can count with: JavaScript is exact only below 2^53.
pub(crate) fn number<V: Value>(value: &V, at: Place) -> Result<u64, DecodeProblem> {
    value
        .number()
        .filter(|&number| number <= OFFSET_MAX)
        .ok_or(DecodeProblem::WrongType {
            at,
            expected: "a whole number below 2^53",
        })
}

pub(crate) fn number_u32<V: Value>(value: &V, at: Place) -> Result<u32, DecodeProblem> {
    let number = value.number().and_then(|number| u32::try_from(number).ok());
    number.ok_or(DecodeProblem::WrongType {
        at,
        expected: "a whole number below 2^32",
    })
}

pub(crate) fn number_u16<V: Value>(value: &V, at: Place) -> Result<u16, DecodeProblem> {
    let number = value.number().and_then(|number| u16::try_from(number).ok());
    number.ok_or(DecodeProblem::WrongType {
        at,
        expected: "a whole number below 2^16",
    })
}

pub(crate) fn name<V: Value, T>(value: &V, at: Place) -> Result<T, DecodeProblem>
where
    T: FromStr<Err = NameError>,
{
    with_text(value, at, |text| {
        text.parse()
            .map_err(|problem| DecodeProblem::BadName { at, problem })
    })
}

pub(crate) fn epoch<V: Value>(value: &V, at: Place) -> Result<Epoch, DecodeProblem> {
    with_text(value, at, |text| hexadecimal(text, at))
}

pub(crate) fn tag<V: Value>(value: &V, at: Place) -> Result<Tag, DecodeProblem> {
    with_text(value, at, |text| hexadecimal(text, at))
}

pub(crate) fn position<V: Value>(value: &V, at: Place) -> Result<Position, DecodeProblem> {
    let object = object(value, at)?;
    let fields = Reader::within(&object, at.field);
    Ok(Position {
        epoch: fields.required(Field::Epoch, epoch)?,
        offset: fields.required(Field::Offset, number)?,
        tag: fields.required(Field::Tag, tag)?,
    })
}

pub(crate) fn object<V: Value>(value: &V, at: Place) -> Result<V::Object, DecodeProblem> {
    value.object().ok_or(DecodeProblem::WrongType {
        at,
        expected: "an object",
    })
}

/// An object that stands in a list.
pub(crate) fn item<V: Value>(value: &V, list: Field) -> Result<V::Object, DecodeProblem> {
    value.object().ok_or(DecodeProblem::WrongType {
        at: Place {
            within: None,
            field: list,
        },
        expected: "a list of objects",
    })
}

pub(crate) fn items<V: Value>(value: &V, at: Place) -> Result<Vec<V>, DecodeProblem> {
    value.items().ok_or(DecodeProblem::WrongType {
        at,
        expected: "a list",
    })
}

fn with_text<V: Value, T>(
    value: &V,
    at: Place,
    read: impl FnOnce(&str) -> Result<T, DecodeProblem>,
) -> Result<T, DecodeProblem> {
    match value.text() {
        Some(text) => read(&text),
        None => Err(DecodeProblem::WrongType {
            at,
            expected: "a string",
        }),
    }
}

fn hexadecimal<T: FromStr<Err = PositionError>>(text: &str, at: Place) -> Result<T, DecodeProblem> {
    text.parse()
        .map_err(|problem| DecodeProblem::BadPosition { at, problem })
}
