//! Values that JavaScript has parsed and keeps, known here by numbers.
//!
//! A number stands for its value until all outputs are drained. One that is kept longer, as that of a member's information, says
//! only that TypeScript has been told the value before.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use fanfare_client::Payload;
use fanfare_protocol::json::{DecodeProblem, Field, Object, Value};
use fanfare_protocol::{Member, UserId};
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    /// One of the kinds below.
    #[wasm_bindgen(js_namespace = nodes, js_name = kind)]
    fn node_kind(node: u32) -> u32;

    /// The number of a field's value; 0 when there is none.
    #[wasm_bindgen(js_namespace = nodes, js_name = field)]
    fn node_field(node: u32, name: &str) -> u32;

    /// The number of an array's item; 0 when it has no such item.
    #[wasm_bindgen(js_namespace = nodes, js_name = item)]
    fn node_item(node: u32, at: u32) -> u32;

    /// A number, or the length of an array; anything else is no number.
    #[wasm_bindgen(js_namespace = nodes, js_name = number)]
    fn node_number(node: u32) -> f64;

    /// A string; anything else is none.
    #[wasm_bindgen(js_namespace = nodes, js_name = text)]
    fn node_text(node: u32) -> Option<String>;
}

const FALSE: u32 = 1;
const TRUE: u32 = 2;
const OBJECT: u32 = 3;
const ARRAY: u32 = 4;

/// The number of `null`.
const NULL: u32 = 1;

/// A value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node(pub(super) u32);

/// A payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Data(pub(super) u32);

impl Payload for Data {
    fn member_added(&self) -> Option<Member<Self>> {
        let object = Node(self.0).object()?;
        Some(Member {
            id: user_id(object)?,
            info: Self(object.field(Field::Info)?.0),
        })
    }

    fn member_removed(&self) -> Option<(UserId, Option<String>)> {
        let object = Node(self.0).object()?;
        let reason = object.field(Field::Reason);
        Some((user_id(object)?, reason.and_then(Node::string)))
    }
}

fn user_id(member: Node) -> Option<UserId> {
    UserId::new(&member.field(Field::Id)?.string()?).ok()
}

/// Why a message is left out or cannot be read. Nobody reads more about it, and so no more is kept.
#[derive(PartialEq, Eq)]
pub(super) enum Problem {
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

impl Node {
    /// An item of an array; `None` when it is absent or null.
    pub(super) fn item(self, at: u32) -> Option<Self> {
        match node_item(self.0, at) {
            0 | NULL => None,
            item => Some(Self(item)),
        }
    }

    /// The text of a string.
    pub(super) fn string(self) -> Option<String> {
        node_text(self.0)
    }

    /// The text of an array's item; `None` when it is absent or no string.
    pub(super) fn string_at(self, at: u32) -> Option<String> {
        self.item(at)?.string()
    }

    /// The number of an array's item; `None` when it is absent, no number, a fraction, or below 0.
    pub(super) fn number_at(self, at: u32) -> Option<u64> {
        whole(node_number(self.item(at)?.0))
    }
}

impl Value for Node {
    type Object = Self;
    type Problem = Problem;

    fn object(&self) -> Option<Self> {
        (node_kind(self.0) == OBJECT).then_some(*self)
    }

    fn items(&self) -> Option<Vec<Self>> {
        if node_kind(self.0) != ARRAY {
            return None;
        }
        let count = node_number(self.0) as u32;
        Some((0..count).map(|at| Self(node_item(self.0, at))).collect())
    }

    fn text(&self) -> Option<Cow<'_, str>> {
        self.string().map(Cow::Owned)
    }

    fn number(&self) -> Option<u64> {
        match node_kind(self.0) {
            ARRAY => None,
            _ => whole(node_number(self.0)),
        }
    }

    fn flag(&self) -> Option<bool> {
        match node_kind(self.0) {
            FALSE => Some(false),
            TRUE => Some(true),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        self.0 == NULL
    }

    fn null() -> Self {
        Self(NULL)
    }
}

impl Object for Node {
    type Value = Self;

    fn field(&self, field: Field) -> Option<Self> {
        match node_field(self.0, field.name()) {
            0 => None,
            value => Some(Self(value)),
        }
    }
}

/// A number that counts something; `None` for a fraction, a negative number, and what JavaScript cannot count to.
pub(super) fn whole(number: f64) -> Option<u64> {
    let count = number as u64;
    (count as f64 == number && number <= MAX_SAFE).then_some(count)
}

const MAX_SAFE: f64 = 9_007_199_254_740_991.0;
