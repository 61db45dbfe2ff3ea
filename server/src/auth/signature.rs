//! Channel tokens in the form of Pusher Channels: `<key>:<hex HMAC-SHA256 of socket_id:channel[:channel_data]>`.
//!
//! Any backend makes one in three lines (Pusher Channels, *authentication and authorization strings*). What it lacks against a
//! token of ours is time: it counts as long as its connection lives.

use fanfare_protocol::UserId;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::member::{MemberError, parse_member};
use super::{TokenClaims, TokenError};

/// A token in this form.
pub(super) struct Signature {
    mac: [u8; MAC_BYTES],
}

impl Signature {
    /// Whether a text is meant to be one: base64url, in which our own tokens are, has no colon.
    pub(super) fn is_meant(token: &str) -> bool {
        token.contains(':')
    }

    /// Reads one. The key names the application at Pusher; here every secret is tried.
    pub(super) fn parse(token: &str) -> Result<Self, TokenError> {
        let (key, hex) = token.split_once(':').ok_or(TokenError::Malformed)?;
        let is_key_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_key = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(is_key_byte);
        if !is_key || hex.len() != 2 * MAC_BYTES {
            return Err(TokenError::Malformed);
        }
        let mut mac = [0; MAC_BYTES];
        for (byte, digits) in mac.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = (digit(digits[0])? << 4) | digit(digits[1])?;
        }
        Ok(Self { mac })
    }

    /// Whether one of the secrets has signed these claims.
    pub(super) fn is_genuine(&self, keys: &[Hmac<Sha256>], claims: &TokenClaims<'_>) -> bool {
        // No early return: how many secrets there are and which one fits does not show in the time this takes.
        keys.iter().fold(false, |found, key| {
            found | signed(key, claims).verify_slice(&self.mac).is_ok()
        })
    }
}

/// The user that member data names.
///
/// # Errors
/// When it is not member data. Only with a `{` in front can it not be taken for the end of a channel's name.
pub(super) fn user_of(channel_data: &str) -> Result<UserId, TokenError> {
    if !channel_data.starts_with('{') {
        return Err(TokenError::BadMember);
    }
    let member = parse_member(channel_data).map_err(|error| match error {
        MemberError::InfoTooLong { .. } => TokenError::LongInfo,
        MemberError::Malformed => TokenError::BadMember,
    })?;
    Ok(member.id)
}

/// Makes a token in this form.
pub(super) fn sign(key: &Hmac<Sha256>, claims: &TokenClaims<'_>) -> String {
    let mac = signed(key, claims).finalize().into_bytes();
    let digits = mac.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    let hex = digits.map(|digit| char::from(HEX[usize::from(digit)]));
    KEY.chars().chain([':']).chain(hex).collect()
}

fn signed(key: &Hmac<Sha256>, claims: &TokenClaims<'_>) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(claims.socket.to_string().as_bytes());
    mac.update(b":");
    mac.update(claims.channel.as_str().as_bytes());
    if let Some(data) = claims.channel_data {
        mac.update(b":");
        mac.update(data.as_bytes());
    }
    mac
}

fn digit(byte: u8) -> Result<u8, TokenError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(TokenError::Malformed),
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";
/// The key in signatures of our own making.
const KEY: &str = "fanfare";
const MAC_BYTES: usize = 32;
/// 64: keys of Pusher have 20.
const KEY_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use fanfare_protocol::{ChannelName, SocketId};
    use proptest::prelude::*;

    use super::*;
    use crate::auth::{ChannelTokens, Lasts, Verified};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const SOCKET: SocketId = SocketId::from_bits(0x1234);
    const MEMBER: &str = r#"{"user_id":"7","user_info":{"name":"Ann"}}"#;

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    fn verify(token: &str, claims: &TokenClaims<'_>) -> Result<Verified, TokenError> {
        let tokens = ChannelTokens::new(SECRET).unwrap();
        tokens.verify(token, claims, SystemTime::UNIX_EPOCH)
    }

    fn signed(claims: &TokenClaims<'_>) -> String {
        let tokens = ChannelTokens::new(SECRET).unwrap();
        tokens.sign_plain(claims).unwrap()
    }

    #[test]
    fn a_signature_counts_for_exactly_what_it_was_made_for() {
        let (mine, other) = (channel("private-a"), channel("private-b"));
        let claims = TokenClaims::new(SOCKET, &mine);
        let token = signed(&claims);
        let verified = verify(&token, &claims).unwrap();
        assert_eq!((verified.user, verified.issued_at), (None, None));
        assert_eq!((verified.until, verified.session_until), (None, None));
        // The key is a name for people.
        let renamed = token.replace("fanfare:", "278d425bdf160c739803:");
        assert!(verify(&renamed, &claims).is_ok());
        for other in [
            TokenClaims::new(SocketId::from_bits(0x1235), &mine),
            TokenClaims::new(SOCKET, &other),
            claims.with_channel_data(Some(MEMBER)),
            claims.with_channel_data(Some("")),
        ] {
            assert_eq!(verify(&token, &other), Err(TokenError::NotForThis));
        }
    }

    #[test]
    fn member_data_names_the_user() {
        let mine = channel("presence-a");
        let (ann, ben) = (UserId::new("7").unwrap(), UserId::new("8").unwrap());
        let claims = TokenClaims::new(SOCKET, &mine).with_channel_data(Some(MEMBER));
        let token = signed(&claims);
        assert_eq!(verify(&token, &claims).unwrap().user, Some(ann.clone()));
        assert!(verify(&token, &claims.with_user(Some(&ann))).is_ok());
        let other = verify(&token, &claims.with_user(Some(&ben)));
        assert_eq!(other, Err(TokenError::OtherUser));
        for data in ["", "7", " {\"user_id\":7}", "{}", "[7]"] {
            let claims = claims.with_channel_data(Some(data));
            let token = signed(&claims);
            assert_eq!(
                verify(&token, &claims),
                Err(TokenError::BadMember),
                "{data}"
            );
        }
        let info = "x".repeat(2_000);
        let data = format!("{{\"user_id\":\"7\",\"user_info\":\"{info}\"}}");
        let claims = claims.with_channel_data(Some(&data));
        let token = signed(&claims);
        assert_eq!(verify(&token, &claims), Err(TokenError::LongInfo));
    }

    /// Without the `{` a signature for one channel would be one for another channel with member data.
    #[test]
    fn the_border_between_channel_and_member_data_cannot_be_moved() {
        let (long, short) = (channel("private-a:b"), channel("private-a"));
        let token = signed(&TokenClaims::new(SOCKET, &long));
        let moved = TokenClaims::new(SOCKET, &short).with_channel_data(Some("b"));
        assert_eq!(verify(&token, &moved), Err(TokenError::BadMember));
        assert!(ChannelName::new("private-a:{").is_err());
    }

    #[test]
    fn text_that_is_no_signature_is_malformed() {
        let mine = channel("private-a");
        let claims = TokenClaims::new(SOCKET, &mine);
        let token = signed(&claims);
        let hex = token.strip_prefix("fanfare:").unwrap();
        for text in [
            format!(":{hex}"),
            format!("a b:{hex}"),
            format!("{}:{hex}", "k".repeat(65)),
            format!("k:{}", hex.to_uppercase()),
            format!("k:{hex}0"),
            format!("k:{}", &hex[1..]),
            format!("k:{}g", &hex[1..]),
            format!("k:\u{e9}{}", &hex[2..]),
            format!("k:{hex}:"),
            "k:".to_owned(),
            ":".to_owned(),
        ] {
            assert_eq!(verify(&text, &claims), Err(TokenError::Malformed), "{text}");
        }
    }

    #[test]
    fn every_secret_signs_and_a_random_one_does_not() {
        let mine = channel("private-a");
        let claims = TokenClaims::new(SOCKET, &mine);
        let now = SystemTime::UNIX_EPOCH;
        let rotated = ChannelTokens::new("another secret that is long enough, really").unwrap();
        let rotated = rotated.with_previous_secret(SECRET).unwrap();
        assert!(rotated.verify(&signed(&claims), &claims, now).is_ok());
        let random = ChannelTokens::random();
        assert_eq!(random.sign_plain(&claims), None);
        let answer = random.verify(&signed(&claims), &claims, now);
        assert_eq!(answer, Err(TokenError::NotForThis));
        // The two forms share a secret and no text.
        let own = ChannelTokens::new(SECRET).unwrap();
        assert!(!Signature::is_meant(&own.sign(
            &claims,
            Lasts::default(),
            now
        )));
    }

    /// Pusher Channels, *worked examples*: the same text, key and digest.
    #[test]
    fn the_digest_is_hmac_sha256() {
        use hmac::Mac as _;
        let mut mac = Hmac::<Sha256>::new_from_slice(b"7ad3773142a6692b25b8").unwrap();
        mac.update(b"1234.1234:private-foobar");
        let hex: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let published = "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4";
        assert_eq!(hex, published);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[a-z0-9]{0,3}:[0-9a-f]{60,66}|\\PC{0,40}:\\PC{0,70}") {
            let mine = channel("private-a");
            let _ = verify(&text, &TokenClaims::new(SOCKET, &mine));
        }
    }
}
