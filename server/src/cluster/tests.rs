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
            NodeRequest::SubscriberCount { channel: on() },
            r#"{"v":1,"ask":"subscriber_count","channel":"orders"}"#.to_owned(),
        ),
        (
            NodeRequest::Channels,
            r#"{"v":1,"ask":"channels"}"#.to_owned(),
        ),
        (
            NodeRequest::ConnectionCount,
            r#"{"v":1,"ask":"connection_count"}"#.to_owned(),
        ),
        (
            NodeRequest::ConnectionsOf { user: user() },
            r#"{"v":1,"ask":"connections_of","user":"ann"}"#.to_owned(),
        ),
        (
            NodeRequest::Subscribe {
                socket: to(),
                channel: on(),
            },
            format!(r#"{{"v":1,"ask":"subscribe","socket":"{socket}","channel":"orders"}}"#),
        ),
        (
            NodeRequest::Unsubscribe {
                socket: to(),
                channel: on(),
            },
            format!(r#"{{"v":1,"ask":"unsubscribe","socket":"{socket}","channel":"orders"}}"#),
        ),
        (
            NodeRequest::DisconnectUser { user: user() },
            r#"{"v":1,"ask":"disconnect_user","user":"ann"}"#.to_owned(),
        ),
        (
            NodeRequest::DropConnection { socket: to() },
            format!(r#"{{"v":1,"ask":"drop_connection","socket":"{socket}"}}"#),
        ),
    ];
    for (request, expected) in questions {
        assert_eq!(text(&request.encode()), expected);
        assert_eq!(NodeRequest::decode(expected.as_bytes()), Some(request));
    }
    let names = vec!["a".to_owned()];
    let replies = [
        (NodeReply::Count { count: 3 }, r#"{"is":"count","count":3}"#),
        (
            NodeReply::Names { names },
            r#"{"is":"names","names":["a"]}"#,
        ),
        (NodeReply::Done, r#"{"is":"done"}"#),
        (NodeReply::Busy, r#"{"is":"busy"}"#),
        (NodeReply::NotHere, r#"{"is":"not_here"}"#),
        (NodeReply::TooMany, r#"{"is":"too_many"}"#),
        (NodeReply::Unknown, r#"{"is":"unknown"}"#),
    ];
    for (reply, expected) in replies {
        assert_eq!(text(&reply.encode()), expected);
        assert_eq!(NodeReply::decode(expected.as_bytes()), reply);
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
        assert_eq!(NodeRequest::decode(body.as_bytes()), None, "{body}");
        let reply = reply_of_publisher(body.as_bytes());
        assert_eq!(NodeReply::decode(&reply), NodeReply::Unknown, "{body}");
    }
    for body in [r#"{"is":"sunny"}"#, r#"{"is":"count"}"#, "3", ""] {
        assert_eq!(
            NodeReply::decode(body.as_bytes()),
            NodeReply::Unknown,
            "{body}"
        );
    }
    // What a later release adds to a message that is known does not matter.
    let more = r#"{"v":1,"ask":"channels","at_most":5}"#;
    assert_eq!(
        NodeRequest::decode(more.as_bytes()),
        Some(NodeRequest::Channels)
    );
}
