//! Frames as the JavaScript engine parsed them. A payload stays the JavaScript value it is.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;
use std::thread::LocalKey;

use fanfare_client::Payload;
use fanfare_protocol::json::{DecodeProblem, Field, Object, Value, read_messages};
use fanfare_protocol::{Member, ServerMessage, UserId};
use wasm_bindgen::{JsCast as _, JsValue};

use crate::bridge::{Fields, parse_json, whole};
use crate::names::{CHANNELS, EVENTS, Names, TYPES, USERS};

/// A payload: whatever `JSON.parse` made of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Data(pub(crate) JsValue);

impl Payload for Data {
    fn member_added(&self) -> Option<Member<Self>> {
        let object = Json::from(self.0.clone()).object()?;
        Some(Member {
            id: user_id(&object)?,
            info: Self(object.field(Field::Info)?.value),
        })
    }

    fn member_removed(&self) -> Option<(UserId, Option<String>)> {
        let object = Json::from(self.0.clone()).object()?;
        let reason = object.field(Field::Reason);
        let reason = reason.and_then(|reason| reason.value.as_string());
        Some((user_id(&object)?, reason))
    }
}

fn user_id(member: &JsonObject) -> Option<UserId> {
    member.field(Field::Id)?.text()?.parse().ok()
}

/// What one frame says, in order. A message of a type that this client does not know is left out.
pub(crate) enum Frame {
    /// Its messages; `None` stands for one that cannot be read.
    Messages(Vec<Option<ServerMessage<Data>>>),
    /// It is not JSON.
    Unreadable,
}

impl Frame {
    /// Reads the `data` of a WebSocket's `message` event.
    pub(crate) fn read(data: &JsValue) -> Self {
        let Ok(frame) = parse_json(data) else {
            return Self::Unreadable;
        };
        let read = read_messages(Json::from(frame), |payload| Data(payload.value));
        let known = read.into_iter().filter_map(|message| match message {
            Ok(message) => Some(Some(message)),
            Err(error) if error.problem == Problem::UnknownType => None,
            Err(_) => Some(None),
        });
        Self::Messages(known.collect())
    }
}

/// Why a message is left out or cannot be read. No caller reads more about it, so no more is kept.
#[derive(PartialEq, Eq)]
enum Problem {
    UnknownType,
    Unreadable,
}

impl From<DecodeProblem> for Problem {
    fn from(problem: DecodeProblem) -> Self {
        match problem {
            DecodeProblem::UnknownType => Self::UnknownType,
            _ => Self::Unreadable,
        }
    }
}

/// A value that `JSON.parse` made.
struct Json {
    value: JsValue,
    /// Where its text is looked up, when it is one that comes again and again.
    names: Option<&'static LocalKey<Names>>,
    text: OnceCell<Rc<str>>,
}

/// A value that is known to be an object.
struct JsonObject(Fields);

impl From<JsValue> for Json {
    fn from(value: JsValue) -> Self {
        Self {
            value,
            names: None,
            text: OnceCell::new(),
        }
    }
}

impl Value for Json {
    type Object = JsonObject;
    type Problem = Problem;

    fn object(&self) -> Option<JsonObject> {
        self.value
            .is_object()
            .then(|| JsonObject(self.value.clone().unchecked_into()))
    }

    fn items(&self) -> Option<Vec<Self>> {
        if !js_sys::Array::is_array(&self.value) {
            return None;
        }
        let array: &js_sys::Array = self.value.unchecked_ref();
        let count = array.length();
        Some((0..count).map(|at| array.get(at).into()).collect())
    }

    fn text(&self) -> Option<Cow<'_, str>> {
        let Some(names) = self.names else {
            return self.value.as_string().map(Cow::Owned);
        };
        let text = names.with(|names| names.text(&self.value))?;
        Some(Cow::Borrowed(self.text.get_or_init(|| text)))
    }

    fn number(&self) -> Option<u64> {
        self.value.as_f64().and_then(whole)
    }

    fn flag(&self) -> Option<bool> {
        self.value.as_bool()
    }

    fn is_null(&self) -> bool {
        self.value.is_null()
    }

    fn null() -> Self {
        JsValue::NULL.into()
    }
}

impl Object for JsonObject {
    type Value = Json;

    fn field(&self, field: Field) -> Option<Json> {
        KEYS.with(|keys| {
            let key = &keys[field as usize];
            let value = match field {
                // A payload may be null, elsewhere that means that there is nothing.
                Field::Data | Field::Info => {
                    let value = self.0.get_value(key);
                    (!value.is_undefined()).then_some(value)
                }
                _ => self.0.get_present(key),
            };
            Some(Json {
                value: value?,
                names: names(field),
                text: OnceCell::new(),
            })
        })
    }
}

fn names(field: Field) -> Option<&'static LocalKey<Names>> {
    match field {
        Field::Type => Some(&TYPES),
        Field::Channel => Some(&CHANNELS),
        Field::Event => Some(&EVENTS),
        Field::UserId => Some(&USERS),
        _ => None,
    }
}

thread_local! {
    /// The field names as JavaScript strings, by `field as usize`.
    static KEYS: Vec<JsValue> = Field::ALL.iter().map(|field| JsValue::from_str(field.name())).collect();
}
