use super::*;

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_messages_of_version_1() {
    let (socket, channel) = ("00000000000000000000000000001234", "orders");
    let user = || "ann".to_owned();
    let (to, on) = (|| socket.to_owned(), || channel.to_owned());
    let questions = [
        (
            Question::SubscriberCount { channel: on() },
            r#"{"v":1,"ask":"subscriber_count","channel":"orders"}"#.to_owned(),
        ),
        (Question::Channels, r#"{"v":1,"ask":"channels"}"#.to_owned()),
        (
            Question::ConnectionCount,
            r#"{"v":1,"ask":"connection_count"}"#.to_owned(),
        ),
        (
            Question::ConnectionsOf { user: user() },
            r#"{"v":1,"ask":"connections_of","user":"ann"}"#.to_owned(),
        ),
        (
            Question::Subscribe {
                socket: to(),
                channel: on(),
            },
            format!(r#"{{"v":1,"ask":"subscribe","socket":"{socket}","channel":"orders"}}"#),
        ),
        (
            Question::Unsubscribe {
                socket: to(),
                channel: on(),
            },
            format!(r#"{{"v":1,"ask":"unsubscribe","socket":"{socket}","channel":"orders"}}"#),
        ),
        (
            Question::DisconnectUser { user: user() },
            r#"{"v":1,"ask":"disconnect_user","user":"ann"}"#.to_owned(),
        ),
        (
            Question::DropConnection { socket: to() },
            format!(r#"{{"v":1,"ask":"drop_connection","socket":"{socket}"}}"#),
        ),
    ];
    for (question, expected) in questions {
        assert_eq!(text(&question.encode()), expected);
        assert_eq!(Question::decode(expected.as_bytes()), Some(question));
    }
    let names = vec!["a".to_owned()];
    let answers = [
        (Answer::Count { count: 3 }, r#"{"is":"count","count":3}"#),
        (Answer::Names { names }, r#"{"is":"names","names":["a"]}"#),
        (Answer::Done, r#"{"is":"done"}"#),
        (Answer::Busy, r#"{"is":"busy"}"#),
        (Answer::NotHere, r#"{"is":"not_here"}"#),
        (Answer::TooMany, r#"{"is":"too_many"}"#),
        (Answer::Unknown, r#"{"is":"unknown"}"#),
    ];
    for (answer, expected) in answers {
        assert_eq!(text(&answer.encode()), expected);
        assert_eq!(Answer::decode(expected.as_bytes()), answer);
    }
}

#[test]
fn what_a_later_release_asks_is_answered_with_unknown() {
    for body in [
        r#"{"v":1,"ask":"weather"}"#,
        r#"{"v":2,"ask":"channels"}"#,
        r#"{"v":1,"ask":"subscriber_count"}"#,
        r#"{"ask":"channels"}"#,
        "channels",
        "",
    ] {
        assert_eq!(Question::decode(body.as_bytes()), None, "{body}");
        let answer = answer_of_nobody(body.as_bytes());
        assert_eq!(Answer::decode(&answer), Answer::Unknown, "{body}");
    }
    for body in [r#"{"is":"sunny"}"#, r#"{"is":"count"}"#, "3", ""] {
        assert_eq!(Answer::decode(body.as_bytes()), Answer::Unknown, "{body}");
    }
    // What a later release adds to a message that is known does not matter.
    let more = r#"{"v":1,"ask":"channels","at_most":5}"#;
    assert_eq!(Question::decode(more.as_bytes()), Some(Question::Channels));
}
