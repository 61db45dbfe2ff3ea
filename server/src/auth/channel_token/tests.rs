use proptest::prelude::*;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn tokens() -> ChannelTokens {
    ChannelTokens::new(SECRET).unwrap()
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn until(end: SystemTime) -> Lasts {
    Lasts::default().with_until(Some(end))
}

const SOCKET: SocketId = SocketId::from_bits(0x1234);

#[test]
fn a_token_counts_for_exactly_what_it_was_made_for() {
    let (mine, other) = (channel("private-a"), channel("private-b"));
    let (ann, bob) = (user("ann"), user("bob"));
    let data = Some(r#"{"id":"ann","info":{}}"#);
    let made = TokenClaims::new(SOCKET, &mine)
        .with_user(Some(&ann))
        .with_channel_data(data);
    let token = tokens().sign(&made, Lasts::default(), at(0));
    let verify = |claims: TokenClaims<'_>| tokens().verify(&token, &claims, at(1));

    assert_eq!(verify(made).unwrap().user, Some(ann.clone()));
    assert_eq!(
        verify(made.with_user(None)).unwrap().user,
        Some(ann.clone())
    );
    let refused = [
        TokenClaims::new(SocketId::from_bits(0x1235), &mine).with_channel_data(data),
        TokenClaims::new(SOCKET, &other).with_channel_data(data),
        made.with_channel_data(None),
        made.with_channel_data(Some("")),
        made.with_channel_data(Some(r#"{"id":"bob","info":{}}"#)),
    ];
    for claims in refused {
        assert_eq!(verify(claims), Err(TokenError::NotForThis), "{claims:?}");
    }
    assert_eq!(
        verify(made.with_user(Some(&bob))),
        Err(TokenError::OtherUser)
    );
}

#[test]
fn a_token_of_an_anonymous_caller_names_no_user() {
    let name = channel("private-a");
    let claims = TokenClaims::new(SOCKET, &name);
    let token = tokens().sign(&claims, Lasts::default(), at(0));
    let ann = user("ann");
    let verified = tokens().verify(&token, &claims.with_user(Some(&ann)), at(1));
    assert_eq!(verified.unwrap().user, None);
}

#[test]
fn every_altered_bit_is_noticed() {
    let name = channel("private-a");
    let ann = user("ann");
    let claims = TokenClaims::new(SOCKET, &name).with_user(Some(&ann));
    let bytes = URL_SAFE_NO_PAD
        .decode(tokens().sign(&claims, until(at(500)), at(0)))
        .unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut altered = bytes.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let verified = tokens().verify(&URL_SAFE_NO_PAD.encode(&altered), &claims, at(1));
        assert!(
            matches!(
                verified,
                Err(TokenError::NotForThis | TokenError::Malformed)
            ),
            "bit {bit}: {verified:?}"
        );
    }
    for length in 0..bytes.len() {
        let cut = URL_SAFE_NO_PAD.encode(&bytes[..length]);
        assert!(tokens().verify(&cut, &claims, at(1)).is_err(), "{length}");
    }
}

#[test]
fn text_that_is_no_token_is_malformed() {
    let name = channel("private-a");
    let claims = TokenClaims::new(SOCKET, &name);
    let token = tokens().sign(&claims, Lasts::default(), at(0));
    for text in [
        "",
        "=",
        "AQ",
        "\u{0}",
        "ключ",
        &format!("{token}="),
        &format!(" {token}"),
        &format!("{token}\n"),
        &"A".repeat(TOKEN_BYTES_MAX + 1),
    ] {
        assert_eq!(
            tokens().verify(text, &claims, at(0)),
            Err(TokenError::Malformed),
            "{text:?}"
        );
    }
}

#[test]
fn a_token_has_to_be_used_in_time() {
    #[track_caller]
    fn check(tokens: &ChannelTokens, clock_ms: i64, expect: Result<(), TokenError>) {
        let name = channel("private-a");
        let claims = TokenClaims::new(SOCKET, &name);
        let token = tokens.sign(&claims, Lasts::default(), at(1_000));
        let ms = u64::try_from(1_700_001_000_000 + clock_ms).unwrap();
        let verified = tokens.verify(&token, &claims, UNIX_EPOCH + Duration::from_millis(ms));
        assert_eq!(verified.map(|_| ()), expect, "{clock_ms} ms");
    }

    let alone = tokens();
    check(&alone, 0, Ok(()));
    check(&alone, -1_000, Ok(()));
    check(&alone, -1_001, Err(TokenError::FromTheFuture));
    check(&alone, 60_999, Ok(()));
    check(&alone, 61_000, Err(TokenError::Expired));

    let cluster = tokens().with_clock_skew(Duration::from_secs(30));
    check(&cluster, -30_000, Ok(()));
    check(&cluster, 30_000, Ok(()));
    check(&cluster, 89_999, Ok(()));
    check(&cluster, 90_000, Err(TokenError::Expired));
    check(&cluster, -90_000, Err(TokenError::FromTheFuture));

    let hasty = tokens().with_validity(Duration::from_secs(5));
    check(&hasty, 5_999, Ok(()));
    check(&hasty, 6_000, Err(TokenError::Expired));
}

#[test]
fn the_end_of_the_permission_travels_with_the_token() {
    let name = channel("private-a");
    let claims = TokenClaims::new(SOCKET, &name);
    let token = tokens().sign(&claims, until(at(30)), at(0));
    let verified = tokens().verify(&token, &claims, at(29)).unwrap();
    assert_eq!(verified.until, Some(at(30)));
    assert_eq!(verified.session_until, None);
    assert_eq!(verified.issued_at, Some(at(0)));
    let session = Lasts::default().with_session_until(Some(at(40)));
    let of_session = tokens().sign(&claims, session, at(0));
    let verified = tokens().verify(&of_session, &claims, at(39)).unwrap();
    assert_eq!(verified.session_until, Some(at(40)));
    assert_eq!(verified.until, None);
    assert_eq!(
        tokens().verify(&of_session, &claims, at(40)),
        Err(TokenError::Expired)
    );
    assert_eq!(
        tokens().verify(&token, &claims, at(30)),
        Err(TokenError::Expired)
    );
    let long_ago = tokens().sign(&claims, until(UNIX_EPOCH), at(0));
    assert_eq!(
        tokens().verify(&long_ago, &claims, at(0)),
        Err(TokenError::Expired)
    );
}

#[test]
fn secrets_can_be_rotated() {
    let name = channel("private-a");
    let claims = TokenClaims::new(SOCKET, &name);
    let new_secret = "another secret that is long enough, really";
    let rotated = ChannelTokens::new(new_secret)
        .unwrap()
        .with_previous_secret(SECRET)
        .unwrap();

    let old_token = tokens().sign(&claims, Lasts::default(), at(0));
    assert!(rotated.verify(&old_token, &claims, at(1)).is_ok());

    let new_token = rotated.sign(&claims, Lasts::default(), at(0));
    assert!(rotated.verify(&new_token, &claims, at(1)).is_ok());
    assert_eq!(
        tokens().verify(&new_token, &claims, at(1)),
        Err(TokenError::NotForThis)
    );
}

#[test]
fn random_secrets_differ() {
    let name = channel("private-a");
    let claims = TokenClaims::new(SOCKET, &name);
    let ours = ChannelTokens::random();
    let token = ours.sign(&claims, Lasts::default(), at(0));
    assert!(ours.verify(&token, &claims, at(0)).is_ok());
    assert!(
        ChannelTokens::random()
            .verify(&token, &claims, at(0))
            .is_err()
    );
}

#[test]
fn weak_secrets_are_refused() {
    for secret in ["", "short", &SECRET[1..], &" \n".repeat(32)] {
        let weak = ChannelTokens::new(secret).unwrap_err();
        let blank_or_all = if secret.trim().is_empty() {
            0
        } else {
            secret.len()
        };
        assert_eq!(weak.bytes, blank_or_all);
        assert!(tokens().with_previous_secret(secret).is_err());
    }
    assert!(ChannelTokens::new(SECRET).is_ok());
}

#[test]
fn a_key_of_another_purpose_does_not_fit() {
    let name = channel("private-a");
    let claims = TokenClaims::new(SOCKET, &name);
    let token = tokens().sign(&claims, Lasts::default(), at(0));
    let ticket_keys = ChannelTokens::from_key(expand(SECRET.as_bytes(), b"fanfare/1/ticket"));
    assert_eq!(
        ticket_keys.verify(&token, &claims, at(0)),
        Err(TokenError::NotForThis)
    );
    let raw_secret = ChannelTokens::from_key(Hmac::new_from_slice(SECRET.as_bytes()).unwrap());
    assert!(raw_secret.verify(&token, &claims, at(0)).is_err());
}

/// Pusher's HMAC covered `socket_id:channel`, so a crafted socket id moved the border between the two (disclosed in 2015).
#[test]
fn the_exploits_of_2015_find_no_socket_id_and_no_channel() {
    for crafted in [
        "1234.5678:private-other",
        "1234.5678\n",
        "1234.5678:private-other:",
        "POST\n/apps/3/events\nauth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0",
        "0000000000000000000000000000001\n",
        "00000000000000000000000000000001:private-other",
        "0000000000000000000000000000000G",
        "+0000000000000000000000000000001",
    ] {
        assert!(crafted.parse::<SocketId>().is_err(), "{crafted:?}");
    }
    for crafted in [
        "private-a\n",
        "private-a:{\"user_id\":1}",
        "private-a%0a",
        "private-\u{430}",
        "private-a\u{0}",
        " private-a",
        "private-a/../b",
        "private-a*",
        "private-[a]",
    ] {
        assert!(ChannelName::new(crafted).is_err(), "{crafted:?}");
    }
}

#[test]
fn secrets_stay_out_of_debug() {
    let printed = format!("{:?}", tokens());
    assert_eq!(
        printed,
        "ChannelTokens { secrets: 1, validity: 60s, clock_skew: 1s }"
    );
}

#[derive(Debug, Clone, PartialEq)]
struct Tuple {
    socket: u128,
    channel: String,
    user: Option<String>,
    channel_data: Option<String>,
    times: Times,
}

impl Tuple {
    fn signed_text(&self) -> Vec<u8> {
        let name = channel(&self.channel);
        let user = self.user.as_deref().map(user);
        let claims = TokenClaims::new(SocketId::from_bits(self.socket), &name)
            .with_user(user.as_ref())
            .with_channel_data(self.channel_data.as_deref());
        signed_text(&claims, self.times)
    }

    /// Reads a signed text back. That this is possible for every tuple is what makes the encoding injective.
    fn read(mut text: &[u8]) -> Self {
        fn number<const N: usize>(text: &mut &[u8]) -> [u8; N] {
            let (number, rest) = text.split_first_chunk::<N>().unwrap();
            *text = rest;
            *number
        }
        fn field(text: &mut &[u8]) -> String {
            let length = usize::try_from(u64::from_be_bytes(number(text))).unwrap();
            let (field, rest) = text.split_at(length);
            *text = rest;
            String::from_utf8(field.to_vec()).unwrap()
        }
        fn optional(text: &mut &[u8]) -> Option<String> {
            let [mark] = number(text);
            let value = field(text);
            assert!(mark == 1 || value.is_empty());
            (mark == 1).then_some(value)
        }
        assert_eq!(field(&mut text).as_bytes(), CHANNEL_PURPOSE);
        let tuple = Self {
            socket: u128::from_be_bytes(number(&mut text)),
            channel: field(&mut text),
            user: optional(&mut text),
            channel_data: optional(&mut text),
            times: Times {
                use_by_ms: u64::from_be_bytes(number(&mut text)),
                until_ms: u64::from_be_bytes(number(&mut text)),
                session_until_ms: u64::from_be_bytes(number(&mut text)),
            },
        };
        assert!(text.is_empty());
        tuple
    }
}

fn tuple() -> impl Strategy<Value = Tuple> {
    (
        any::<u128>(),
        "[ab:]{1,6}",
        proptest::option::of("[ab:\u{e9}]{1,6}"),
        proptest::option::of(r#"[ab:{}"\PC]{0,8}"#),
        any::<(u64, u64, u64)>(),
    )
        .prop_map(
            |(socket, channel, user, channel_data, (use_by_ms, until_ms, session_until_ms))| {
                Tuple {
                    socket,
                    channel,
                    user,
                    channel_data,
                    times: Times {
                        use_by_ms,
                        until_ms,
                        session_until_ms,
                    },
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn distinct_permissions_never_share_a_signed_text(tuple in tuple()) {
        prop_assert_eq!(Tuple::read(&tuple.signed_text()), tuple);
    }

    #[test]
    fn no_text_makes_the_decoder_panic(text in "[A-Za-z0-9_-]{0,330}|\\PC{0,40}") {
        let name = channel("private-a");
        let _ = tokens().verify(&text, &TokenClaims::new(SOCKET, &name), at(0));
    }
}
