//! Every error text, side by side: what is copied by mistake or reads badly shows here.

use fanfare_protocol::json::{DecodeError, DecodeProblem, Field, Place};
use fanfare_protocol::{
    ChannelName, EventName, IdempotencyKey, NameError, PositionError, SocketId, Tag, UserId,
};

fn decode_problems() -> Vec<DecodeProblem> {
    let at = Place {
        within: None,
        field: Field::Channel,
    };
    let inner = Place {
        within: Some(Field::Since),
        field: Field::Tag,
    };
    vec![
        DecodeProblem::NotJson {
            reason: "expected value at line 1 column 1".into(),
        },
        DecodeProblem::NotAnObject,
        DecodeProblem::UnknownType,
        DecodeProblem::Missing { at },
        DecodeProblem::Missing { at: inner },
        DecodeProblem::WrongType {
            at,
            expected: "a string",
        },
        DecodeProblem::BadName {
            at,
            problem: NameError::Empty {
                what: "channel name",
            },
        },
        DecodeProblem::BadPosition {
            at: inner,
            problem: PositionError::NotHexadecimal,
        },
    ]
}

#[test]
fn texts_of_decode_errors() {
    let texts: Vec<String> = decode_problems()
        .into_iter()
        .map(|problem| {
            let error = DecodeError { id: None, problem };
            format!("{} {error}", error.code().number())
        })
        .collect();
    insta::assert_snapshot!(texts.join("\n"), @r"
    4300 the frame is not JSON: expected value at line 1 column 1
    4300 the message is not a JSON object
    4001 unknown message type
    4300 `channel` is missing
    4300 `since.tag` is missing
    4300 `channel` must be a string
    4304 `channel` is not valid: the channel name must not be empty
    4300 `since.tag` is not valid: an epoch or tag is 1 to 16 lower-case hexadecimal digits
    ");
}

#[test]
fn texts_of_name_errors() {
    let errors = [
        ChannelName::new("").unwrap_err(),
        ChannelName::new(&"c".repeat(201)).unwrap_err(),
        ChannelName::new("no spaces").unwrap_err(),
        ChannelName::new("wild*card").unwrap_err(),
        ChannelName::new("\u{1b}[31m").unwrap_err(),
        ChannelName::new("caf\u{e9}").unwrap_err(),
        EventName::new("").unwrap_err(),
        EventName::new("line\nfeed").unwrap_err(),
        IdempotencyKey::new(&"k".repeat(129)).unwrap_err(),
        UserId::new("nul\0").unwrap_err(),
        UserId::new(&"|".repeat(66)).unwrap_err(),
        "0F".parse::<SocketId>().unwrap_err(),
    ];
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(texts.join("\n"), @r"
    the channel name must not be empty
    the channel name may have at most 200 bytes, this one has 201
    the channel name must not contain a space (byte 2)
    the channel name must not contain `*` (byte 4)
    the channel name must not contain U+001B (byte 0)
    the channel name must not contain U+00E9 (byte 3)
    the event name must not be empty
    the event name must not contain U+000A (byte 4)
    the idempotency key may have at most 128 bytes, this one has 129
    the user id must not contain U+0000 (byte 3)
    the user id's channel name may have at most 200 bytes, this one has 203
    a socket id is 32 lower-case hexadecimal digits
    ");
}

#[test]
fn texts_of_position_errors() {
    insta::assert_snapshot!("xyz".parse::<Tag>().unwrap_err(), @"an epoch or tag is 1 to 16 lower-case hexadecimal digits");
}
