//! The WebSocket door: handshake (RFC 6455, 4.2), then the raw socket goes to a session's driver.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use fanfare_protocol::{Code, SocketId};
use http::header::{
    CONNECTION, HeaderMap, HeaderName, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use crate::auth::{Credentials, Denied, Token};
use crate::clock;
use crate::dialect::{Dialect, Negotiated};
use crate::health;
use crate::hub::{Outbox, Stream};
use crate::services::Services;
use crate::session::driver::Driver;
use crate::session::{Access, Session};
use crate::sessions::Judged;
use crate::transport::accept::{ConnectionPermit, DeadlineStream};
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
        Err(refusal) => refusal.into_response(),
    }
}

/// A handshake that may go on.
struct Handshake {
    parts: Parts,
    on_upgrade: OnUpgrade,
    accept_key: String,
    negotiated: Negotiated,
    access: Access,
    judged: Judged,
}

impl Handshake {
    async fn check(
        services: &Services,
        parts: Parts,
        on_upgrade: Option<OnUpgrade>,
    ) -> Result<Self, Refusal> {
        if services.is_stopping() {
            let text = Code::SHUTTING_DOWN.text();
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Code::SHUTTING_DOWN, text);
            return Err(refusal.with(RETRY_AFTER, "1"));
        }
        if health::is_cut_off(services) {
            let text = "this server is cut off from the others, try another one";
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Code::UNAVAILABLE, text);
            return Err(refusal.with(RETRY_AFTER, "1"));
        }
        let accept_key = accept_key(&parts)?;
        let Some(on_upgrade) = on_upgrade else {
            return Err(bad_request("this connection cannot be upgraded"));
        };
        let negotiated = Dialect::negotiate(elements(&parts.headers, &SEC_WEBSOCKET_PROTOCOL));
        let negotiated = negotiated
            .ok_or_else(|| bad_request("none of the offered subprotocols is spoken here"))?;
        if let Err(refused) = services.origins.admit(&parts.headers) {
            let text = refused.to_string();
            return Err(Refusal::new(StatusCode::FORBIDDEN, Code::FORBIDDEN, text));
        }
        let judged = services.sessions.judging();
        let access = judge(services, &parts).await?;
        Ok(Self {
            parts,
            on_upgrade,
            accept_key,
            negotiated,
            access,
            judged,
        })
    }

    fn accept(self, services: Arc<Services>) -> Response {
        let Self {
            parts,
            on_upgrade,
            accept_key,
            negotiated,
            access,
            judged,
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
        // Only who still has to show credentials is judged by the handshake again.
        let is_waiting = matches!(access, Access::Waiting { .. });
        let request = is_waiting.then(|| Arc::new(detached(&parts)));
        let permit = parts.extensions.get::<Arc<ConnectionPermit>>().cloned();
        let upgrading = Upgrading {
            on_upgrade,
            request,
            dialect: negotiated.dialect,
            address: ConnectionPermit::address_of(&parts.extensions),
            access,
            judged,
        };
        let connections = services.connections.clone();
        connections.spawn(async move {
            // Held as long as the socket: the connection counts against the caps until then.
            let _permit = permit;
            if let Some(driver) = upgrading.driver(services).await {
                driver.run().await;
            }
        });
        response
    }
}

/// A connection whose 101 response is on its way.
struct Upgrading {
    on_upgrade: OnUpgrade,
    request: Option<Arc<Parts>>,
    dialect: Dialect,
    address: Option<IpAddr>,
    access: Access,
    judged: Judged,
}

impl Upgrading {
    /// Waits for the socket and makes it a session's.
    async fn driver(self, services: Arc<Services>) -> Option<Box<Driver>> {
        let upgraded = tokio::time::timeout(UPGRADE_DEADLINE, self.on_upgrade).await;
        let Ok(Ok(upgraded)) = upgraded else {
            tracing::debug!("the peer did not take the upgrade");
            return None;
        };
        let (stream, early) = raw(upgraded, &services)
            .inspect_err(|error| tracing::warn!(%error, "the socket cannot be used"))
            .ok()?;
        let socket = SocketId::from_bits(rand::random());
        let outbox_bytes_max = services.terms.limits.outbox_bytes_max;
        let outbox = Arc::new(Outbox::new(socket, self.dialect, outbox_bytes_max, stream));
        let terms = Arc::clone(&services.terms);
        let session = Session::new(socket, terms, self.access, clock::moment());
        let session = session.at_address(self.address);
        let mut driver = Box::new(Driver::new(services, outbox, session, self.request));
        if driver.register(self.judged) && !early.is_empty() {
            driver.take_in(&early);
        }
        Some(driver)
    }
}

/// A copy that shares no memory with the connection's read buffer: header values are slices of it, and would keep all of it.
fn detached(parts: &Parts) -> Parts {
    let mut request = http::Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.version_mut() = parts.version;
    if let Ok(uri) = parts.uri.to_string().parse() {
        *request.uri_mut() = uri;
    }
    for (name, value) in &parts.headers {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            request.headers_mut().append(name.clone(), value);
        }
    }
    *request.extensions_mut() = parts.extensions.clone();
    request.into_parts().0
}

/// Takes the TCP socket back from the HTTP machinery, with what was read ahead. What is not TCP (TLS and the like) gets a
/// socket pair and a task that copies.
fn raw(upgraded: Upgraded, services: &Services) -> std::io::Result<(Stream, bytes::Bytes)> {
    let upgraded =
        match hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => return tcp(parts.io.into_inner(), &parts.read_buf),
            Err(upgraded) => upgraded,
        };
    // The session has a write deadline of its own.
    let upgraded = match upgraded.downcast::<TokioIo<DeadlineStream>>() {
        Ok(parts) => return tcp(parts.io.into_inner().into_inner(), &parts.read_buf),
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
    let (near, far) = tokio::net::UnixStream::pair()?;
    services.connections.spawn(async move {
        let (mut from_peer, mut to_peer) = tokio::io::split(TokioIo::new(upgraded));
        let (mut from_session, mut to_session) = tokio::io::split(far);
        // The session outlives neither side: whichever ends first ends the other with the pair.
        tokio::select! {
            _ = tokio::io::copy(&mut from_peer, &mut to_session) => {}
            _ = tokio::io::copy(&mut from_session, &mut to_peer) => {}
        }
        // A failure here means that the peer is gone already.
        let _ = to_peer.shutdown().await;
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
async fn judge(services: &Services, parts: &Parts) -> Result<Access, Refusal> {
    let token = Token::of_headers(&parts.headers);
    let remote = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(remote)| *remote);
    let address = ConnectionPermit::address_of(&parts.extensions);
    let credentials = Credentials::new(Some(parts), token.as_ref(), remote).at_address(address);
    match services.authorizer.connect(&credentials).await {
        Ok(identity) => {
            let ends_at = identity.expires_at.map(clock::instant_of);
            Ok(Access::Identified { identity, ends_at })
        }
        // A token that was shown on purpose and is wrong is worth an answer at once. A cookie comes along by itself: a stale
        // one does not keep anybody from showing a token next, or from being anonymous.
        Err(Denied::Refused { reason }) if token.is_some() => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            Code::CREDENTIALS_REFUSED,
            reason,
        )),
        Err(Denied::Unavailable { .. }) => Err(Refusal::new(
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

fn accept_key(parts: &Parts) -> Result<String, Refusal> {
    let has = |name: HeaderName, word: &str| {
        elements(&parts.headers, &name).any(|part| part.eq_ignore_ascii_case(word))
    };
    let upgrade_required =
        |text| Refusal::new(StatusCode::UPGRADE_REQUIRED, Code::PROTOCOL_ERROR, text);
    if parts.method != Method::GET || !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
        let refusal = upgrade_required("this address speaks WebSocket");
        return Err(refusal.with(UPGRADE, "websocket"));
    }
    if !has(SEC_WEBSOCKET_VERSION, "13") {
        let refusal = upgrade_required("WebSocket version 13 is spoken here");
        return Err(refusal.with(SEC_WEBSOCKET_VERSION, "13"));
    }
    let key = parts
        .headers
        .get(SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == 24);
    let key =
        key.ok_or_else(|| bad_request("the Sec-WebSocket-Key header is missing or not valid"))?;
    Ok(derive_accept_key(key.as_bytes()))
}

/// The elements of a header that is a list (RFC 9110, 5.6.1). One that is not text hides no other.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|part| std::str::from_utf8(part.trim_ascii()).ok())
        .filter(|part| !part.is_empty())
}

fn bad_request(text: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, Code::PROTOCOL_ERROR, text)
}

/// Why a handshake may not go on.
struct Refusal {
    status: StatusCode,
    code: Code,
    text: String,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, code: Code, text: impl Into<String>) -> Self {
        Self {
            status,
            code,
            text: text.into(),
            header: None,
        }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = error_body(self.status, self.code, &self.text);
        if let Some((name, value)) = self.header {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// 10 s: the peer only has to take the 101 response.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);
