//! What JavaScript chooses, read once.

use fanfare_client::{Options, SubscribeOptions};
use fanfare_protocol::{Position, RawJson};
use wasm_bindgen::prelude::*;
use web_sys::RequestCredentials;

use crate::auth::Endpoint;
use crate::bridge::Fields;
use crate::drain::Settings;
use crate::machine::convert;
use crate::machine::host::JsHost;

#[wasm_bindgen]
extern "C" {
    /// The options of a machine, a plain object.
    #[wasm_bindgen(typescript_type = "MachineOptions")]
    pub type MachineOptions;

    /// The options of a subscription, a plain object.
    #[wasm_bindgen(typescript_type = "SubscriptionOptions")]
    pub type SubscriptionOptions;

    /// A position, a plain object.
    #[wasm_bindgen(typescript_type = "Position")]
    pub type HistoryPosition;
}

/// The settings, and the token to start with.
pub(super) fn read(url: String, options: &JsValue, host: &JsHost) -> (Settings, Option<String>) {
    let fields: &Fields = options.unchecked_ref();
    let endpoint = fields.text("authEndpoint");
    let mut machine = Options::default();
    machine.token_provider = host.gives_tokens();
    machine.channel_auth = host.authorizes() || endpoint.is_some();
    let backoff = &mut machine.backoff;
    set(&mut backoff.min, fields, "backoffMin");
    set(&mut backoff.max, fields, "backoffMax");
    set(&mut backoff.reset_after, fields, "backoffResetAfter");
    set(&mut machine.handshake_timeout, fields, "handshakeTimeout");
    set(&mut machine.request_timeout, fields, "requestTimeout");
    set(&mut machine.pong_timeout, fields, "pongTimeout");
    set(&mut machine.probe_timeout, fields, "probeTimeout");
    set(&mut machine.auth_timeout, fields, "authTimeout");
    let queue = &mut machine.queue;
    set(&mut queue.ttl, fields, "queueTtl");
    set_size(&mut queue.messages_max, fields, "queueMax");
    set_size(&mut queue.bytes_max, fields, "queueBytesMax");
    let settings = Settings {
        endpoint: Endpoint {
            url: endpoint
                .filter(|given| !given.is_empty())
                .unwrap_or_else(|| Endpoint::beside(&url)),
            credentials: credentials(fields.text("authCredentials").as_deref()),
        },
        url,
        options: machine,
        with_page_events: fields.get("pageEvents") != Some(JsValue::FALSE),
    };
    (settings, fields.text("token"))
}

/// Reads the options of a subscription.
///
/// # Errors
/// A `TypeError` when `since` is no position.
pub(super) fn subscription(options: &JsValue) -> Result<SubscribeOptions, JsValue> {
    let fields: &Fields = options.unchecked_ref();
    let mut options = SubscribeOptions::default();
    if let Some(since) = fields.get("since") {
        options.since = Some(position(&since)?);
    }
    options.rewind = fields
        .number("rewind")
        .map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    options.data = fields.text("data").map(RawJson::trusted);
    Ok(options)
}

/// Reads a position.
///
/// # Errors
/// A `TypeError` when it is none.
pub(super) fn position(value: &JsValue) -> Result<Position, JsValue> {
    convert::read_position(value.unchecked_ref())
        .ok_or_else(|| js_sys::TypeError::new("a position is {epoch, offset, tag}").into())
}

fn set(option: &mut u64, fields: &Fields, name: &str) {
    if let Some(number) = fields.number(name) {
        *option = number;
    }
}

fn set_size(option: &mut usize, fields: &Fields, name: &str) {
    if let Some(number) = fields.number(name) {
        *option = usize::try_from(number).unwrap_or(usize::MAX);
    }
}

fn credentials(text: Option<&str>) -> RequestCredentials {
    match text {
        Some("omit") => RequestCredentials::Omit,
        Some("same-origin") => RequestCredentials::SameOrigin,
        _ => RequestCredentials::Include,
    }
}
