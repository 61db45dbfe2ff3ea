//! The host that is a JavaScript object.

use fanfare_client::{ChannelAuthReply, Event, Message, TokenReason, TokenReply};
use js_sys::{Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::WebSocket;

use crate::auth::{Answer, AuthRequest, read_grant};
use crate::bridge::{Fields, Global};
use crate::drain::Driver;
use crate::host::Host;
use crate::machine::convert::{self, Refused, channel_value, number, user_value};
use crate::names::EVENTS;
use crate::read::Data;
use crate::text::socket_text;

#[wasm_bindgen]
extern "C" {
    /// The object whose methods hear of everything; see the TypeScript declarations.
    #[wasm_bindgen(typescript_type = "Host")]
    pub type MachineHost;

    #[wasm_bindgen(method, structural, catch)]
    fn state(this: &MachineHost, status: &Fields) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn channel(
        this: &MachineHost,
        name: &JsValue,
        state: &str,
        previous: &str,
        error: Option<Fields>,
        recovered: bool,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn message(
        this: &MachineHost,
        channel: &JsValue,
        event: &JsValue,
        data: JsValue,
        offset: Option<f64>,
        epoch: Option<String>,
        user: Option<JsValue>,
        event_id: Option<String>,
        recovered: bool,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn members(
        this: &MachineHost,
        channel: &JsValue,
        members: &JsValue,
        count: f64,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn joined(
        this: &MachineHost,
        channel: &JsValue,
        id: &JsValue,
        info: JsValue,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn left(
        this: &MachineHost,
        channel: &JsValue,
        id: &JsValue,
        reason: Option<String>,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn gap(
        this: &MachineHost,
        channel: &JsValue,
        from: Option<f64>,
        to: Option<f64>,
        reason: &str,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn reset(
        this: &MachineHost,
        channel: &JsValue,
        position: &Fields,
        reason: &str,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn done(
        this: &MachineHost,
        request: u32,
        error: Option<Fields>,
        reply: Option<Fields>,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn error(this: &MachineHost, error: &Fields) -> Result<(), JsValue>;
}

/// The host, and those of its methods that it need not have.
pub(super) struct JsHost {
    host: MachineHost,
    token: Option<Function>,
    authorize: Option<Function>,
    headers: Option<Function>,
    open: Option<Function>,
}

impl JsHost {
    pub(super) fn new(host: MachineHost) -> Self {
        let fields: &Fields = host.unchecked_ref();
        let method = |name| fields.get(name)?.dyn_into().ok();
        Self {
            token: method("token"),
            authorize: method("authorize"),
            headers: method("headers"),
            open: method("open"),
            host,
        }
    }

    pub(super) fn gives_tokens(&self) -> bool {
        self.token.is_some()
    }

    pub(super) fn authorizes(&self) -> bool {
        self.authorize.is_some()
    }

    fn pass_message(&self, message: Message<Data>) -> Result<(), JsValue> {
        let position = message.position;
        self.host.message(
            &channel_value(&message.channel),
            &EVENTS.with(|names| names.value(message.event.as_str())),
            message.data.0,
            position.map(|position| number(position.offset)),
            position.map(|position| convert::epoch_text(position.epoch)),
            message.user_id.as_ref().map(user_value),
            message.event_id,
            message.recovered,
        )
    }

    fn pass_on(&self, driver: &Driver, event: Event<Data>) -> Result<(), JsValue> {
        let host = &self.host;
        match event {
            Event::Message(message) => self.pass_message(message),
            Event::Connection(status) => {
                let user = driver.with_client(|client| client.user_id().cloned());
                host.state(&convert::status(&status, user.as_ref(), &driver.clock))
            }
            Event::Channel(status) => host.channel(
                &channel_value(&status.channel),
                convert::channel_state(status.state),
                convert::channel_state(status.previous),
                status
                    .error
                    .as_ref()
                    .map(|error| convert::channel_error(error, &status.channel)),
                status.recovered,
            ),
            Event::Sync {
                channel,
                count,
                members,
            } => host.members(
                &channel_value(&channel),
                &convert::members(members),
                number(count),
            ),
            Event::Joined {
                channel, member, ..
            } => host.joined(
                &channel_value(&channel),
                &user_value(&member.id),
                member.info.0,
            ),
            Event::Left {
                channel,
                id,
                reason,
                ..
            } => host.left(&channel_value(&channel), &user_value(&id), reason),
            Event::Gap(gap) => host.gap(
                &channel_value(&gap.channel),
                gap.from.map(number),
                gap.to.map(number),
                convert::gap_reason(&gap.reason),
            ),
            Event::Reset(reset) => host.reset(
                &channel_value(&reset.channel),
                &convert::position(reset.position),
                &reset.reason,
            ),
            Event::RequestDone { request, result } => {
                let request = request.0 as u32;
                match result {
                    Ok(reply) => host.done(request, None, Some(convert::reply(reply))),
                    Err(error) => {
                        let error = convert::error(&error, Refused::Request);
                        host.done(request, Some(error), None)
                    }
                }
            }
            Event::Error(error) => host.error(&convert::error(&error, Refused::Connection)),
        }
    }
}

impl Host for JsHost {
    fn tell(&self, driver: &Driver, event: Event<Data>) {
        if let Err(thrown) = self.pass_on(driver, event) {
            report(&thrown);
        }
    }

    fn token(&self, reason: TokenReason) -> Answer<TokenReply> {
        let answer = self.ask(self.token.as_ref(), &convert::token_reason(reason).into());
        Box::pin(async move {
            match answer.await {
                Ok(token) if token.is_null() || token.is_undefined() => TokenReply::Anonymous,
                Ok(token) => match token.as_string() {
                    Some(token) if token.is_empty() => TokenReply::Anonymous,
                    Some(token) => TokenReply::Token(token),
                    None => TokenReply::Failed,
                },
                Err(thrown) if is_unauthorized(&thrown) => TokenReply::Unauthorized,
                Err(_) => TokenReply::Failed,
            }
        })
    }

    fn authorize(&self, request: &AuthRequest) -> Option<Answer<ChannelAuthReply>> {
        let authorize = self.authorize.as_ref()?;
        let fields = Fields::new();
        fields.set("channel", channel_value(&request.channel));
        fields.set("socketId", socket_text(request.socket_id));
        fields.set("reason", convert::auth_reason(request.reason));
        fields.set("signal", request.signal.clone());
        let answer = self.ask(Some(authorize), &fields);
        Some(Box::pin(async move {
            match answer.await {
                Ok(result) => read_grant(result),
                Err(thrown) if is_unauthorized(&thrown) => {
                    let status = Fields::from(thrown).number("status");
                    let status = status.and_then(|status| status.try_into().ok());
                    Some(ChannelAuthReply::Forbidden {
                        status: status.unwrap_or(FORBIDDEN),
                    })
                }
                Err(_) => None,
            }
            .unwrap_or(ChannelAuthReply::Failed { retry_after: None })
        }))
    }

    fn headers(&self) -> Answer<Result<web_sys::Headers, JsValue>> {
        let Some(headers) = &self.headers else {
            return Box::pin(async { web_sys::Headers::new() });
        };
        let answer = self.ask(Some(headers), &JsValue::UNDEFINED);
        Box::pin(async move { new_headers(&answer.await?) })
    }

    fn open(&self, url: &str, protocols: &JsValue) -> Result<WebSocket, JsValue> {
        match &self.open {
            Some(open) => Ok(open
                .call2(&self.host, &url.into(), protocols)?
                .unchecked_into()),
            None => WebSocket::new_with_str_sequence(url, protocols),
        }
    }
}

impl JsHost {
    /// Calls a function that may return a promise, or throw where it should have returned one.
    fn ask(
        &self,
        function: Option<&Function>,
        argument: &JsValue,
    ) -> Answer<Result<JsValue, JsValue>> {
        let called = function.map(|function| function.call1(&self.host, argument));
        Box::pin(async move {
            match called {
                Some(returned) => JsFuture::from(Promise::resolve(&returned?)).await,
                None => Ok(JsValue::UNDEFINED),
            }
        })
    }
}

#[wasm_bindgen]
extern "C" {
    /// What `new Headers(init)` makes of any `HeadersInit`.
    #[wasm_bindgen(extends = web_sys::Headers, js_name = Headers)]
    type AnyHeaders;

    #[wasm_bindgen(catch, constructor, js_class = "Headers")]
    fn new(init: &JsValue) -> Result<AnyHeaders, JsValue>;
}

fn new_headers(init: &JsValue) -> Result<web_sys::Headers, JsValue> {
    AnyHeaders::new(init).map(Into::into)
}

fn is_unauthorized(thrown: &JsValue) -> bool {
    thrown.is_object()
        && thrown.unchecked_ref::<Fields>().text("name").as_deref() == Some("UnauthorizedError")
}

/// Reports what a callback threw, as an uncaught exception would be, and carries on.
fn report(thrown: &JsValue) {
    let global = Global::current();
    match global.report_error_function() {
        Some(report_error) => drop(report_error.call1(&global, thrown)),
        // Nobody handles this rejection, and so it is reported, too.
        None => drop(Promise::reject(thrown)),
    }
}

/// What an `UnauthorizedError` without a status of its own stands for.
const FORBIDDEN: u16 = 403;
