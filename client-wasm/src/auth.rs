//! Channel tokens: asked of the host, or fetched from an endpoint.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use fanfare_client::{AuthReason, ChannelAuthReply, Input};
use fanfare_protocol::{ChannelName, SocketId};
use gloo_net::http::{Request, Response};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;
use web_sys::{AbortController, AbortSignal, RequestCredentials};

use crate::bridge::{Fields, date_now, parse_json};
use crate::drain::Driver;
use crate::text::socket_text;

/// Something that JavaScript will have an answer to.
pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = T>>>;

/// A channel token that is asked for.
#[derive(Clone)]
pub(crate) struct AuthRequest {
    pub(crate) channel: ChannelName,
    pub(crate) socket_id: SocketId,
    pub(crate) reason: AuthReason,
    /// Fires when the answer is no longer wanted.
    pub(crate) signal: AbortSignal,
}

/// Where channel tokens are fetched, and with which cookies.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) credentials: RequestCredentials,
}

impl Endpoint {
    /// The address of an endpoint that nobody named: the socket's own, over HTTP, with `/auth` behind its path.
    pub(crate) fn beside(url: &str) -> String {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let scheme = if path.starts_with("ws") { "http" } else { "" };
        let rest = path.strip_prefix("ws").unwrap_or(path);
        [scheme, rest.trim_end_matches('/'), "/auth"].concat()
    }
}

/// The questions that are open, at most one per channel.
#[derive(Default)]
pub(crate) struct Questions(RefCell<Vec<Question>>);

struct Question {
    channel: ChannelName,
    abort: AbortController,
}

impl Questions {
    /// Asks, and hands the answer to the machine if it is still wanted then. The machine keeps the deadline.
    pub(crate) fn ask(
        driver: &Rc<Driver>,
        channel: ChannelName,
        socket_id: SocketId,
        reason: AuthReason,
    ) {
        driver.questions.cancel(&channel);
        let Ok(abort) = AbortController::new() else {
            return;
        };
        let signal = abort.signal();
        let request = AuthRequest {
            channel: channel.clone(),
            socket_id,
            reason,
            signal: signal.clone(),
        };
        driver.questions.0.borrow_mut().push(Question {
            channel: channel.clone(),
            abort,
        });
        let answer = match driver.host.authorize(&request) {
            Some(answer) => answer,
            None => Box::pin(fetch(
                driver.endpoint.clone(),
                driver.host.headers(),
                request,
            )),
        };
        let driver = Rc::downgrade(driver);
        spawn_local(async move {
            let reply = answer.await;
            if let Some(driver) = driver.upgrade()
                && !signal.aborted()
            {
                driver.questions.take(&channel);
                driver.handle(Input::ChannelAuth {
                    channel,
                    socket_id,
                    reply,
                });
            }
        });
    }

    /// The answer for this channel is no longer wanted.
    pub(crate) fn cancel(&self, channel: &ChannelName) {
        if let Some(question) = self.take(channel) {
            question.abort.abort();
        }
    }

    pub(crate) fn cancel_all(&self) {
        for question in self.0.take() {
            question.abort.abort();
        }
    }

    fn take(&self, channel: &ChannelName) -> Option<Question> {
        let mut questions = self.0.borrow_mut();
        let at = questions
            .iter()
            .position(|question| question.channel == *channel)?;
        Some(questions.swap_remove(at))
    }
}

/// Reads an auth result, `{auth, channel_data?}`, whoever gave it.
pub(crate) fn read_grant(result: JsValue) -> Option<ChannelAuthReply> {
    if !result.is_object() {
        return None;
    }
    let fields = Fields::from(result);
    Some(ChannelAuthReply::Granted {
        auth: fields.text("auth")?,
        channel_data: fields.text("channel_data"),
    })
}

async fn fetch(
    endpoint: Endpoint,
    headers: Answer<Result<web_sys::Headers, JsValue>>,
    request: AuthRequest,
) -> ChannelAuthReply {
    match post(endpoint, headers, request).await {
        Some(response) => read_response(&response).await,
        None => LATER,
    }
}

/// `None` when nothing was answered.
async fn post(
    endpoint: Endpoint,
    headers: Answer<Result<web_sys::Headers, JsValue>>,
    request: AuthRequest,
) -> Option<Response> {
    let headers = headers.await.ok()?;
    headers.set("content-type", "application/json").ok()?;
    // Neither a socket id nor a channel name holds a character that JSON escapes.
    let body = [
        "{\"socket_id\":\"",
        &socket_text(request.socket_id),
        "\",\"channel\":\"",
        request.channel.as_str(),
        "\"}",
    ]
    .concat();
    let init = web_sys::RequestInit::new();
    init.set_method("POST");
    init.set_headers(&headers);
    init.set_credentials(endpoint.credentials);
    init.set_signal(Some(&request.signal));
    init.set_body(&body.into());
    // Not through its builder, which takes the address apart and puts it together again.
    let request = web_sys::Request::new_with_str_and_init(&endpoint.url, &init).ok()?;
    Request::from(request).send().await.ok()
}

async fn read_response(response: &Response) -> ChannelAuthReply {
    let status = response.status();
    match status {
        200..=299 => {
            let text = response.text().await.unwrap_or_default();
            let result = parse_json(&text.into()).ok();
            result.and_then(read_grant).unwrap_or(LATER)
        }
        // Requests that came too early, too often or too slowly, and a server in trouble.
        408 | 425 | 429 | 500.. => ChannelAuthReply::Failed {
            retry_after: retry_after(response),
        },
        _ => ChannelAuthReply::Forbidden { status },
    }
}

/// Seconds or a date: RFC 9110, section 10.2.3.
fn retry_after(response: &Response) -> Option<u64> {
    let text = response.headers().get("retry-after")?;
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(u64::from(seconds) * 1000);
    }
    let wait = js_sys::Date::parse(&text) - date_now();
    (wait >= 0.0).then_some(wait as u64)
}

const LATER: ChannelAuthReply = ChannelAuthReply::Failed { retry_after: None };
