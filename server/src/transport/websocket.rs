//! The WebSocket door: handshake (RFC 6455, 4.2), then the raw socket goes to a session's driver.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use fanfare_protocol::{Code, SocketId};
use http::header::{
    CONNECTION, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use crate::auth::{Credentials, Denied, Token};
use crate::clock;
use crate::dialect::{Dialect, Negotiated};
use crate::hub::{Outbox, Stream};
use crate::services::Services;
use crate::session::driver::Driver;
use crate::session::{Access, Session};
use crate::transport::accept::ConnectionPermit;
use crate::transport::error_body;

/// `GET {path}`: upgrades, or says why not.
pub(crate) async fn upgrade(
    State(services): State<Arc<Services>>,
    mut request: Request,
) -> Response {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, _) = request.into_parts();
    match Handshake::check(&services, parts, on_upgrade).await {
        Ok(handshake) => handshake.accept(services),
        Err(response) => response,
    }
}

/// A handshake that may go on.
struct Handshake {
    parts: Parts,
    on_upgrade: OnUpgrade,
    accept_key: String,
    negotiated: Negotiated,
    access: Access,
}

impl Handshake {
    async fn check(
        services: &Services,
        parts: Parts,
        on_upgrade: Option<OnUpgrade>,
    ) -> Result<Self, Response> {
        if services.is_stopping() {
            let response = error_body(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::SHUTTING_DOWN,
                Code::SHUTTING_DOWN.text(),
            );
            return Err(([("retry-after", "1")], response).into_response());
        }
        let accept_key = accept_key(&parts)?;
        let Some(on_upgrade) = on_upgrade else {
            return Err(bad_request("this connection cannot be upgraded"));
        };
        let offered = offered_subprotocols(&parts.headers);
        let negotiated = Dialect::negotiate(offered.iter().copied());
        let negotiated = negotiated
            .ok_or_else(|| bad_request("none of the offered subprotocols is spoken here"))?;
        let reads_cookies = services.authorizer.reads_cookies();
        if let Err(refused) = services.origins.check(&parts.headers, reads_cookies) {
            tracing::debug!(error = %refused, "handshake refused");
            return Err(error_body(
                StatusCode::FORBIDDEN,
                Code::FORBIDDEN,
                &refused.to_string(),
            ));
        }
        let access = judge(services, &parts).await?;
        Ok(Self {
            parts,
            on_upgrade,
            accept_key,
            negotiated,
            access,
        })
    }

    fn accept(self, services: Arc<Services>) -> Response {
        let Self {
            parts,
            on_upgrade,
            accept_key,
            negotiated,
            access,
        } = self;
        let mut response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, accept_key)
            .body(Body::empty())
            .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
        if negotiated.is_named {
            let name = HeaderValue::from_static(negotiated.dialect.subprotocol());
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
        }
        let connections = services.connections.clone();
        connections.spawn(run(services, on_upgrade, parts, negotiated.dialect, access));
        response
    }
}

/// Waits for the socket, then hands it to a session.
async fn run(
    services: Arc<Services>,
    on_upgrade: OnUpgrade,
    parts: Parts,
    dialect: Dialect,
    access: Access,
) {
    // Held as long as the socket: the connection counts against the caps until then.
    let _permit = parts.extensions.get::<Arc<ConnectionPermit>>().cloned();
    let upgraded = match tokio::time::timeout(UPGRADE_DEADLINE, on_upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => return tracing::debug!(%error, "the upgrade failed"),
        Err(_) => return tracing::debug!("the upgrade took too long"),
    };
    let socket = SocketId::from_bits(rand::random());
    let (stream, early) = match raw(upgraded, &services) {
        Ok(raw) => raw,
        Err(error) => return tracing::warn!(%error, "the socket cannot be used"),
    };
    let limits = &services.terms.limits;
    let outbox = Arc::new(Outbox::new(
        socket,
        dialect,
        limits.outbox_bytes_max,
        stream,
    ));
    let keeps_request = !matches!(access, Access::Identified { .. });
    let session = Session::new(socket, Arc::clone(&services.terms), access, clock::moment());
    let request = keeps_request.then(|| Arc::new(parts));
    let mut driver = Box::new(Driver::new(services, outbox, session, request));
    if !early.is_empty() {
        driver.take_in(&early);
    }
    driver.run().await;
}

/// Takes the TCP socket back from the HTTP machinery, with what was read ahead. What is not TCP (TLS and the like) gets a
/// socket pair and a task that copies.
fn raw(upgraded: Upgraded, services: &Services) -> std::io::Result<(Stream, bytes::Bytes)> {
    let upgraded =
        match hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => return tcp(parts.io.into_inner(), &parts.read_buf),
            Err(upgraded) => upgraded,
        };
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return tcp(parts.io.into_inner(), &parts.read_buf),
        Err(upgraded) => upgraded,
    };
    foreign(upgraded, services)
}

fn tcp(stream: TcpStream, early: &[u8]) -> std::io::Result<(Stream, bytes::Bytes)> {
    stream.set_nodelay(true)?;
    // A copy: the buffer it lies in is 8 KiB that would live as long as the connection.
    Ok((Stream::Tcp(stream), bytes::Bytes::copy_from_slice(early)))
}

#[cfg(unix)]
fn foreign(upgraded: Upgraded, services: &Services) -> std::io::Result<(Stream, bytes::Bytes)> {
    let (near, mut far) = tokio::net::UnixStream::pair()?;
    let mut io = TokioIo::new(upgraded);
    services.connections.spawn(async move {
        // Either side ending ends the copy, and with it the other side.
        let _ = tokio::io::copy_bidirectional(&mut io, &mut far).await;
    });
    Ok((Stream::Pair(near), bytes::Bytes::new()))
}

#[cfg(not(unix))]
fn foreign(_: Upgraded, _: &Services) -> std::io::Result<(Stream, bytes::Bytes)> {
    Err(std::io::Error::other(
        "only plain TCP connections are served on this platform",
    ))
}

/// Who the handshake shows.
async fn judge(services: &Services, parts: &Parts) -> Result<Access, Response> {
    let token = Token::of_headers(&parts.headers);
    let remote = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(remote)| *remote);
    let credentials = Credentials::new(Some(parts), token.as_ref(), remote);
    match services.authorizer.connect(&credentials).await {
        Ok(identity) => {
            let ends_at = identity.expires_at.map(clock::instant_of);
            Ok(Access::Identified { identity, ends_at })
        }
        // A token that was shown on purpose and is wrong is worth an answer at once. A cookie comes along by itself: a stale
        // one does not keep anybody from showing a token next, or from being anonymous.
        Err(Denied::Refused { reason }) if token.is_some() => Err(error_body(
            StatusCode::UNAUTHORIZED,
            Code::CREDENTIALS_REFUSED,
            &reason,
        )),
        Err(Denied::Unavailable { .. }) => Err(error_body(
            StatusCode::SERVICE_UNAVAILABLE,
            Code::UNAVAILABLE,
            Code::UNAVAILABLE.text(),
        )),
        Err(Denied::NoCredentials | Denied::Refused { .. }) if services.allows_anonymous => {
            Ok(Access::Anonymous)
        }
        Err(denied) => Ok(Access::Waiting {
            was_refused: matches!(denied, Denied::Refused { .. }),
        }),
    }
}

fn accept_key(parts: &Parts) -> Result<String, Response> {
    let has = |name: http::HeaderName, word: &str| {
        let values = parts.headers.get_all(name);
        values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| {
                value
                    .split(',')
                    .any(|part| part.trim().eq_ignore_ascii_case(word))
            })
    };
    if parts.method != Method::GET || !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
        let response = error_body(
            StatusCode::UPGRADE_REQUIRED,
            Code::PROTOCOL_ERROR,
            "this address speaks WebSocket",
        );
        return Err(([(UPGRADE, "websocket")], response).into_response());
    }
    if !has(SEC_WEBSOCKET_VERSION, "13") {
        let response = error_body(
            StatusCode::UPGRADE_REQUIRED,
            Code::PROTOCOL_ERROR,
            "WebSocket version 13 is spoken here",
        );
        return Err(([(SEC_WEBSOCKET_VERSION, "13")], response).into_response());
    }
    let key = parts
        .headers
        .get(SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == 24);
    let key =
        key.ok_or_else(|| bad_request("the Sec-WebSocket-Key header is missing or not valid"))?;
    Ok(derive_accept_key(key.as_bytes()))
}

fn offered_subprotocols(headers: &HeaderMap) -> Vec<&str> {
    let values = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect()
}

fn bad_request(text: &str) -> Response {
    error_body(StatusCode::BAD_REQUEST, Code::PROTOCOL_ERROR, text)
}

/// 10 s: the peer only has to take the 101 response.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);
