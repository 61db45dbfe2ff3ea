//! What is written is read back as it was, what is written is always JSON, and nothing that is read makes the reader panic.

use fanfare_protocol::json::{
    Field, decode_messages, decode_request, encode_batch, encode_event, encode_list,
    encode_message, encode_request,
};
use fanfare_protocol::{Code, Connected, Disposition, Reply, ServerMessage, SocketId, app_events};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use crate::strategies::{any_text, event, message, payload, request};

proptest! {
    #[test]
    fn a_command_is_read_as_it_was_written(request in request()) {
        let text = encode_request(&request);
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(value.get("id").and_then(Value::as_u64), request.id);
        prop_assert!(text.starts_with(r#"{"type":""#), "{}", text);
        prop_assert_eq!(decode_request(&text), Ok(request));
    }

    #[test]
    fn a_message_is_read_as_it_was_written(message in message()) {
        let text = encode_message(&message);
        serde_json::from_str::<Value>(&text).unwrap();
        prop_assert!(text.starts_with(r#"{"type":""#), "{}", text);
        prop_assert_eq!(decode_messages(&text), vec![Ok(message)]);
    }

    #[test]
    fn a_batch_is_read_as_it_was_written(messages in vec(message(), 0..5)) {
        let text = encode_batch(&messages);
        let read: Result<Vec<_>, _> = decode_messages(&text).into_iter().collect();
        prop_assert_eq!(read, Ok(messages));
    }

    #[test]
    fn a_message_that_cannot_be_read_leaves_the_rest_of_its_batch_alone(
        before in message(),
        after in message(),
        stranger in payload(),
    ) {
        let stranger = format!(r#"{{"type":"tomorrow","id":5,"data":{}}}"#, stranger.as_str());
        let text = format!("[{},{stranger},{}]", encode_message(&before), encode_message(&after));
        let read = decode_messages(&text);
        prop_assert_eq!(read.len(), 3);
        prop_assert_eq!(&read[0], &Ok(before));
        let error = read[1].as_ref().unwrap_err();
        prop_assert_eq!((error.code(), error.id), (Code::UNKNOWN_TYPE, Some(5)));
        prop_assert_eq!(&read[2], &Ok(after));
    }

    #[test]
    fn strings_mean_the_same_to_another_json_library(text in any_text()) {
        let mut reply = Reply::new(1);
        reply.event_id = Some(text.clone());
        let frame = encode_message(&ServerMessage::Ok(reply));
        let value: Value = serde_json::from_str(&frame).unwrap();
        prop_assert_eq!(value["event_id"].as_str(), Some(text.as_str()));
        // Not a byte more than needed: the same escapes as other encoders.
        let expected = serde_json::to_string(&text).unwrap();
        prop_assert!(frame.contains(&expected), "{} has no {}", frame, expected);
    }

    #[test]
    fn a_payload_is_passed_on_byte_for_byte(event in event()) {
        let mut text = String::from("before ");
        encode_event(&event, &mut text);
        prop_assert_eq!(&text[..8], "before {");
        prop_assert!(text.contains(event.data.as_str()));
        let ServerMessage::Event(read) = decode_messages(&text[7..]).remove(0).unwrap() else {
            return Err(TestCaseError::fail("not an event"));
        };
        prop_assert_eq!(read.data.as_str(), event.data.as_str());
    }

    #[test]
    fn a_list_holds_events_without_type_and_channel(events in vec(event(), 0..4)) {
        let mut text = String::new();
        encode_list(&events, &mut text);
        let list: Vec<Value> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(list.len(), events.len());
        for (value, event) in list.iter().zip(&events) {
            prop_assert!(value.get("type").is_none() && value.get("channel").is_none());
            prop_assert_eq!(value["event"].as_str(), Some(event.event.as_str()));
        }
    }

    #[test]
    fn every_message_is_json_in_the_app_events_dialect_too(message in message()) {
        for text in app_events::encode_message(&message) {
            let value: Value = serde_json::from_str(&text).unwrap();
            prop_assert!(value["type"].is_string());
        }
    }

    #[test]
    fn an_event_keeps_its_name_and_payload_in_the_app_events_dialect(event in event()) {
        let mut text = String::new();
        app_events::encode_event(&event, &mut text);
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(value["channel"].as_str(), Some(event.channel.as_str()));
        prop_assert_eq!(value["data"]["type"].as_str(), Some(event.event.as_str()));
        prop_assert_eq!(&value["data"]["data"], &event.data.decode::<Value>().unwrap());
    }

    #[test]
    fn any_text_is_refused_without_a_panic(bytes in vec(any::<u8>(), 0..64)) {
        read_everything(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_damaged_frame_is_read_or_refused_without_a_panic(
        request in request(),
        message in message(),
        damage in vec((any::<Index>(), any::<Index>(), damage()), 1..4),
    ) {
        for whole in [encode_request(&request), encode_message(&message)] {
            let mut text = whole;
            for (from, to, put) in &damage {
                text = damaged(&text, *from, *to, put);
            }
            read_everything(&text);
        }
    }

    #[test]
    fn the_id_is_told_whatever_else_is_wrong(
        id in 0..=(1u64 << 53) - 1,
        field in any::<Index>(),
        put in payload(),
    ) {
        let names: Vec<&str> = Field::ALL.iter().map(|field| field.name()).filter(|name| *name != "id").collect();
        let text = format!(
            r#"{{"type":"subscribe","channel":"no spaces",{}:{},"id":{id}}}"#,
            serde_json::to_string(field.get(&names)).unwrap(),
            put.as_str(),
        );
        if let Err(error) = decode_request(&text) {
            prop_assert_eq!(error.id, Some(id));
            prop_assert_eq!(error.to_message().id, Some(id));
        }
    }
}

fn damage() -> impl Strategy<Value = String> {
    let pieces = [
        "", "\"", "\\", "{", "}", "[", "]", ",", ":", "null", "-1", "1e9", "\u{0}", "\\ud800",
    ];
    prop_oneof![
        proptest::sample::select(pieces.map(String::from).to_vec()),
        any_text()
    ]
}

/// Replaces what lies between two places by something else.
fn damaged(text: &str, from: Index, to: Index, put: &str) -> String {
    let ends: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let (from, to) = (*from.get(&ends), *to.get(&ends));
    let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 8));
    let to = (to..).find(|at| text.is_char_boundary(*at)).unwrap();
    format!("{}{put}{}", &text[..from], &text[to..])
}

/// What is read is written, and reads the same again.
fn read_everything(text: &str) {
    for decode in [decode_request, app_events::decode_request] {
        match decode(text) {
            Ok(request) => assert_eq!(decode_request(&encode_request(&request)), Ok(request)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    for message in decode_messages(text) {
        match message {
            Ok(message) => assert_eq!(decode_messages(&encode_message(&message)), [Ok(message)]),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn a_payload_nested_a_million_deep_is_no_danger() {
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    let text = format!(r#"{{"type":"publish","channel":"c","event":"e","data":{deep}}}"#);
    decode_request(&text).unwrap();
    assert!(decode_request(&text[..text.len() - 9]).is_err());
    let batch = format!(r#"[{{"type":"event","channel":"c","event":"e","data":{deep}}}]"#);
    assert!(decode_messages(&batch)[0].is_ok());
}

#[test]
fn numbers_that_javascript_cannot_count_are_written_as_the_largest_that_it_can() {
    let connected = Connected {
        socket_id: SocketId::from_bits(0),
        user_id: None,
        protocol: u32::MAX,
        ping_interval: u64::MAX,
        max_payload_size: 1 << 53,
        server_time: (1 << 53) - 1,
        limits: None,
    };
    let text = encode_message(&ServerMessage::Connected(connected));
    assert_eq!(text.matches(":9007199254740991").count(), 3, "{text}");
    assert!(decode_messages(&text)[0].is_ok());
}

#[test]
fn a_field_is_found_by_its_name_and_its_number() {
    for (index, field) in Field::ALL.iter().enumerate() {
        assert_eq!(*field as usize, index);
        assert_eq!(Field::from_name(field.name()), Some(*field));
    }
    assert_eq!(Field::from_name("__proto__"), None);
}

#[test]
fn the_table_of_codes_is_ordered_and_its_ranges_act_as_they_say() {
    let numbers: Vec<u16> = Code::ALL.iter().map(|code| code.number()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    for code in Code::ALL {
        assert_eq!(Code::from_number(code.number()), Some(*code));
        if code.disposition() != Disposition::Command {
            assert_eq!(
                Disposition::of_close(code.number()),
                code.disposition(),
                "{code:?}"
            );
        }
        let is_of_a_command = matches!(code.number(), 4300..=4399 | 4001);
        assert_eq!(
            is_of_a_command,
            code.disposition() == Disposition::Command,
            "{code:?}"
        );
    }
    assert_eq!(Code::from_number(1000), None);
    for unknown in [1000, 1001, 1006, 3000, 4150, 4999] {
        assert_eq!(Disposition::of_close(unknown), Disposition::Backoff);
    }
}
