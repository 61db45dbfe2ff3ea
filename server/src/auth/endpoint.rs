//! The auth endpoint: a page asks over HTTP, with its session or token, for permission to subscribe one connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRequest as _, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Form, Router};
use fanfare_protocol::{ChannelKind, ChannelName, Code, SocketId};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY,
    WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use self::list::List;
use super::member::{encode_member, member_of};
use super::origin::OriginGate;
use super::{
    Authorizer, Caller, ChannelTokens, Credentials, Denied, Grant, Lasts, Token, TokenClaims,
};
use crate::clock;
use crate::rules::ChannelRules;
use crate::transport::accept::ConnectionPermit;
use crate::transport::error_body;

mod list;

/// What the endpoint works with.
#[derive(Clone)]
pub(crate) struct AuthEndpoint {
    /// Where it is mounted, such as `/ws/auth`.
    pub(crate) path: Arc<str>,
    /// Says who the caller is and what it may; guarded, so it answers in time.
    pub(crate) authorizer: Arc<dyn Authorizer>,
    /// Signs the permissions.
    pub(crate) tokens: Arc<ChannelTokens>,
    /// Which websites may ask.
    pub(crate) origins: Arc<OriginGate>,
    /// Which channels have members.
    pub(crate) rules: Arc<ChannelRules>,
}

/// The route of the endpoint: `POST`, and `OPTIONS` for pages of other origins.
pub(crate) fn router(endpoint: AuthEndpoint) -> Router {
    let path = endpoint.path.clone();
    Router::new()
        .route(&path, post(permit).options(preflight))
        .with_state(endpoint)
}

async fn permit(State(endpoint): State<AuthEndpoint>, request: Request) -> Response {
    let (mut response, reader) = match endpoint.origins.admit(request.headers()) {
        Ok(reader) => (endpoint.respond(request).await, reader),
        Err(refused) => {
            let refusal = Refusal::forbidden(refused.to_string());
            (refusal.into_response(), None)
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    share(headers, reader);
    response
}

/// Tells a browser that a page of another origin may ask (Fetch, CORS-preflight request).
async fn preflight(State(endpoint): State<AuthEndpoint>, request: Request) -> Response {
    let (mut response, reader) = match endpoint.origins.admit(request.headers()) {
        Ok(reader) => (StatusCode::NO_CONTENT.into_response(), reader),
        Err(_) => (StatusCode::FORBIDDEN.into_response(), None),
    };
    let headers = response.headers_mut();
    if reader.is_some() {
        let methods = HeaderValue::from_static("POST");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
        if let Some(wanted) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
    }
    share(headers, reader);
    response
}

impl AuthEndpoint {
    async fn respond(&self, request: Request) -> Response {
        match self.answer(request).await {
            Ok(answer) => axum::Json(answer).into_response(),
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn answer(&self, request: Request) -> Result<Answer, Refusal> {
        let (parts, body) = request.into_parts();
        let question = Question::read(&parts.headers, body).await?;
        // What is signed below says when it was asked: a user who is disconnected while the authorizer judges must not come
        // away with a token that looks younger than that.
        let asked_at = clock::now();
        let caller = self.caller(&parts, question.socket).await?;
        Ok(match question.asked {
            Asked::One(channel) => Answer::One(self.judge(&caller, &channel, asked_at).await?),
            Asked::Several(list) => Answer::Several(self.judge_all(&caller, list, asked_at).await),
        })
    }

    /// Judges one channel.
    async fn judge(
        &self,
        caller: &Caller,
        channel: &ChannelName,
        asked_at: SystemTime,
    ) -> Result<Permission, Refusal> {
        if channel.kind() == ChannelKind::Personal {
            return Err(Refusal::forbidden(
                "the server alone joins personal channels",
            ));
        }
        let grant = self.authorizer.subscribe(caller, channel).await;
        self.permission(
            caller,
            channel,
            &grant.map_err(Refusal::of_channel)?,
            asked_at,
        )
    }

    async fn caller(&self, parts: &Parts, socket: SocketId) -> Result<Caller, Refusal> {
        let token = Token::of_headers(&parts.headers);
        let remote = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let remote = remote.map(|ConnectInfo(address)| *address);
        let address = ConnectionPermit::address_of(&parts.extensions);
        let credentials = Credentials::new(Some(parts), token.as_ref(), remote);
        let credentials = credentials.at_address(address);
        let identity = match self.authorizer.connect(&credentials).await {
            Ok(identity) => Some(identity),
            Err(Denied::NoCredentials) => None,
            Err(denied) => return Err(Refusal::of_caller(denied)),
        };
        Ok(Caller::new(socket, identity).at_address(address))
    }

    fn permission(
        &self,
        caller: &Caller,
        channel: &ChannelName,
        grant: &Grant,
        asked_at: SystemTime,
    ) -> Result<Permission, Refusal> {
        let channel_data = if self.rules.has_presence(channel) {
            let identity = caller.identity.as_ref();
            let identity = identity.ok_or_else(|| Refusal::of_caller(Denied::NoCredentials))?;
            let encoded = member_of(identity, grant).and_then(|member| encode_member(&member));
            Some(encoded.map_err(|error| {
                tracing::warn!(channel = channel.as_str(), %error, "member cannot be shown");
                Refusal::forbidden("the member's info is not valid")
            })?)
        } else {
            None
        };
        let user = caller.identity.as_ref().map(|identity| &identity.user);
        let claims = TokenClaims::new(caller.socket, channel)
            .with_user(user)
            .with_channel_data(channel_data.as_deref());
        let identity = caller.identity.as_ref();
        let lasts = Lasts::default()
            .with_until(grant.expires_at)
            .with_session_until(identity.and_then(|identity| identity.expires_at));
        let auth = self.tokens.sign(&claims, lasts, asked_at);
        Ok(Permission { auth, channel_data })
    }
}

/// The body of an answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    One(Permission),
    Several(list::Answers),
}

/// A permission for one channel.
#[derive(Debug, Serialize)]
struct Permission {
    auth: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_data: Option<String>,
}

/// A checked question.
struct Question {
    socket: SocketId,
    asked: Asked,
}

/// What a question is about.
enum Asked {
    One(ChannelName),
    Several(List),
}

/// The body of a question, in JSON or as a form, with the names that other clients use.
#[derive(Deserialize)]
struct WireQuestion {
    #[serde(alias = "socketId")]
    socket_id: String,
    #[serde(alias = "channel_name")]
    channel: Option<String>,
    channels: Option<Vec<String>>,
}

impl Question {
    async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Refusal> {
        let media_type = headers
            .get(CONTENT_TYPE)
            // Its parameters are of no interest, in whatever encoding they are.
            .and_then(|value| value.as_bytes().split(|&byte| byte == b';').next())
            .map(|essence| essence.trim_ascii().to_ascii_lowercase());
        let wire = match media_type.as_deref() {
            Some(b"application/json") => {
                let bytes = read_body(body).await?;
                serde_json::from_slice::<WireQuestion>(&bytes)
                    .map_err(|error| Refusal::bad(error.to_string()))?
            }
            Some(b"application/x-www-form-urlencoded") => {
                parse_form(read_body(body).await?).await?
            }
            _ => {
                return Err(Refusal::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    Code::BAD_MESSAGE,
                    "send JSON (application/json) or a form (application/x-www-form-urlencoded)",
                ));
            }
        };
        let socket = wire.socket_id.parse();
        let asked = match (wire.channels, wire.channel) {
            (Some(names), _) => Asked::Several(List::new(names)?),
            (None, Some(name)) => {
                let channel = ChannelName::new(&name);
                Asked::One(channel.map_err(|error| Refusal::bad_channel(error.to_string()))?)
            }
            (None, None) => return Err(Refusal::bad("missing field `channel`")),
        };
        Ok(Self {
            socket: socket
                .map_err(|error: fanfare_protocol::NameError| Refusal::bad(error.to_string()))?,
            asked,
        })
    }
}

async fn read_body(body: Body) -> Result<Bytes, Refusal> {
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX);
    match tokio::time::timeout(BODY_DEADLINE, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::PAYLOAD_TOO_LARGE,
            format!("the body has at most {BODY_BYTES_MAX} bytes"),
        )),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            Code::BAD_MESSAGE,
            "the body did not arrive in time",
        )),
    }
}

async fn parse_form(bytes: Bytes) -> Result<WireQuestion, Refusal> {
    let mut form = Request::new(Body::from(bytes));
    *form.method_mut() = http::Method::POST;
    form.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    let parsed = Form::<WireQuestion>::from_request(form, &()).await;
    parsed
        .map(|Form(question)| question)
        .map_err(|rejection| Refusal::bad(rejection.body_text()))
}

/// An answer that is not a permission.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: Code,
    error: String,
}

impl Refusal {
    fn new(status: StatusCode, code: Code, error: impl Into<String>) -> Self {
        Self {
            status,
            code,
            error: error.into(),
        }
    }

    fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::BAD_MESSAGE, error)
    }

    fn bad_channel(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::BAD_CHANNEL, error)
    }

    fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Code::FORBIDDEN, error)
    }

    /// An authorizer's answer about the caller.
    fn of_caller(denied: Denied) -> Self {
        match denied {
            Denied::Refused { reason } => {
                Self::new(StatusCode::UNAUTHORIZED, Code::CREDENTIALS_REFUSED, reason)
            }
            other => Self::of_channel(other),
        }
    }

    /// An authorizer's answer about a channel.
    fn of_channel(denied: Denied) -> Self {
        match denied {
            Denied::NoCredentials => Self::new(
                StatusCode::UNAUTHORIZED,
                Code::NOT_AUTHENTICATED,
                denied.to_string(),
            ),
            Denied::Refused { reason } => Self::forbidden(reason),
            Denied::Unavailable { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::UNAVAILABLE,
                Code::UNAVAILABLE.text(),
            ),
        }
    }

    fn into_response(self) -> Response {
        let mut response = error_body(self.status, self.code, &self.error);
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// Lets a page of an admitted origin read the answer (Fetch, CORS protocol).
///
/// Clients ask with credentials, as they connect with them, and then `*` is no answer: the origin is named.
fn share(headers: &mut HeaderMap, reader: Option<HeaderValue>) {
    headers.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = reader else { return };
    let yes = HeaderValue::from_static("true");
    let exposed = HeaderValue::from_static("Retry-After");
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

/// 10 minutes: the requests that follow are judged all the same.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("600");
/// 24 KiB: a socket id, a hundred channel names of the greatest length and their JSON.
const BODY_BYTES_MAX: usize = 24 * 1_024;
/// As long as a request's head may take.
const BODY_DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
