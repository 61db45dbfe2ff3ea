//! Which pages may connect: decided before anything is upgraded (T1), and again at the auth endpoint (T9).

use fanfare_server::auth::{CookieAuthorizer, Identity, Origins};
use fanfare_server::protocol::UserId;
use fanfare_server::{Server, ServerBuilder};
use fanfare_tests::http;
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::Door;
use serde_json::json;

fn builder() -> ServerBuilder {
    let sessions = CookieAuthorizer::new("session", |_| async {
        Ok(Some(Identity::new(UserId::new("ann").unwrap())))
    });
    Server::builder().authorizer(sessions).allow_anonymous()
}

fn door(server: &TestServer, cookie: Option<&str>, origin: Option<&str>) -> Door {
    let mut door = Door::at(server.address);
    for (name, value) in [("cookie", cookie), ("origin", origin)] {
        if let Some(value) = value {
            door = door.header(name, value);
        }
    }
    door
}

/// What a handshake comes to: 101, or the refusal.
async fn handshake(server: &TestServer, cookie: Option<&str>, origin: Option<&str>) -> u16 {
    match door(server, cookie, origin).open().await {
        Ok(_) => 101,
        Err(refused) => {
            let body = refused.body().as_deref().unwrap_or_default();
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert!(body["error"].is_string() && body["code"] == 4302, "{body}");
            refused.status().as_u16()
        }
    }
}

const COOKIE: Option<&str> = Some("session=1");

#[tokio::test]
async fn with_cookies_only_the_servers_own_host_may_connect() {
    let server = TestServer::start(builder()).await;
    let own = format!("http://{}", server.address);
    let port = server.address.port();
    assert_eq!(handshake(&server, COOKIE, Some(&own)).await, 101);
    let strangers = [
        "null".to_owned(),
        "http://127.0.0.1".to_owned(),
        format!("http://127.0.0.1.evil.example:{port}"),
        format!("http://localhost:{port}"),
        format!("{own}/"),
        format!("{own}, {own}"),
        "https://evil.example".to_owned(),
    ];
    for stranger in &strangers {
        assert_eq!(
            handshake(&server, COOKIE, Some(stranger)).await,
            403,
            "{stranger}"
        );
    }
    assert_eq!(handshake(&server, COOKIE, None).await, 403);
    // Without cookies there is nothing to borrow.
    assert_eq!(
        handshake(&server, None, Some("https://evil.example")).await,
        101
    );
    assert_eq!(handshake(&server, None, None).await, 101);
    let twice = door(&server, COOKIE, Some(&own)).header("origin", &own);
    assert_eq!(twice.open().await.unwrap_err().status(), 403);
}

#[tokio::test]
async fn a_list_of_origins_is_exact() {
    let list = Origins::list(["https://app.example.com"]).unwrap();
    let server = TestServer::start(builder().origins(list)).await;
    for cookie in [COOKIE, None] {
        let listed = Some("https://app.example.com");
        assert_eq!(handshake(&server, cookie, listed).await, 101);
        for stranger in [
            "http://app.example.com",
            "https://app.example.com.evil.io",
            "https://evilapp.example.com",
            "https://app.example.com:8443",
            "https://APP.example.com",
        ] {
            assert_eq!(
                handshake(&server, cookie, Some(stranger)).await,
                403,
                "{stranger}"
            );
        }
    }
}

#[tokio::test]
async fn every_origin_may_be_allowed() {
    let server = TestServer::start(builder().origins(Origins::any())).await;
    assert_eq!(
        handshake(&server, COOKIE, Some("https://evil.example")).await,
        101
    );
}

#[tokio::test]
async fn the_auth_endpoint_asks_for_the_origin_too() {
    let server = TestServer::start(builder()).await;
    let question = json!({ "socket_id": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "channel": "orders" });
    let own = format!("http://{}", server.address);
    let rows = [
        (Some(own.as_str()), None, 200),
        (Some("https://evil.example"), None, 403),
        (Some("https://evil.example"), Some("cross-site"), 403),
        (None, None, 403),
        (None, Some("same-origin"), 200),
    ];
    for (origin, site, status) in rows {
        let mut headers = vec![("cookie", "session=1")];
        headers.extend(origin.map(|origin| ("origin", origin)));
        headers.extend(site.map(|site| ("sec-fetch-site", site)));
        let answer = http::post(server.address, "/ws/auth", &headers, &question).await;
        assert_eq!(answer.status, status, "{origin:?} {site:?}");
    }
}
