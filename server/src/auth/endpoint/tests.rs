use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use fanfare_protocol::{RawJson, UserId};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::super::guarded::Guarded;
use super::super::member::parse_member;
use super::super::{
    CookieAuthorizer, Identity, JwtAuthorizer, JwtKey, Origins, Policy, RequestAuthorizer, first_of,
};
use super::*;
use crate::config::Limits;
use crate::rules::ChannelRule;

const SOCKET: &str = "00000000000000000000000000001234";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const APP: &str = "https://app.example.com";

/// Sessions `ann`, `bob` and `fat`; a store that is down for `down`; users may subscribe `private-user.<themselves>` and anything
/// that starts with `presence-`, everybody may subscribe public channels.
fn authorizer() -> Policy {
    let cookie = CookieAuthorizer::new("sid", |value: String| async move {
        let identity = |name: &str| Identity::new(UserId::new(name).unwrap());
        let info = |text: &str| RawJson::trusted(text);
        match value.as_str() {
            "ann" => Ok(Some(identity("ann").with_info(info(r#"{"name":"Ann"}"#)))),
            "bob" => Ok(Some(identity("bob"))),
            "fat" => Ok(Some(identity("fat").with_info(info(&"7".repeat(2_000))))),
            "down" => Err(Denied::unavailable("password of the store: hunter2")),
            "slow" => std::future::pending().await,
            _ => Ok(None),
        }
    });
    Policy::over(cookie).with_subscribe(|caller, channel| async move {
        let grant = Grant::default().expiring_at(UNIX_EPOCH + Duration::from_secs(4_000_000_000));
        match channel.kind() {
            ChannelKind::Public => Ok(Grant::default()),
            ChannelKind::Presence => Ok(grant),
            _ if channel.without_prefix() == format!("user.{}", caller.user()?) => Ok(grant),
            _ => Err(Denied::refused("access denied")),
        }
    })
}

fn endpoint(authorizer: impl Authorizer + 'static) -> AuthEndpoint {
    let rules = ChannelRules::new()
        .with(
            "presence-quiet",
            ChannelRule::default().with_presence(false),
        )
        .with("lobby", ChannelRule::default().with_presence(true));
    let authorizer: Arc<dyn Authorizer> =
        Arc::new(Guarded::new(Arc::new(authorizer), &Limits::default()));
    let origins = OriginGate::new(Origins::list([APP]).unwrap(), Arc::clone(&authorizer));
    AuthEndpoint {
        path: "/ws/auth".into(),
        authorizer,
        tokens: Arc::new(ChannelTokens::new(SECRET).unwrap()),
        origins: Arc::new(origins),
        rules: Arc::new(rules),
    }
}

fn with_origins(origins: Origins, endpoint: AuthEndpoint) -> AuthEndpoint {
    let gate = OriginGate::new(origins, Arc::clone(&endpoint.authorizer));
    AuthEndpoint {
        origins: Arc::new(gate),
        ..endpoint
    }
}

/// Who is asked, the headers it is asked with, and whether it permits.
type Row<'a> = (&'a AuthEndpoint, &'a [(&'a str, &'a str)], bool);

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

async fn send(endpoint: &AuthEndpoint, request: http::Request<Body>) -> Answer {
    let response = router(endpoint.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}

fn post_json(headers: &[(&str, &str)], body: &Value) -> http::Request<Body> {
    post_text("application/json", headers, &body.to_string())
}

fn post_text(media_type: &str, headers: &[(&str, &str)], body: &str) -> http::Request<Body> {
    let builder = http::Request::post("/ws/auth").header("content-type", media_type);
    let builder = headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(*name, *value)
    });
    builder.body(Body::from(body.to_owned())).unwrap()
}

fn ask(channel: &str) -> Value {
    json!({ "socket_id": SOCKET, "channel": channel })
}

/// Asks as a page of the listed origin whose visitor has this session.
async fn ask_as(session: &str, channel: &str) -> Answer {
    let cookie = format!("sid={session}");
    let headers = [("origin", APP), ("cookie", cookie.as_str())];
    send(&endpoint(authorizer()), post_json(&headers, &ask(channel))).await
}

fn verify(auth: &str, channel: &str, channel_data: Option<&str>) -> Option<UserId> {
    let channel = ChannelName::new(channel).unwrap();
    let claims =
        TokenClaims::new(SOCKET.parse().unwrap(), &channel).with_channel_data(channel_data);
    let tokens = ChannelTokens::new(SECRET).unwrap();
    tokens.verify(auth, &claims, clock::now()).unwrap().user
}

#[tokio::test]
async fn a_private_channel_is_permitted_to_its_user() {
    let answer = ask_as("ann", "private-user.ann").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.body.get("channel_data"), None);
    let auth = answer.body["auth"].as_str().unwrap();
    assert_eq!(
        verify(auth, "private-user.ann", None),
        Some(UserId::new("ann").unwrap())
    );

    let channel = ChannelName::new("private-user.ann").unwrap();
    let claims = TokenClaims::new(SOCKET.parse().unwrap(), &channel);
    let tokens = ChannelTokens::new(SECRET).unwrap();
    let verified = tokens.verify(auth, &claims, clock::now()).unwrap();
    let end = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    assert_eq!(verified.until, Some(end));
}

#[tokio::test]
async fn a_presence_channel_gets_signed_member_data() {
    for (session, channel, info) in [
        ("ann", "presence-chat.1", r#"{"name":"Ann"}"#),
        ("bob", "lobby", "{}"),
    ] {
        let answer = ask_as(session, channel).await;
        assert_eq!(answer.status, 200);
        let data = answer.body["channel_data"].as_str().unwrap();
        let member = parse_member(data).unwrap();
        assert_eq!(member.id.as_str(), session);
        assert_eq!(member.info.as_str(), info);
        verify(answer.body["auth"].as_str().unwrap(), channel, Some(data));
    }
    let quiet = ask_as("ann", "presence-quiet").await;
    assert_eq!(quiet.status, 200);
    assert_eq!(quiet.body.get("channel_data"), None);
}

#[tokio::test]
async fn refusals_say_why_in_one_sentence() {
    let rows = [
        ("bob", "private-user.ann", 403, 4302, "access denied"),
        (
            "old",
            "private-user.ann",
            401,
            4003,
            "the session is unknown or has ended",
        ),
        ("", "private-user.ann", 401, 4301, "authentication required"),
        ("", "presence-chat.1", 401, 4301, "authentication required"),
        (
            "ann",
            "user:ann",
            403,
            4302,
            "the server alone joins personal channels",
        ),
        (
            "fat",
            "presence-chat.1",
            403,
            4302,
            "the member's info is not valid",
        ),
        (
            "down",
            "private-user.ann",
            503,
            4315,
            "temporarily unavailable, try again",
        ),
    ];
    for (session, channel, status, code, error) in rows {
        let answer = ask_as(session, channel).await;
        assert_eq!(answer.status, status, "{session} {channel}");
        assert_eq!(
            answer.body,
            json!({ "error": error, "code": code }),
            "{session} {channel}"
        );
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(
            answer.headers.contains_key("www-authenticate"),
            status == 401
        );
        assert_eq!(answer.headers.contains_key("retry-after"), status == 503);
    }
    let anonymous = ask_as("", "orders").await;
    assert_eq!(anonymous.status, 200);
    assert_eq!(
        verify(anonymous.body["auth"].as_str().unwrap(), "orders", None),
        None
    );
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_without_an_answer_means_not_now() {
    assert_eq!(ask_as("slow", "private-user.ann").await.status, 503);
}

#[tokio::test]
async fn names_of_other_clients_and_forms_are_understood() {
    let endpoint = endpoint(authorizer());
    let headers = [("origin", APP), ("cookie", "sid=ann")];
    for body in [
        json!({ "socketId": SOCKET, "channel": "private-user.ann" }),
        json!({ "socket_id": SOCKET, "channel_name": "private-user.ann", "other": 1 }),
    ] {
        assert_eq!(
            send(&endpoint, post_json(&headers, &body)).await.status,
            200,
            "{body}"
        );
    }
    for form in [
        format!("socket_id={SOCKET}&channel_name=private-user.ann"),
        format!("channel=private%2Duser.ann&socketId={SOCKET}&x=1"),
    ] {
        let media_type = "application/x-www-form-urlencoded; charset=UTF-8";
        let answer = send(&endpoint, post_text(media_type, &headers, &form)).await;
        assert_eq!(answer.status, 200, "{form}");
        verify(
            answer.body["auth"].as_str().unwrap(),
            "private-user.ann",
            None,
        );
    }
}

#[tokio::test]
async fn bad_input_is_named() {
    let endpoint = endpoint(authorizer());
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    let socket = SOCKET;
    let rows = [
        (json, String::new(), 400),
        (json, "[]".to_owned(), 400),
        (json, "{}".to_owned(), 400),
        (json, format!(r#"{{"socket_id":"{socket}"}}"#), 400),
        (
            json,
            format!(r#"{{"socket_id":"{socket}","socketId":"{socket}","channel":"a"}}"#),
            400,
        ),
        (
            json,
            format!(r#"{{"socket_id":"{socket}","channel":7}}"#),
            400,
        ),
        (
            json,
            format!(r#"{{"socket_id":"{socket}","channel":"a b"}}"#),
            400,
        ),
        (
            json,
            format!(r#"{{"socket_id":"{socket}","channel":"private-\u0430"}}"#),
            400,
        ),
        (
            json,
            r#"{"socket_id":"1234.5678:private-other","channel":"private-a"}"#.to_owned(),
            400,
        ),
        (
            json,
            format!(r#"{{"socket_id":"{socket}\n","channel":"private-a"}}"#),
            400,
        ),
        (
            json,
            format!(r#"{{"socket_id":"{socket}","channel":"a"}} x"#),
            400,
        ),
        (form, format!("socket_id={socket}"), 400),
        (form, format!("socket_id={socket}&channel=a%20b"), 400),
        (form, "%ff=%fe".to_owned(), 400),
        ("text/plain", ask("orders").to_string(), 415),
        (
            "multipart/form-data; boundary=x",
            ask("orders").to_string(),
            415,
        ),
        ("", ask("orders").to_string(), 415),
        ("application/jsonx", ask("orders").to_string(), 415),
        (json, "x".repeat(24 * 1_024 + 1), 413),
    ];
    for (media_type, body, status) in rows {
        let answer = send(&endpoint, post_text(media_type, &[], &body)).await;
        assert_eq!(answer.status, status, "{media_type} {body}");
        assert!(answer.body["error"].is_string(), "{body}");
        assert!(answer.body["code"].is_u64(), "{body}");
    }
    let get = http::Request::get("/ws/auth").body(Body::empty()).unwrap();
    assert_eq!(send(&endpoint, get).await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let endless =
        Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let request = http::Request::post("/ws/auth")
        .header("content-type", "application/json")
        .body(endless)
        .unwrap();
    assert_eq!(send(&endpoint(authorizer()), request).await.status, 408);
}

#[tokio::test]
async fn another_sites_page_gets_nothing_with_its_visitors_cookies() {
    #[track_caller]
    fn check(answer: &Answer, passes: bool, headers: &[(&str, &str)]) {
        let status = if passes { 200 } else { 403 };
        assert_eq!(answer.status, status, "{headers:?} {}", answer.body);
        assert_eq!(answer.body.get("auth").is_some(), passes, "{headers:?}");
    }
    let cookie = ("cookie", "sid=ann");
    let evil = ("origin", "https://evil.io");
    let own = ("sec-fetch-site", "same-origin");
    let listed = endpoint(authorizer());
    let by_host = with_origins(Origins::default(), endpoint(authorizer()));
    let host = ("host", "app.example.com");
    let rows: [Row<'_>; 17] = [
        (&listed, &[cookie, ("origin", APP)], true),
        (&listed, &[cookie, own], true),
        (&listed, &[cookie, ("sec-fetch-site", "none")], true),
        (&listed, &[cookie, evil], false),
        (&listed, &[cookie, evil, own], false),
        (&listed, &[cookie, ("origin", "null")], false),
        (&listed, &[cookie], false),
        (&listed, &[cookie, ("sec-fetch-site", "cross-site")], false),
        (&listed, &[cookie, ("sec-fetch-site", "same-site")], false),
        (&by_host, &[cookie, host, ("origin", APP)], true),
        (
            &by_host,
            &[cookie, ("host", "backend:8000"), ("origin", APP), own],
            true,
        ),
        (
            &by_host,
            &[cookie, ("host", "backend:8000"), ("origin", APP)],
            false,
        ),
        (&by_host, &[cookie, host, evil], false),
        (
            &by_host,
            &[cookie, host, ("sec-fetch-site", "cross-site"), evil],
            false,
        ),
        (&by_host, &[cookie, host, ("origin", "null")], false),
        (&by_host, &[cookie, host], false),
        (
            &by_host,
            &[cookie, host, ("sec-fetch-site", "same-site")],
            false,
        ),
    ];
    for (endpoint, headers, passes) in rows {
        let request = post_json(headers, &ask("private-user.ann"));
        check(&send(endpoint, request).await, passes, headers);
        let form = format!("socket_id={SOCKET}&channel_name=private-user.ann");
        let request = post_text("application/x-www-form-urlencoded", headers, &form);
        check(&send(endpoint, request).await, passes, headers);
    }
}

#[tokio::test]
async fn requests_without_cookies_need_no_origin() {
    let bearer = RequestAuthorizer::new(|request| {
        let user = Token::of_headers(&request.headers).map(|token| token.expose().to_owned());
        async move { Ok(user.map(|user| Identity::new(UserId::new(&user).unwrap()))) }
    });
    let policy = Policy::over(bearer).with_subscribe(|_, _| async { Ok(Grant::default()) });
    let endpoint = with_origins(Origins::default(), endpoint(policy));
    let headers = [
        ("authorization", "Bearer ann"),
        ("origin", "https://evil.io"),
    ];
    let answer = send(&endpoint, post_json(&headers, &ask("private-a"))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        verify(answer.body["auth"].as_str().unwrap(), "private-a", None),
        Some(UserId::new("ann").unwrap())
    );
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_the_answer() {
    let endpoint = endpoint(authorizer());
    let preflight = |origin: &str| {
        http::Request::options("/ws/auth")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-csrf")
            .body(Body::empty())
            .unwrap()
    };
    let answer = send(&endpoint, preflight(APP)).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["access-control-allow-origin"], APP);
    assert_eq!(answer.headers["access-control-allow-credentials"], "true");
    assert_eq!(answer.headers["access-control-allow-methods"], "POST");
    assert_eq!(
        answer.headers["access-control-allow-headers"],
        "content-type,x-csrf"
    );
    assert_eq!(answer.headers["vary"], "Origin");

    let answer = send(&endpoint, preflight("https://evil.io")).await;
    assert_eq!(answer.status, 403);
    assert!(
        !answer
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("access-control"))
    );

    let allowed = send(&endpoint, post_json(&[("origin", APP)], &ask("orders"))).await;
    assert_eq!(allowed.headers["access-control-allow-origin"], APP);
    let refused = send(
        &endpoint,
        post_json(&[("origin", "https://evil.io")], &ask("orders")),
    )
    .await;
    assert_eq!(refused.status, 403);
    assert!(!refused.headers.contains_key("access-control-allow-origin"));
}

/// What a browser needs to see before a page of another origin may read an answer to a request with credentials (Fetch,
/// CORS check).
#[track_caller]
fn may_read(answer: &Answer, origin: &str) {
    assert_eq!(answer.headers["access-control-allow-origin"], origin);
    assert_eq!(answer.headers["access-control-allow-credentials"], "true");
    assert_eq!(answer.headers["vary"], "Origin");
}

#[tokio::test]
async fn who_may_connect_from_another_origin_may_read_the_answer() {
    let page = "http://localhost:5173";
    let jwt = || JwtAuthorizer::new(JwtKey::hs256(SECRET).unwrap());
    let token = {
        let claims = json!({ "sub": "ann", "exp": clock::unix_ms() / 1_000 + 60 });
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let bearer = format!("Bearer {token}");
    let setups = [
        // The standalone server without a list of origins, and without keys.
        with_origins(
            Origins::default(),
            endpoint(Policy::over(super::super::PublicOnly)),
        ),
        with_origins(Origins::default(), endpoint(jwt())),
        with_origins(Origins::any(), endpoint(jwt())),
        with_origins(Origins::any(), endpoint(authorizer())),
        with_origins(Origins::default(), endpoint(authorizer())),
    ];
    for endpoint in setups {
        let asked = http::Request::options("/ws/auth")
            .header("origin", page)
            .header("host", "localhost:8000")
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,content-type",
            );
        let answer = send(&endpoint, asked.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 204);
        may_read(&answer, page);
        assert_eq!(answer.headers["access-control-allow-methods"], "POST");
        let wanted = "authorization,content-type";
        assert_eq!(answer.headers["access-control-allow-headers"], wanted);

        let headers = [
            ("origin", page),
            ("host", "localhost:8000"),
            ("authorization", &bearer),
        ];
        for channel in ["orders", "private-a"] {
            let answer = send(&endpoint, post_json(&headers, &ask(channel))).await;
            assert!([200, 401, 403].contains(&answer.status));
            // A refusal of the channel can be read as well: the client tells its page what it says.
            may_read(&answer, page);
        }
    }
    // With its visitor's cookies another page may neither act nor read.
    let by_host = with_origins(Origins::default(), endpoint(authorizer()));
    let headers = [
        ("origin", page),
        ("host", "localhost:8000"),
        ("cookie", "sid=ann"),
    ];
    let answer = send(&by_host, post_json(&headers, &ask("private-user.ann"))).await;
    assert_eq!(answer.status, 403);
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    assert_eq!(answer.headers["vary"], "Origin");
}

#[tokio::test]
async fn a_page_of_another_origin_reads_when_to_ask_again() {
    let answer = ask_as("down", "private-user.ann").await;
    assert_eq!(answer.status, 503);
    may_read(&answer, APP);
    assert_eq!(
        answer.headers["access-control-expose-headers"],
        "Retry-After"
    );
}

#[tokio::test]
async fn parameters_of_the_media_type_are_passed_over_in_any_encoding() {
    let mut request = post_json(
        &[("origin", APP), ("cookie", "sid=ann")],
        &ask("private-user.ann"),
    );
    let media_type = HeaderValue::from_bytes(b"application/json; title=Jos\xe9").unwrap();
    request.headers_mut().insert(CONTENT_TYPE, media_type);
    assert_eq!(send(&endpoint(authorizer()), request).await.status, 200);
}

#[tokio::test]
async fn the_authorizer_learns_where_the_request_came_from() {
    struct Remote;

    #[async_trait]
    impl Authorizer for Remote {
        async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
            let remote = credentials.remote.ok_or(Denied::NoCredentials)?;
            Ok(Identity::new(
                UserId::new(&remote.ip().to_string()).unwrap(),
            ))
        }
    }

    let mut request = post_json(&[], &ask("orders"));
    let address: SocketAddr = "192.0.2.7:4000".parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(address));
    let answer = send(&endpoint(Remote), request).await;
    let user = verify(answer.body["auth"].as_str().unwrap(), "orders", None);
    assert_eq!(user.unwrap().as_str(), "192.0.2.7");
}

#[tokio::test]
async fn what_a_caller_shows_and_gets_stays_out_of_the_log() {
    let (log, guard) = crate::refusal_log::captured(tracing::Level::TRACE);

    let jwt = JwtAuthorizer::new(JwtKey::hs256(SECRET).unwrap());
    let endpoint = endpoint(first_of(jwt, authorizer()));
    let mut secrets = vec![SECRET.to_owned()];
    for session in ["ann", "sess-f00d", "down", "fat"] {
        for bearer in [
            "",
            "Bearer t0k-5ecret",
            "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
        ] {
            let cookie = format!("sid={session}");
            let headers = [
                ("origin", APP),
                ("cookie", &cookie),
                ("authorization", bearer),
            ];
            let answer = send(&endpoint, post_json(&headers, &ask("presence-chat.1"))).await;
            secrets.extend(answer.body["auth"].as_str().map(str::to_owned));
        }
    }
    drop(guard);
    secrets.extend(["f00d", "5ecret", "eyJhbG", "7777777"].map(str::to_owned));
    let log = log.taken();
    assert!(log.contains("token refused"), "{log}");
    assert!(log.contains("authorizer unavailable"), "{log}");
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} in {log}");
    }
}

#[tokio::test]
async fn several_channels_are_answered_each_for_itself() {
    let names = [
        "private-user.ann",
        "private-user.bob",
        "presence-chat.1",
        "no spaces",
        "user:ann",
        "private-user.ann",
    ];
    let body = json!({ "socket_id": SOCKET, "channels": names });
    let headers = [("origin", APP), ("cookie", "sid=ann")];
    let answer = send(&endpoint(authorizer()), post_json(&headers, &body)).await;
    assert_eq!(answer.status, 200);
    let channels = answer.body["channels"].as_object().unwrap();
    assert_eq!(channels.len(), 5);
    let auth = channels["private-user.ann"]["auth"].as_str().unwrap();
    let ann = Some(UserId::new("ann").unwrap());
    assert_eq!(verify(auth, "private-user.ann", None), ann);
    let member = channels["presence-chat.1"]["channel_data"].as_str();
    let auth = channels["presence-chat.1"]["auth"].as_str().unwrap();
    assert_eq!(verify(auth, "presence-chat.1", member), ann);
    let codes = ["private-user.bob", "no spaces", "user:ann"]
        .map(|name| channels[name]["code"].as_u64().unwrap());
    assert_eq!(codes, [4302, 4304, 4302]);
    assert_eq!(channels["private-user.bob"]["error"], "access denied");
}

#[tokio::test]
async fn a_list_has_one_to_a_hundred_channels_and_its_caller_is_judged_first() {
    let ask = async |session: &str, count: usize| {
        let names: Vec<String> = (0..count).map(|at| format!("{at:0>200}")).collect();
        let body = json!({ "socket_id": SOCKET, "channels": names });
        let cookie = format!("sid={session}");
        let headers = [("origin", APP), ("cookie", cookie.as_str())];
        send(&endpoint(authorizer()), post_json(&headers, &body)).await
    };
    assert_eq!(ask("ann", 100).await.status, 200);
    for count in [0, 101] {
        let answer = ask("ann", count).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!(4300)));
    }
    assert_eq!(ask("down", 3).await.status, 503);
}
