use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const RSA: &str = include_str!("keys/rsa.pem");
const RSA_PUBLIC: &str = include_str!("keys/rsa.pub.pem");
const OTHER_RSA: &str = include_str!("keys/other-rsa.pem");
const EC: &str = include_str!("keys/ec.pem");
const EC_PUBLIC: &str = include_str!("keys/ec.pub.pem");
const EC_384: &str = include_str!("keys/ec384.pem");
const ED: &str = include_str!("keys/ed.pem");
const ED_PUBLIC: &str = include_str!("keys/ed.pub.pem");

const NOW: u64 = 1_700_000_000;

fn hs256() -> JwtKey {
    JwtKey::hs256(SECRET).unwrap()
}

fn claims() -> Value {
    json!({ "sub": "ann", "exp": NOW + 60 })
}

fn merged(extra: Value) -> Value {
    let mut all = claims();
    let members = all.as_object_mut().unwrap();
    members.extend(extra.as_object().unwrap().clone());
    all
}

fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).unwrap()
}

fn hs(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET);
    sign(&Header::new(Algorithm::HS256), claims, &key)
}

/// A token with exactly this text for header and claims, signed with the shared secret.
fn hs_text(head: &str, claims: &str) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(head),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn verify(authorizer: &JwtAuthorizer, token: &str) -> Result<Identity, Rejection> {
    authorizer.verify(token, NOW * 1_000)
}

#[test]
fn a_token_says_who_until_when_and_what_others_may_know() {
    let token = hs(&merged(
        json!({ "info": { "name": "Ann" }, "role": "admin" }),
    ));
    let identity = verify(&JwtAuthorizer::new(hs256()), &token).unwrap();
    assert_eq!(identity.user.as_str(), "ann");
    assert_eq!(identity.info.unwrap().as_str(), r#"{"name":"Ann"}"#);
    assert_eq!(
        identity.expires_at,
        Some(UNIX_EPOCH + Duration::from_secs(NOW + 60 + 30)),
        "its end and the leeway"
    );
    assert_eq!(identity.claims, None);

    let keeping = JwtAuthorizer::new(hs256()).keeping_claims();
    let claims = verify(&keeping, &token).unwrap().claims.unwrap();
    assert_eq!(claims.decode::<Value>().unwrap()["role"], "admin");
}

#[test]
fn every_kind_of_key_verifies_its_own_algorithm_and_no_other() {
    let keys = [
        ("HS256", hs256()),
        ("RS256", JwtKey::rs256_pem(RSA_PUBLIC).unwrap()),
        ("ES256", JwtKey::es256_pem(EC_PUBLIC).unwrap()),
        ("EdDSA", JwtKey::eddsa_pem(ED_PUBLIC).unwrap()),
    ];
    let rsa = || EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
    let secret = || EncodingKey::from_secret(SECRET);
    let signers = [
        (Algorithm::HS256, secret()),
        (Algorithm::HS384, secret()),
        (Algorithm::HS512, secret()),
        (Algorithm::RS256, rsa()),
        (Algorithm::RS384, rsa()),
        (Algorithm::RS512, rsa()),
        (Algorithm::PS256, rsa()),
        (Algorithm::PS384, rsa()),
        (Algorithm::PS512, rsa()),
        (
            Algorithm::ES256,
            EncodingKey::from_ec_pem(EC.as_bytes()).unwrap(),
        ),
        (
            Algorithm::ES384,
            EncodingKey::from_ec_pem(EC_384.as_bytes()).unwrap(),
        ),
        (
            Algorithm::EdDSA,
            EncodingKey::from_ed_pem(ED.as_bytes()).unwrap(),
        ),
    ];
    for (name, key) in keys {
        let authorizer = JwtAuthorizer::new(key);
        for (algorithm, signer) in &signers {
            let token = sign(&Header::new(*algorithm), &claims(), signer);
            let answer = verify(&authorizer, &token);
            if format!("{algorithm:?}") == name {
                assert!(answer.is_ok(), "{name} {algorithm:?}: {answer:?}");
            } else {
                let named =
                    Rejection::NoKeyForAlgorithm(key::known_algorithm(&format!("{algorithm:?}")));
                assert_eq!(answer, Err(named), "{name} {algorithm:?}");
            }
        }
    }
}

#[test]
fn the_public_key_does_not_sign_as_a_shared_secret() {
    let authorizer = JwtAuthorizer::new(JwtKey::rs256_pem(RSA_PUBLIC).unwrap()).with_key(hs256());
    let confused = EncodingKey::from_secret(RSA_PUBLIC.as_bytes());
    let token = sign(&Header::new(Algorithm::HS256), &claims(), &confused);
    assert_eq!(verify(&authorizer, &token), Err(Rejection::BadSignature));
    assert_eq!(
        JwtKey::hs256(RSA_PUBLIC).unwrap_err(),
        JwtKeyError::PemAsSecret
    );
    assert_eq!(
        JwtKey::hs256(format!("\n {EC_PUBLIC}")).unwrap_err(),
        JwtKeyError::PemAsSecret
    );

    let other = EncodingKey::from_rsa_pem(OTHER_RSA.as_bytes()).unwrap();
    let token = sign(&Header::new(Algorithm::RS256), &claims(), &other);
    assert_eq!(verify(&authorizer, &token), Err(Rejection::BadSignature));
}

#[test]
fn no_algorithm_is_no_signature() {
    let authorizer = JwtAuthorizer::new(hs256());
    let valid = hs(&claims());
    let (_, rest) = valid.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    for name in [
        "none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS999", "ES512",
    ] {
        let head = URL_SAFE_NO_PAD.encode(json!({ "alg": name, "typ": "JWT" }).to_string());
        for signature in ["", signature] {
            let token = format!("{head}.{body}.{signature}");
            let answer = verify(&authorizer, &token);
            assert!(
                matches!(answer, Err(Rejection::NoKeyForAlgorithm(_))),
                "{name:?}"
            );
        }
    }
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    for signature in ["", "AA", &signature[1..]] {
        assert!(verify(&authorizer, &format!("{head}.{body}.{signature}")).is_err());
    }
}

#[test]
fn the_key_id_chooses_a_key_and_nothing_else() {
    let other = b"another secret of more than 32 bytes";
    let authorizer = JwtAuthorizer::new(hs256().with_id("2024"))
        .with_key(JwtKey::hs256(other).unwrap().with_id("2025"));
    let with_id = |id: &str, secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(id.to_owned());
        sign(&header, &claims(), &EncodingKey::from_secret(secret))
    };
    assert!(verify(&authorizer, &with_id("2024", SECRET)).is_ok());
    assert!(verify(&authorizer, &with_id("2025", other)).is_ok());
    assert_eq!(
        verify(&authorizer, &with_id("2024", other)),
        Err(Rejection::BadSignature)
    );
    assert_eq!(
        verify(&authorizer, &hs(&claims())),
        Err(Rejection::NoKeyWithId)
    );
    for id in [
        "",
        "2026",
        "2024 ",
        "../../dev/null",
        "/dev/null",
        "' OR '1'='1",
        "2024\n2025",
        "http://127.0.0.1:1/key",
        "2024\u{0}",
        "*",
    ] {
        assert_eq!(
            verify(&authorizer, &with_id(id, SECRET)),
            Err(Rejection::NoKeyWithId),
            "{id:?}"
        );
        assert_eq!(
            verify(&authorizer, &with_id(id, b"")),
            Err(Rejection::NoKeyWithId),
            "{id:?}"
        );
    }
    let unnamed = JwtAuthorizer::new(hs256());
    assert!(verify(&unnamed, &with_id("anything", SECRET)).is_ok());
}

#[test]
fn the_same_key_id_at_two_issuers_is_two_keys() {
    let other = b"another secret of more than 32 bytes";
    let authorizer = JwtAuthorizer::new(hs256().with_id("1").with_issuer("https://a.example"))
        .with_key(
            JwtKey::hs256(other)
                .unwrap()
                .with_id("1")
                .with_issuer("https://b.example"),
        );
    let from = |issuer: &str, secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("1".to_owned());
        sign(
            &header,
            &merged(json!({ "iss": issuer })),
            &EncodingKey::from_secret(secret),
        )
    };
    assert!(verify(&authorizer, &from("https://a.example", SECRET)).is_ok());
    assert!(verify(&authorizer, &from("https://b.example", other)).is_ok());
    let wrong = Err(Rejection::WrongIssuer);
    assert_eq!(
        verify(&authorizer, &from("https://a.example", other)),
        wrong
    );
    assert_eq!(
        verify(&authorizer, &from("https://b.example", SECRET)),
        wrong
    );
    assert_eq!(
        verify(&authorizer, &from("https://c.example", SECRET)),
        wrong
    );
}

#[test]
fn headers_are_read_strictly() {
    let authorizer = JwtAuthorizer::new(hs256());
    let claims = claims().to_string();
    let accepted = [
        r#"{"alg":"HS256"}"#,
        r#"{"typ":"jwt","alg":"HS256","x":1}"#,
        r#"{"typ":"at+jwt","alg":"HS256","kid":null}"#,
        // Keys and addresses that a token brings along are not looked at.
        r#"{"alg":"HS256","jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/","jwk":{"kty":"oct","k":"AA"}}"#,
    ];
    for head in accepted {
        assert!(
            verify(&authorizer, &hs_text(head, &claims)).is_ok(),
            "{head}"
        );
    }
    let refused = [
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","typ":"logout+jwt"}"#,
        r#"{"alg":"HS256","typ":"JWE"}"#,
        r#"{"alg":"HS256","typ":7}"#,
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"alg":"HS256","kid":["2024"]}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":null}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"HS256"} "#,
        r#"["HS256"]"#,
        "",
        "HS256",
    ];
    for head in refused {
        let answer = verify(&authorizer, &hs_text(head, &claims));
        // Trailing blanks are still one JSON value.
        assert_eq!(answer.is_ok(), head.ends_with(' '), "{head}: {answer:?}");
    }
    let access_only = JwtAuthorizer::new(hs256()).with_type("at+jwt");
    let typed = |head| verify(&access_only, &hs_text(head, &claims));
    assert!(typed(r#"{"alg":"HS256","typ":"AT+JWT"}"#).is_ok());
    assert_eq!(
        typed(r#"{"alg":"HS256","typ":"JWT"}"#),
        Err(Rejection::WrongType)
    );
    assert_eq!(typed(r#"{"alg":"HS256"}"#), Err(Rejection::WrongType));
}

#[test]
fn an_end_is_required_and_has_to_be_a_number() {
    let authorizer = JwtAuthorizer::new(hs256());
    let with_exp = |exp: &str| {
        let claims = format!(r#"{{"sub":"ann","exp":{exp}}}"#);
        verify(&authorizer, &hs_text(r#"{"alg":"HS256"}"#, &claims))
    };
    assert!(with_exp("1700000060").is_ok());
    assert!(with_exp("253402300799").is_ok());
    // RFC 7519, 2: NumericDate is any JSON number, with a fraction or not.
    for (exp, ends_ms) in [
        ("1700000060.0", 1_700_000_060_000),
        ("1700000060.5", 1_700_000_060_500),
        ("1.70000006e9", 1_700_000_060_000),
        ("1.7000000605E+9", 1_700_000_060_500),
        ("1700000060.123456789", 1_700_000_060_123),
    ] {
        let end = with_exp(exp).unwrap().expires_at;
        let expect = UNIX_EPOCH + Duration::from_millis(ends_ms + 30_000);
        assert_eq!(end, Some(expect), "{exp}");
    }
    for exp in ["0", "0.0", "1e9"] {
        assert_eq!(with_exp(exp), Err(Rejection::Expired), "{exp}");
    }
    for exp in [
        "253402300800",
        "1700000060000",
        "1.7e12",
        "18446744073709551616",
    ] {
        assert_eq!(with_exp(exp), Err(Rejection::Milliseconds("exp")), "{exp}");
    }
    assert_eq!(with_exp("null"), Err(Rejection::Missing("exp")));
    for exp in [
        "\"1700000060\"",
        "-1",
        "-1700000060",
        "-0",
        "1e400",
        "[]",
        "[1700000060]",
        "{}",
        "true",
        "1700000060,\"exp\":1800000000",
        "1,\"exp\":1700000060",
        "1700000060,\"e\\u0078p\":1800000000",
    ] {
        let answer = with_exp(exp);
        assert!(
            matches!(
                answer,
                Err(Rejection::BadClaim(_) | Rejection::Malformed(_))
            ),
            "{exp}: {answer:?}"
        );
    }
    for claims in [r#"{"sub":"ann"}"#, r#"{"sub":"ann","EXP":1700000060}"#] {
        let token = hs_text(r#"{"alg":"HS256"}"#, claims);
        assert_eq!(verify(&authorizer, &token), Err(Rejection::Missing("exp")));
    }
}

#[test]
fn times_are_checked_with_a_leeway() {
    #[track_caller]
    fn check(extra: Value, expect: Result<(), Rejection>) {
        let answer = verify(&JwtAuthorizer::new(hs256()), &hs(&merged(extra.clone())));
        assert_eq!(answer.map(|_| ()), expect, "{extra}");
    }
    check(json!({ "exp": NOW - 29 }), Ok(()));
    check(json!({ "exp": NOW - 30 }), Err(Rejection::Expired));
    check(json!({ "exp": 1 }), Err(Rejection::Expired));
    check(json!({ "nbf": NOW + 30 }), Ok(()));
    check(json!({ "nbf": NOW + 31 }), Err(Rejection::NotYetValid));
    check(
        json!({ "nbf": "1" }),
        Err(Rejection::BadClaim("nbf".to_owned())),
    );
    check(json!({ "nbf": null }), Ok(()));
    check(json!({ "nbf": 0 }), Ok(()));
    check(json!({ "nbf": NOW as f64 + 29.5 }), Ok(()));
    check(
        json!({ "nbf": NOW as f64 + 30.5 }),
        Err(Rejection::NotYetValid),
    );
    check(json!({ "iat": "whenever" }), Ok(()));

    // Whoever is let in within the leeway is not thrown out in the same moment.
    let late = hs(&merged(json!({ "exp": NOW - 10 })));
    let identity = verify(&JwtAuthorizer::new(hs256()), &late).unwrap();
    let end = UNIX_EPOCH + Duration::from_secs(NOW + 20);
    assert_eq!(identity.expires_at, Some(end));

    let strict = JwtAuthorizer::new(hs256()).with_leeway(Duration::ZERO);
    assert_eq!(
        verify(&strict, &hs(&merged(json!({ "exp": NOW })))),
        Err(Rejection::Expired)
    );
    assert!(verify(&strict, &hs(&merged(json!({ "exp": NOW + 1 })))).is_ok());
}

#[test]
fn issuer_and_audience_are_required_where_they_are_configured() {
    let authorizer = JwtAuthorizer::new(hs256())
        .with_issuer("https://login.example.com")
        .with_audience("realtime")
        .with_audience("api");
    let check = |extra: Value| verify(&authorizer, &hs(&merged(extra))).map(|_| ());
    let good = "https://login.example.com";
    assert_eq!(check(json!({ "iss": good, "aud": "realtime" })), Ok(()));
    assert_eq!(check(json!({ "iss": good, "aud": ["x", "api"] })), Ok(()));
    assert_eq!(
        check(json!({ "aud": "realtime" })),
        Err(Rejection::WrongIssuer)
    );
    assert_eq!(
        check(json!({ "iss": null, "aud": "realtime" })),
        Err(Rejection::WrongIssuer)
    );
    for issuer in [
        "https://login.example.com/",
        "https://evil.io",
        "HTTPS://LOGIN.EXAMPLE.COM",
    ] {
        let answer = check(json!({ "iss": issuer, "aud": "realtime" }));
        assert_eq!(answer, Err(Rejection::WrongIssuer), "{issuer}");
    }
    for issuer in [json!([good]), json!(7), json!({})] {
        let answer = check(json!({ "iss": issuer, "aud": "realtime" }));
        assert_eq!(answer, Err(Rejection::BadClaim("iss".to_owned())));
    }
    let wrong = Err(Rejection::WrongAudience);
    assert_eq!(check(json!({ "iss": good })), wrong);
    assert_eq!(check(json!({ "iss": good, "aud": [] })), wrong);
    assert_eq!(check(json!({ "iss": good, "aud": "real" })), wrong);
    let bad = Err(Rejection::BadClaim("aud".to_owned()));
    assert_eq!(check(json!({ "iss": good, "aud": [7] })), bad);
    assert_eq!(
        check(json!({ "iss": good, "aud": { "a": "realtime" } })),
        bad
    );

    let token = hs(&merged(json!({ "aud": "somebody else" })));
    assert_eq!(
        verify(&JwtAuthorizer::new(hs256()), &token),
        Err(Rejection::UnexpectedAudience)
    );
}

#[test]
fn the_user_comes_from_a_configurable_claim() {
    let user = |authorizer: &JwtAuthorizer, extra: Value| {
        let identity = verify(authorizer, &hs(&merged(extra)))?;
        Ok::<_, Rejection>(identity.user.as_str().to_owned())
    };
    let plain = JwtAuthorizer::new(hs256());
    assert_eq!(
        user(&plain, json!({ "sub": "auth0|7" })),
        Ok("auth0|7".to_owned())
    );
    assert_eq!(user(&plain, json!({ "sub": 42 })), Ok("42".to_owned()));
    assert_eq!(
        user(&plain, json!({ "sub": null })),
        Err(Rejection::NoUser("sub".to_owned()))
    );
    assert_eq!(
        user(&plain, json!({ "sub": "" })),
        Err(Rejection::NoUser("sub".to_owned()))
    );
    assert_eq!(
        user(&plain, json!({ "sub": "a\nb" })),
        Err(Rejection::NoUser("sub".to_owned()))
    );
    assert_eq!(
        user(&plain, json!({ "sub": "x".repeat(129) })),
        Err(Rejection::NoUser("sub".to_owned()))
    );
    for sub in [
        json!(4.5),
        json!(["ann"]),
        json!({ "id": "ann" }),
        json!(true),
    ] {
        assert_eq!(
            user(&plain, json!({ "sub": sub })),
            Err(Rejection::BadClaim("sub".to_owned()))
        );
    }
    let configured = JwtAuthorizer::new(hs256())
        .with_user_claim("uid")
        .with_info_claim("profile");
    assert_eq!(user(&configured, json!({ "uid": 7 })), Ok("7".to_owned()));
    assert_eq!(
        user(&configured, json!({})),
        Err(Rejection::NoUser("uid".to_owned()))
    );
    let token = hs(&merged(json!({ "uid": "u", "info": 1, "profile": 2 })));
    assert_eq!(
        verify(&configured, &token).unwrap().info.unwrap().as_str(),
        "2"
    );
}

#[test]
fn text_that_is_no_token_is_refused() {
    let authorizer = JwtAuthorizer::new(hs256());
    let valid = hs(&claims());
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "ä.ö.ü",
        &format!("{valid}."),
        &format!("{valid}.x"),
        &format!(" {valid}"),
        &format!("{valid}\n"),
        &format!("{valid}="),
        &valid.replace('.', ".."),
        &"a".repeat(TOKEN_BYTES_MAX + 1),
        &hs_text(r#"{"alg":"HS256"}"#, "[]"),
        &hs_text(r#"{"alg":"HS256"}"#, "\"x\""),
        &hs_text(r#"{"alg":"HS256"}"#, r#"{"sub":"ann","exp":1700000060}x"#),
        &hs_text(
            r#"{"alg":"HS256"}"#,
            r#"{"sub":"ann","sub":"bob","exp":1700000060}"#,
        ),
    ] {
        let answer = verify(&authorizer, token);
        assert!(
            matches!(answer, Err(Rejection::Malformed(_))),
            "{token}: {answer:?}"
        );
    }
    for at in [0, valid.len() / 2, valid.len() - 1] {
        let mut altered = valid.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        assert!(verify(&authorizer, std::str::from_utf8(&altered).unwrap()).is_err());
    }
}

#[tokio::test]
async fn the_log_says_why_and_never_shows_the_token() {
    let (log, _guard) = crate::refusal_log::captured(tracing::Level::INFO);
    let valid = hs(&json!({ "sub": "ann", "exp": clock::unix_ms() / 1_000 + 60 }));
    let hs512 = sign(
        &Header::new(Algorithm::HS512),
        &claims(),
        &EncodingKey::from_secret(SECRET),
    );
    let rows = [
        (hs(&json!({ "sub": "ann" })), "the claim exp is missing"),
        (
            hs(&json!({ "sub": "ann", "exp": 4_000_000_000_u64, "aud": "api" })),
            "the claim aud, and no audience is configured",
        ),
        (hs512, "signed with HS512"),
        (
            hs(&json!({ "sub": "ann", "exp": 1_700_000_060_000_u64 })),
            "seconds, not milliseconds",
        ),
        (format!("Bearer {valid}"), "begins with \"Bearer \""),
        (format!("{valid}\n"), "ends with a line break"),
        (format!(" {valid}"), "white space around it"),
        (format!("\"{valid}\""), "quotation marks around it"),
        (String::new(), "it is empty"),
        (hs(&json!({ "sub": "ann", "exp": 1 })), "has expired"),
        (
            hs(&json!({ "exp": 4_000_000_000_u64 })),
            "the claim sub is missing",
        ),
        (valid.replacen('.', ".e30", 1), "the signature does not fit"),
    ];
    for (token, says) in rows {
        let authorizer = JwtAuthorizer::new(hs256());
        let token = Token::new(token);
        let credentials = Credentials::new(None, Some(&token), None);
        for _ in 0..100 {
            let refused = authorizer.connect(&credentials).await;
            assert!(matches!(refused, Err(Denied::Refused { .. })), "{says}");
        }
        let said = log.taken();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(says), "{says:?} in {said:?}");
        let parts = token.expose().split(['.', ' ']).map(str::trim);
        for part in parts.filter(|part| part.len() > 8) {
            assert!(!said.contains(part), "{said}");
        }
    }
}

#[test]
fn unfit_keys_are_refused() {
    let weak = include_str!("keys/weak-rsa.pub.pem");
    let rsa = JwtKeyError::NotAKey { algorithm: "RS256" };
    let ec = JwtKeyError::NotAKey { algorithm: "ES256" };
    let ed = JwtKeyError::NotAKey { algorithm: "EdDSA" };
    let short = JwtKeyError::WeakSecret {
        bytes: 31,
        bytes_min: 32,
    };
    assert_eq!(JwtKey::hs256(&SECRET[1..]).unwrap_err(), short);
    assert!(JwtKey::hs256(" ".repeat(64)).is_err(), "blank");
    let bits = JwtKeyError::WeakRsa {
        bits: 1024,
        bits_min: 2048,
    };
    assert_eq!(JwtKey::rs256_pem(weak).unwrap_err(), bits);
    for text in ["", "no pem", RSA, EC_PUBLIC, ED_PUBLIC] {
        assert_eq!(JwtKey::rs256_pem(text).unwrap_err(), rsa, "{text}");
    }
    for text in [
        "",
        RSA_PUBLIC,
        EC,
        ED_PUBLIC,
        include_str!("keys/ec384.pub.pem"),
    ] {
        assert_eq!(JwtKey::es256_pem(text).unwrap_err(), ec, "{text}");
    }
    for text in ["", RSA_PUBLIC, EC_PUBLIC, ED] {
        assert_eq!(JwtKey::eddsa_pem(text).unwrap_err(), ed, "{text}");
    }
}

#[tokio::test]
async fn the_token_comes_from_a_message_or_a_header() {
    let authorizer = JwtAuthorizer::new(hs256());
    let fresh = |user: &str| hs(&json!({ "sub": user, "exp": clock::unix_ms() / 1_000 + 60 }));
    let request = |header: Option<&str>| {
        let builder = http::Request::builder();
        let builder = header.into_iter().fold(builder, |builder, value| {
            builder.header("authorization", value)
        });
        builder.body(()).unwrap().into_parts().0
    };
    let connect = async |request: Option<&http::request::Parts>, token: Option<&str>| {
        let token = token.map(Token::new);
        let credentials = Credentials::new(request, token.as_ref(), None);
        let identity = authorizer.connect(&credentials).await?;
        Ok::<_, Denied>(identity.user.as_str().to_owned())
    };
    let ann = request(Some(&format!("bearer  {}", fresh("ann"))));
    assert_eq!(
        connect(None, Some(&fresh("ann"))).await,
        Ok("ann".to_owned())
    );
    assert_eq!(connect(Some(&ann), None).await, Ok("ann".to_owned()));
    assert_eq!(
        connect(Some(&ann), Some(&fresh("bob"))).await,
        Ok("bob".to_owned())
    );
    assert_eq!(connect(None, None).await, Err(Denied::NoCredentials));
    assert_eq!(
        connect(Some(&request(None)), None).await,
        Err(Denied::NoCredentials)
    );
    for header in ["Basic YTpi", "Bearer", "Bearer ", "Bearerabc"] {
        let answer = connect(Some(&request(Some(header))), None).await;
        assert_eq!(answer, Err(Denied::NoCredentials), "{header}");
    }
    let answer = connect(Some(&request(Some("Bearer nonsense"))), None).await;
    assert_eq!(answer, Err(Denied::refused("the token is not valid")));
    let old = hs(&json!({ "sub": "ann", "exp": 1 }));
    assert_eq!(
        connect(None, Some(&old)).await,
        Err(Denied::refused("the token has expired"))
    );
    assert!(!authorizer.reads_cookies());
}

#[test]
fn secrets_stay_out_of_debug() {
    let authorizer = JwtAuthorizer::new(hs256().with_id("2024"));
    let printed = format!("{authorizer:?} {:?}", Token::new("topsecret"));
    assert!(!printed.contains("0123456789abcdef"), "{printed}");
    assert!(!printed.contains("topsecret"), "{printed}");
    assert!(printed.contains("2024"), "{printed}");
}
