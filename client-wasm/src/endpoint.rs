//! The auth endpoint: one request for a channel or for a list of them, and what its answer means.

use fanfare_client::ChannelAuthReply;
use fanfare_protocol::{ChannelName, Code, SocketId};
use gloo_net::http::{Request, Response};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, ReadableStreamDefaultReader, RequestCredentials, RequestRedirect};

use crate::auth::{BoxFuture, read_grant};
use crate::bridge::{Fields, date_now, parse_json};
use crate::text::socket_text;

/// Where channel tokens are fetched, and with which cookies.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) credentials: RequestCredentials,
    /// Whether it is asked for lists of channels.
    pub(crate) knows_lists: bool,
}

/// A request for the tokens of these channels.
pub(crate) struct TokenQuery {
    pub(crate) channels: Vec<ChannelName>,
    pub(crate) socket_id: SocketId,
    /// Fires when no answer is wanted any more.
    pub(crate) signal: Option<AbortSignal>,
}

/// What came of a request.
pub(crate) enum EndpointReply {
    /// One for each channel, in the order of the request.
    Each(Vec<ChannelAuthReply>),
    /// The same for all of them.
    All(ChannelAuthReply),
    /// The endpoint does not know lists.
    NoLists,
}

type Headers = BoxFuture<Result<web_sys::Headers, JsValue>>;

impl Endpoint {
    /// The address of an endpoint that the application does not name: the socket's own, over HTTP, with `/auth` behind its path.
    pub(crate) fn beside(url: &str) -> String {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let scheme = if path.starts_with("ws") { "http" } else { "" };
        let rest = path.strip_prefix("ws").unwrap_or(path);
        [scheme, rest.trim_end_matches('/'), "/auth"].concat()
    }

    /// Asks for the tokens of some channels.
    pub(crate) async fn ask(self, headers: Headers, query: TokenQuery) -> EndpointReply {
        let (response, text) = match self.post(headers, &query).await {
            Ok(answer) => answer,
            Err(reason) => return EndpointReply::All(ChannelAuthReply::failed(reason)),
        };
        let status = response.status();
        let result = parse_json(&text.as_str().into())
            .ok()
            .filter(JsValue::is_object);
        let is_list = query.channels.len() > 1;
        let list = result.clone().filter(|_| is_list);
        if let Some(list) = list.and_then(|result| Fields::from(result).get("channels")) {
            let list = Fields::from(list);
            let judge_one = |channel: &ChannelName| judge_one(list.get(channel.as_str()));
            return EndpointReply::Each(query.channels.iter().map(judge_one).collect());
        }
        // What concerns the caller or the moment says nothing about lists: not logged in, too early, too often, a server in trouble.
        if is_list
            && matches!(status, 200..=299 | 400..=499)
            && !matches!(status, 401 | 408 | 425 | 429)
        {
            return EndpointReply::NoLists;
        }
        let kind = match result {
            Some(_) => "other JSON".to_owned(),
            None if text.is_empty() => "nothing".to_owned(),
            None => {
                (response.headers().get("content-type")).unwrap_or_else(|| "no JSON".to_owned())
            }
        };
        EndpointReply::All(judge(status, result, &kind, retry_after(&response)))
    }

    /// The answer and its text, or a sentence that says why there is none.
    async fn post(
        &self,
        headers: Headers,
        query: &TokenQuery,
    ) -> Result<(Response, String), String> {
        let headers = headers.await.map_err(because("the headers are none"))?;
        let body = query.body();
        let init = web_sys::RequestInit::new();
        init.set_method("POST");
        init.set_headers(&headers);
        init.set_credentials(self.credentials);
        // Where a redirect leads, the application's headers do not belong.
        init.set_redirect(RequestRedirect::Manual);
        init.set_signal(query.signal.as_ref());
        init.set_body(&body.into());
        let unreachable = because("the auth endpoint could not be reached or read");
        // Not through its builder, which takes the address apart and puts it together again.
        let request = headers
            .set("content-type", "application/json")
            .and_then(|()| web_sys::Request::new_with_str_and_init(&self.url, &init))
            .map_err(&unreachable)?;
        let sent = Request::from(request).send().await;
        let response =
            sent.map_err(|error| unreachable(js_sys::Error::new(&error.to_string()).into()))?;
        let text = read(&response).await.map_err(&unreachable)?;
        Ok((response, text))
    }
}

impl TokenQuery {
    /// Neither a socket id nor a channel name holds a character that JSON escapes.
    fn body(&self) -> String {
        let socket_id = socket_text(self.socket_id);
        match &self.channels[..] {
            [channel] => {
                let channel = channel.as_str();
                format!("{{\"socket_id\":\"{socket_id}\",\"channel\":\"{channel}\"}}")
            }
            channels => {
                let channels: Vec<&str> = channels.iter().map(ChannelName::as_str).collect();
                let channels = channels.join("\",\"");
                format!("{{\"socket_id\":\"{socket_id}\",\"channels\":[\"{channels}\"]}}")
            }
        }
    }
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

/// What a list has for one channel, judged as if the endpoint had said it of that channel alone.
fn judge_one(result: Option<JsValue>) -> ChannelAuthReply {
    let result = result.filter(JsValue::is_object);
    let code = result
        .clone()
        .and_then(|result| Fields::from(result).number("code"));
    let status = match code {
        None => 200,
        Some(code) if code == u64::from(Code::UNAVAILABLE.number()) => 503,
        Some(code) if code == u64::from(Code::NOT_AUTHENTICATED.number()) => 401,
        Some(_) => 403,
    };
    judge(status, result, "other JSON", None)
}

/// `kind` names an answer that holds no token.
fn judge(
    status: u16,
    result: Option<JsValue>,
    kind: &str,
    retry_after: Option<u64>,
) -> ChannelAuthReply {
    let failed = |reason: String, retry_after| ChannelAuthReply::Failed {
        status: (status > 0).then_some(status),
        reason: Some(reason),
        retry_after,
    };
    match status {
        200..=299 => result.and_then(read_grant).unwrap_or_else(|| {
            let reason =
                format!("the auth endpoint answered {status} with {kind} in place of {{\"auth\"}}");
            failed(reason, None)
        }),
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
                408 | 425 | 429 | 500.. => failed(reason, retry_after),
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
