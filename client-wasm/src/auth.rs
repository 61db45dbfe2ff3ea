//! Channel tokens: asked of the host, or fetched from an endpoint.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use fanfare_client::{AuthReason, ChannelAuthReply, Input};
use fanfare_protocol::{ChannelName, SocketId};
use gloo_net::http::{Request, Response};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    AbortController, AbortSignal, ReadableStreamDefaultReader, RequestCredentials, RequestRedirect,
};

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
        Ok((response, text)) => judge(&response, &text),
        Err(reason) => ChannelAuthReply::failed(reason),
    }
}

/// The answer and its text, or a sentence that says why there is none.
async fn post(
    endpoint: Endpoint,
    headers: Answer<Result<web_sys::Headers, JsValue>>,
    request: AuthRequest,
) -> Result<(Response, String), String> {
    let headers = headers.await.map_err(because("the headers are none"))?;
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
    // Where a redirect leads, the application's headers do not belong.
    init.set_redirect(RequestRedirect::Manual);
    init.set_signal(Some(&request.signal));
    init.set_body(&body.into());
    let unreachable = because("the auth endpoint could not be reached or read");
    // Not through its builder, which takes the address apart and puts it together again.
    let request = headers
        .set("content-type", "application/json")
        .and_then(|()| web_sys::Request::new_with_str_and_init(&endpoint.url, &init))
        .map_err(&unreachable)?;
    let sent = Request::from(request).send().await;
    let response =
        sent.map_err(|error| unreachable(js_sys::Error::new(&error.to_string()).into()))?;
    let text = read(&response).await.map_err(&unreachable)?;
    Ok((response, text))
}

/// The text of an answer, as long as one may be.
async fn read(response: &Response) -> Result<String, JsValue> {
    let mut bytes = Vec::new();
    let Some(body) = response.body() else {
        return Ok(String::new());
    };
    let reader = ReadableStreamDefaultReader::new(&body)?;
    loop {
        let chunk = Fields::from(JsFuture::from(reader.read()).await?);
        let Some(value) = chunk.get("value") else {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        };
        bytes.extend(js_sys::Uint8Array::new(&value).to_vec());
        if bytes.len() > ANSWER_BYTES_MAX {
            let _ = reader.cancel();
            let text = format!("it has more than {ANSWER_BYTES_MAX} bytes");
            return Err(js_sys::Error::new(&text).into());
        }
    }
}

fn judge(response: &Response, text: &str) -> ChannelAuthReply {
    let status = response.status();
    let result = parse_json(&text.into()).ok().filter(JsValue::is_object);
    let failed = |reason: String, retry_after| ChannelAuthReply::Failed {
        status: (status > 0).then_some(status),
        reason: Some(reason),
        retry_after,
    };
    match status {
        200..=299 => {
            let kind = match &result {
                Some(_) => "other JSON".to_owned(),
                None if text.is_empty() => "nothing".to_owned(),
                None => {
                    (response.headers().get("content-type")).unwrap_or_else(|| "no JSON".to_owned())
                }
            };
            let reason = || {
                format!("the auth endpoint answered {status} with {kind} in place of {{\"auth\"}}")
            };
            let granted = result.and_then(read_grant);
            granted.unwrap_or_else(|| failed(reason(), None))
        }
        // Browsers do not tell the status of a redirect that is not followed.
        0 | 300..=399 => {
            let reason = "the auth endpoint redirects, which is not followed";
            failed(reason.to_owned(), None)
        }
        _ => {
            let error = result.and_then(|result| Fields::from(result).text("error"));
            let error = error.map_or(String::new(), |error| format!(": {error}"));
            let reason = format!("the auth endpoint answered {status}{error}");
            match status {
                // Requests that came too early, too often or too slowly, and a server in trouble.
                408 | 425 | 429 | 500.. => failed(reason, retry_after(response)),
                _ => ChannelAuthReply::Forbidden {
                    status,
                    reason: Some(reason),
                },
            }
        }
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

/// Makes a sentence of what JavaScript has thrown.
fn because(what: &str) -> impl Fn(JsValue) -> String {
    move |thrown| {
        let message = Fields::from(thrown).text("message").unwrap_or_default();
        format!("{what}: {message}")
    }
}

/// 1 MiB: the tokens of hundreds of channels.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
