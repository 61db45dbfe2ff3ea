//! Names: accepted exactly when the grammar says so, and never two users on one channel.

use fanfare_protocol::{
    ChannelKind, ChannelName, EventName, IdempotencyKey, SocketId, UserId, name,
};
use proptest::prelude::*;

use crate::strategies::{any_text, user_id};

/// The grammar once more, as protocol.md writes it: `[A-Za-z0-9_\-=@,.;:]{1,200}`.
fn is_channel_name(text: &str) -> bool {
    const ALLOWED: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=@,.;:";
    (1..=200).contains(&text.len()) && text.chars().all(|character| ALLOWED.contains(character))
}

fn is_printable(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// Names and what is nearly one: a stranger in the middle, look-alikes, wild cards, lengths around the limit.
fn nearly_a_name() -> impl Strategy<Value = String> {
    let stranger = prop_oneof![
        Just(String::new()),
        any::<char>().prop_map(String::from),
        "[*?\\[\\]{}\\\\\u{0}\r\n /|#+$'\"\u{430}\u{2024}\u{ff0e}\u{7f}]",
    ];
    let plain = "[A-Za-z0-9_=@,.;:-]{0,12}";
    let mixed = (plain, stranger, plain).prop_map(|(start, middle, end)| start + &middle + &end);
    prop_oneof![
        8 => mixed,
        1 => any_text(),
        1 => (195..205usize).prop_map(|length| "n".repeat(length)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn a_channel_name_is_accepted_exactly_when_the_grammar_says_so(text in nearly_a_name()) {
        let parsed = ChannelName::new(&text);
        prop_assert_eq!(parsed.is_ok(), is_channel_name(&text));
        if let Ok(name) = parsed {
            prop_assert_eq!(name.as_str(), text);
        }
    }
}

proptest! {
    #[test]
    fn event_names_and_keys_are_accepted_exactly_when_printable(text in nearly_a_name()) {
        prop_assert_eq!(EventName::new(&text).is_ok(), is_printable(&text, name::EVENT_NAME_BYTES_MAX));
        prop_assert_eq!(
            IdempotencyKey::new(&text).is_ok(),
            is_printable(&text, name::IDEMPOTENCY_KEY_BYTES_MAX)
        );
    }

    #[test]
    fn the_user_of_a_personal_channel_can_be_told_from_its_name(user in user_id()) {
        let channel = ChannelName::user(&user);
        prop_assert!(is_channel_name(channel.as_str()));
        prop_assert_eq!(channel.kind(), ChannelKind::Personal);
        prop_assert_eq!(user_of(channel.without_prefix()), user.as_str());
    }

    #[test]
    fn a_user_whose_name_looks_like_an_escaped_one_has_another_channel(user in "[=7Cc|A-]{1,6}") {
        let user = UserId::new(&user).unwrap();
        let channel = ChannelName::user(&user);
        let twin = UserId::new(channel.without_prefix()).unwrap();
        prop_assert_eq!(ChannelName::user(&twin) == channel, twin == user);
    }

    #[test]
    fn a_socket_id_is_read_as_it_is_written(bits in any::<u128>()) {
        let id = SocketId::from_bits(bits);
        let text = id.to_string();
        prop_assert_eq!(text.len(), 32);
        prop_assert_eq!(text.parse::<SocketId>().unwrap().bits(), bits);
        prop_assert!(text.to_uppercase().parse::<SocketId>().is_err() || text == text.to_uppercase());
        prop_assert!(text[1..].parse::<SocketId>().is_err());
    }
}

/// Undoes the escapes of a personal channel's name: that this can be done shows that no two users share one.
fn user_of(escaped: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = escaped.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'=' {
            let digits = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
fn check_kind(text: &str, kind: ChannelKind, without_prefix: &str) {
    let channel = ChannelName::new(text).unwrap();
    assert_eq!(channel.kind(), kind);
    assert_eq!(channel.without_prefix(), without_prefix);
}

#[test]
fn the_prefix_decides_the_kind() {
    check_kind("orders", ChannelKind::Public, "orders");
    check_kind("private-user.123", ChannelKind::Private, "user.123");
    check_kind("presence-chat.room-1", ChannelKind::Presence, "chat.room-1");
    check_kind("user:42", ChannelKind::Personal, "42");
    check_kind("Private-x", ChannelKind::Public, "Private-x");
    check_kind("private", ChannelKind::Public, "private");
    check_kind("users:42", ChannelKind::Public, "users:42");
    check_kind("private-", ChannelKind::Private, "");
}

#[test]
fn typed_constructors_refuse_what_does_not_belong_into_a_name() {
    assert_eq!(ChannelName::chat(7).unwrap().as_str(), "chat:7");
    assert_eq!(ChannelName::of("org", "abc").unwrap().as_str(), "org:abc");
    assert_eq!(
        ChannelName::private("user", 1).unwrap().as_str(),
        "private-user.1"
    );
    assert_eq!(
        ChannelName::presence("chat", "a").unwrap().as_str(),
        "presence-chat.a"
    );
    assert!(ChannelName::chat("a b").is_err());
    assert!(ChannelName::of("org", "x".repeat(197)).is_err());
}

#[test]
fn a_user_id_must_leave_room_for_its_personal_channel() {
    assert!(UserId::new(&"a".repeat(128)).is_ok());
    assert!(UserId::new(&"a".repeat(129)).is_err());
    // Escaped, each of these bytes takes three.
    assert!(UserId::new(&"|".repeat(65)).is_ok());
    assert!(UserId::new(&"|".repeat(66)).is_err());
    assert!(UserId::new("a\u{85}").is_err());
}
