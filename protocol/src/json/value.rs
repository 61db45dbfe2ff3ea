//! What a reader needs of a parsed JSON value, whoever parsed it.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;

use crate::json::error::{DecodeProblem, Place};
use crate::json::field::Field;
use crate::name::NameError;
use crate::position::{Epoch, OFFSET_MAX, Position, Tag};

/// A JSON value.
pub trait Value: Sized {
    /// What an object gives access to.
    type Object: Object<Value = Self>;

    /// As much as the reader wants to know of what is wrong: [`DecodeProblem`] itself, or less where every byte counts.
    type Problem: From<DecodeProblem>;

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

    /// `null`, which stands for a payload that is missing.
    fn null() -> Self;
}

/// A JSON object.
pub trait Object: Sized {
    /// What its fields hold.
    type Value: Value<Object = Self>;

    /// The value of a field; `None` when the object has no such field. Of a repeated field the last counts.
    fn field(&self, field: Field) -> Option<Self::Value>;
}

/// The problem type of an object's values.
pub(crate) type ProblemOf<O> = <<O as Object>::Value as Value>::Problem;

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
        read: fn(&O::Value, Place) -> Result<T, ProblemOf<O>>,
    ) -> Result<Option<T>, ProblemOf<O>> {
        match self.present(field) {
            Some(value) => read(&value, self.place(field)).map(Some),
            None => Ok(None),
        }
    }

    /// The value of a field; `null` counts as absent.
    pub(crate) fn present(&self, field: Field) -> Option<O::Value> {
        self.object.field(field).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub(crate) fn required<T>(
        &self,
        field: Field,
        read: fn(&O::Value, Place) -> Result<T, ProblemOf<O>>,
    ) -> Result<T, ProblemOf<O>> {
        self.optional(field, read)?
            .ok_or_else(|| self.missing(field))
    }

    /// The message's `type` or `action`, told by what `known` makes of its text.
    #[cfg(feature = "json")]
    pub(crate) fn kind<T>(
        &self,
        field: Field,
        known: impl FnOnce(&str) -> Result<T, ProblemOf<O>>,
    ) -> Result<T, ProblemOf<O>> {
        known(&some_text(&self.payload(field)?, self.place(field))?)
    }

    /// A payload that must be there; `null` is a payload.
    pub(crate) fn payload(&self, field: Field) -> Result<O::Value, ProblemOf<O>> {
        self.object.field(field).ok_or_else(|| self.missing(field))
    }

    /// An optional payload; `null` is a payload.
    #[cfg(feature = "json")]
    pub(crate) fn optional_payload(&self, field: Field) -> Option<O::Value> {
        self.object.field(field)
    }

    pub(crate) fn missing(&self, field: Field) -> ProblemOf<O> {
        let at = self.place(field);
        DecodeProblem::Missing { at }.into()
    }

    pub(crate) const fn place(&self, field: Field) -> Place {
        Place {
            within: self.within,
            field,
        }
    }
}

pub(crate) fn text<V: Value>(value: &V, at: Place) -> Result<String, V::Problem> {
    some_text(value, at).map(Cow::into_owned)
}

pub(crate) fn flag<V: Value>(value: &V, at: Place) -> Result<bool, V::Problem> {
    value.flag().ok_or_else(|| wrong(at, "true or false"))
}

/// A number that every side can count with: JavaScript is exact only below 2^53.
pub(crate) fn number<V: Value>(value: &V, at: Place) -> Result<u64, V::Problem> {
    value
        .number()
        .filter(|&number| number <= OFFSET_MAX)
        .ok_or_else(|| wrong(at, "a whole number below 2^53"))
}

/// A number below 2^32.
pub(crate) fn number_u32<V: Value>(value: &V, at: Place) -> Result<u64, V::Problem> {
    let number = value.number().filter(|&number| number >> 32 == 0);
    number.ok_or_else(|| wrong(at, "a whole number below 2^32"))
}

/// A number below 2^16.
pub(crate) fn number_u16<V: Value>(value: &V, at: Place) -> Result<u64, V::Problem> {
    let number = value.number().filter(|&number| number >> 16 == 0);
    number.ok_or_else(|| wrong(at, "a whole number below 2^16"))
}

pub(crate) fn name<V: Value, T>(value: &V, at: Place) -> Result<T, V::Problem>
where
    T: FromStr<Err = NameError>,
{
    let text = some_text(value, at)?;
    text.parse()
        .map_err(|problem| DecodeProblem::BadName { at, problem }.into())
}

pub(crate) fn position<V: Value>(value: &V, at: Place) -> Result<Position, V::Problem> {
    let object = object(value, at)?;
    let fields = Reader::within(&object, at.field);
    Ok(Position {
        epoch: Epoch(fields.required(Field::Epoch, hexadecimal)?),
        offset: fields.required(Field::Offset, number)?,
        tag: Tag(fields.required(Field::Tag, hexadecimal)?),
    })
}

pub(crate) fn object<V: Value>(value: &V, at: Place) -> Result<V::Object, V::Problem> {
    value.object().ok_or_else(|| wrong(at, "an object"))
}

/// An object that stands in a list.
pub(crate) fn item<V: Value>(value: &V, list: Field) -> Result<V::Object, V::Problem> {
    let at = Place {
        within: None,
        field: list,
    };
    value.object().ok_or_else(|| wrong(at, "a list of objects"))
}

pub(crate) fn items<V: Value>(value: &V, at: Place) -> Result<Vec<V>, V::Problem> {
    value.items().ok_or_else(|| wrong(at, "a list"))
}

fn some_text<V: Value>(value: &V, at: Place) -> Result<Cow<'_, str>, V::Problem> {
    value.text().ok_or_else(|| wrong(at, "a string"))
}

/// The bits of an epoch or a tag.
pub(crate) fn hexadecimal<V: Value>(value: &V, at: Place) -> Result<u64, V::Problem> {
    match some_text(value, at)?.parse() {
        Ok(Tag(number)) => Ok(number),
        Err(problem) => Err(DecodeProblem::BadPosition { at, problem }.into()),
    }
}

fn wrong<E: From<DecodeProblem>>(at: Place, expected: &'static str) -> E {
    DecodeProblem::WrongType { at, expected }.into()
}
