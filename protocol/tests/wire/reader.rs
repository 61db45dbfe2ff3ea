//! The generic reader over another parser: what a browser does with the values of `JSON.parse`, here with those of serde_json.

use std::borrow::Cow;

use fanfare_protocol::json::{
    DecodeProblem, Field, Object, Value, decode_messages, encode_batch, encode_message,
    read_messages,
};
use fanfare_protocol::{Code, RawJson, ServerMessage};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::golden::{self, Direction};
use crate::strategies::message;

/// A value that was parsed as a whole.
#[derive(Clone)]
struct Parsed(serde_json::Value);

impl Value for Parsed {
    type Object = Self;
    type Problem = DecodeProblem;

    fn object(&self) -> Option<Self> {
        self.0.is_object().then(|| self.clone())
    }

    fn items(&self) -> Option<Vec<Self>> {
        Some(self.0.as_array()?.iter().cloned().map(Self).collect())
    }

    fn text(&self) -> Option<Cow<'_, str>> {
        self.0.as_str().map(Cow::Borrowed)
    }

    fn number(&self) -> Option<u64> {
        self.0.as_u64()
    }

    fn flag(&self) -> Option<bool> {
        self.0.as_bool()
    }

    fn is_null(&self) -> bool {
        self.0.is_null()
    }

    fn null() -> Self {
        Self(serde_json::Value::Null)
    }
}

impl Object for Parsed {
    type Value = Self;

    fn field(&self, field: Field) -> Option<Self> {
        self.0.get(field.name()).cloned().map(Self)
    }
}

fn read(text: &str) -> Vec<Result<ServerMessage, fanfare_protocol::DecodeError>> {
    let parsed = Parsed(serde_json::from_str(text).unwrap());
    read_messages(parsed, |payload| RawJson::trusted(payload.0.to_string()))
}

/// The frame as the other parser would write it, so that payloads compare as text.
fn normalized(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    value.to_string()
}

proptest! {
    #[test]
    fn both_readers_read_the_same(messages in vec(message(), 0..4)) {
        for text in messages.iter().map(encode_message).chain([encode_batch(&messages)]) {
            let text = normalized(&text);
            prop_assert_eq!(read(&text), decode_messages(&text));
        }
    }
}

#[test]
fn both_readers_read_every_golden_message() {
    let texts = golden::valid_texts()
        .into_iter()
        .filter(|(direction, dialect, _)| {
            *direction == Direction::Server && dialect.starts_with("fanfare.v1")
        });
    for (_, _, text) in texts {
        let messages = read(&text);
        assert_eq!(messages, decode_messages(&normalized(&text)), "{text}");
        assert!(messages.iter().all(Result::is_ok), "{text}");
    }
}

#[track_caller]
fn check_refused(text: &str, code: Code, id: Option<u64>, sentence: &str) {
    for messages in [read(text), decode_messages(text)] {
        let [message] = <[_; 1]>::try_from(messages).unwrap();
        let error = message.unwrap_err();
        assert_eq!((error.code(), error.id), (code, id));
        assert_eq!(error.to_string(), sentence);
    }
}

#[test]
fn both_readers_say_what_is_wrong_with_a_message() {
    let bad = Code::BAD_MESSAGE;
    check_refused("[1]", bad, None, "the message is not a JSON object");
    check_refused("true", bad, None, "the message is not a JSON object");
    check_refused("{}", bad, None, "`type` is missing");
    check_refused(r#"{"type":[]}"#, bad, None, "`type` must be a string");
    check_refused(
        r#"{"type":"applause","id":3}"#,
        Code::UNKNOWN_TYPE,
        Some(3),
        "unknown message type",
    );
    check_refused(r#"{"type":"ok"}"#, bad, None, "`id` is missing");
    check_refused(
        r#"{"type":"ok","id":3,"members":[{"id":"a"}],"count":1}"#,
        bad,
        Some(3),
        "`members.info` is missing",
    );
    check_refused(
        r#"{"type":"ok","id":3,"members":[]}"#,
        bad,
        Some(3),
        "`count` is missing",
    );
    check_refused(
        r#"{"type":"ok","id":3,"events":[{}]}"#,
        bad,
        Some(3),
        "`channel` is missing",
    );
    check_refused(
        r#"{"type":"ok","id":3,"channel":"c","events":[7]}"#,
        bad,
        Some(3),
        "`events` must be a list of objects",
    );
    check_refused(
        r#"{"type":"subscription_succeeded","channel":"c","recovered":false,"presence":{"count":1}}"#,
        bad,
        None,
        "`presence.members` is missing",
    );
    check_refused(
        r#"{"type":"subscription_succeeded","channel":"c","recovered":1}"#,
        bad,
        None,
        "`recovered` must be true or false",
    );
    check_refused(
        r#"{"type":"error","code":65536,"error":"x","retry":true}"#,
        bad,
        None,
        "`code` must be a whole number below 2^16",
    );
    check_refused(
        r#"{"type":"reset","channel":"c","position":{"epoch":"1","offset":-1,"tag":"1"},"reason":"x"}"#,
        bad,
        None,
        "`position.offset` must be a whole number below 2^53",
    );
    check_refused(
        r#"{"type":"event","channel":"c","event":"e"}"#,
        bad,
        None,
        "`data` is missing",
    );
}

#[test]
fn a_batch_that_is_cut_off_is_no_batch() {
    let messages = decode_messages(r#"[{"type":"pong","timestamp":1},"#);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].as_ref().unwrap_err().code(), Code::BAD_MESSAGE);
    assert!(decode_messages("[]").is_empty());
}
