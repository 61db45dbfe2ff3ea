//! What every field of every message may hold. The npm tests read the same table: there is a second reader, in TypeScript.

use std::collections::BTreeMap;

use fanfare_protocol::json::{DecodeProblem, decode_messages};
use serde::Serialize;
use serde_json::{Value, json};

use crate::golden::{Direction, up_to_date, valid_texts};

/// What is put in a field's place, in the order of the verdicts; before these nothing at all.
fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(65_535),
        json!(65_536),
        json!(4_294_967_295_u64),
        json!(4_294_967_296_u64),
        json!(9_007_199_254_740_991_u64),
        json!(9_007_199_254_740_992_u64),
        json!(""),
        json!("a"),
        json!("0"),
        json!("A1"),
        json!("no spaces"),
        json!("caf\u{e9}"),
        json!("line\nbreak"),
        json!("member_added"),
        json!("toString"),
        json!("fedcba9876543210"),
        json!("0fedcba9876543210"),
        json!("0123456789abcdef0123456789abcdef"),
        json!("0123456789ABCDEF0123456789ABCDEF"),
        json!("x".repeat(128)),
        json!("x".repeat(129)),
        json!("x".repeat(200)),
        json!("x".repeat(201)),
        json!("|".repeat(65)),
        json!("|".repeat(66)),
        json!([]),
        json!([1]),
        json!([null]),
        json!([{}]),
        json!([{ "id": "a" }]),
        json!([{ "id": "a", "info": null }]),
        json!([{ "event": "e", "data": null }]),
        json!([{ "event": "e", "data": null, "offset": "1" }]),
        json!({}),
        json!({ "epoch": "1", "offset": 1, "tag": "1" }),
        json!({ "epoch": "1", "offset": 1, "tag": "x" }),
        json!({ "count": 0, "members": [] }),
        json!({ "count": 0, "members": [{ "id": "", "info": 1 }] }),
    ]
}

#[derive(Serialize)]
struct Table {
    name: &'static str,
    values: Vec<Value>,
    messages: Vec<Message>,
}

#[derive(Serialize)]
struct Message {
    text: String,
    /// By JSON pointer: a letter for each value.
    fields: BTreeMap<String, String>,
}

#[test]
fn the_table_of_what_fields_may_hold_is_true() {
    let values = values();
    let messages = valid_texts()
        .into_iter()
        .filter(|(direction, dialect, _)| {
            *direction == Direction::Server && dialect == "fanfare.v1"
        })
        .map(|(_, _, text)| message(text, &values));
    let table = Table {
        name: "fields",
        messages: messages.collect(),
        values,
    };
    assert!(table.messages.len() > 40);
    let text = serde_json::to_string_pretty(&table).unwrap() + "\n";
    up_to_date("fields.json", &text);
}

fn message(text: String, values: &[Value]) -> Message {
    let message: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(verdict(&message), 'y', "{text}");
    let mut fields = BTreeMap::new();
    for (object, name) in places(&message, String::new()) {
        let mut without = message.clone();
        fields_of(&mut without, &object).remove(&name);
        let mut verdicts = String::from(verdict(&without));
        for value in values {
            let mut with = message.clone();
            fields_of(&mut with, &object).insert(name.clone(), value.clone());
            verdicts.push(verdict(&with));
        }
        fields.insert(format!("{object}/{name}"), verdicts);
    }
    Message { text, fields }
}

/// `y`: it can be read. `n`: it cannot. `u`: it is of an unknown type.
fn verdict(message: &Value) -> char {
    let [read] = <[_; 1]>::try_from(decode_messages(&message.to_string())).unwrap();
    match read {
        Ok(_) => 'y',
        Err(error) if error.problem == DecodeProblem::UnknownType => 'u',
        Err(_) => 'n',
    }
}

/// Every field of a message and of the objects in it, payloads left out: its object as a JSON pointer, and its name.
fn places(value: &Value, at: String) -> Vec<(String, String)> {
    match value {
        Value::Object(object) => {
            let mut all = Vec::new();
            for (name, value) in object {
                all.push((at.clone(), name.clone()));
                if name != "data" && name != "info" {
                    all.extend(places(value, format!("{at}/{name}")));
                }
            }
            all
        }
        Value::Array(items) => items
            .first()
            .map_or(Vec::new(), |first| places(first, format!("{at}/0"))),
        _ => Vec::new(),
    }
}

fn fields_of<'a>(message: &'a mut Value, object: &str) -> &'a mut serde_json::Map<String, Value> {
    let found = message.pointer_mut(object);
    found.and_then(Value::as_object_mut).unwrap()
}
