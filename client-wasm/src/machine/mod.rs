//! The class that the npm package wraps.

mod convert;
mod host;
mod options;

use std::cell::Cell;
use std::rc::Rc;

use fanfare_client::{Client, ConnectionState, Input, RequestId, SubscribeOptions};
use fanfare_protocol::{ChannelName, EventName, IdempotencyKey, NameError, Position, RawJson};
use wasm_bindgen::prelude::*;

use crate::drain::Driver;
use crate::machine::host::JsHost;

pub use crate::machine::host::MachineHost;
pub use crate::machine::options::{HistoryPosition, MachineOptions, SubscriptionOptions};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = include_str!("types.d.ts");

/// One connection's worth of client. The host hears of everything, and may call back in whenever it is called.
///
/// `free()` lets go of the memory; what runs inside of one of these methods calls `close()` first, and `free()` afterwards.
#[wasm_bindgen]
pub struct Machine {
    driver: Rc<Driver>,
    requests: Cell<u32>,
}

#[wasm_bindgen]
impl Machine {
    /// Makes a client that has not been asked to connect. The options are read here and never again.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(url: String, options: MachineOptions, host: MachineHost) -> Self {
        let host = JsHost::new(host);
        let (settings, token) = options::read(url, &options.into(), &host);
        let driver = Driver::start(settings, Box::new(host));
        if token.is_some() {
            driver.handle(Input::SetToken(token));
        }
        Self {
            driver,
            requests: Cell::new(0),
        }
    }

    /// Asks for a connection.
    pub fn connect(&self) {
        self.driver.handle(Input::Connect);
    }

    /// Ends the connection; subscriptions stay wanted.
    pub fn disconnect(&self) {
        self.driver.handle(Input::Disconnect);
    }

    /// Does not wait for the next attempt, or asks an open connection for a sign of life.
    pub fn reconnect_now(&self) {
        let state = self.driver.with_client(|client| client.status().state);
        self.driver.handle(match state {
            ConnectionState::Connected => Input::Wake,
            _ => Input::Connect,
        });
    }

    /// Wants a channel.
    ///
    /// # Errors
    /// A `TypeError` when the name or the options are none.
    pub fn subscribe(
        &self,
        channel: &str,
        options: Option<SubscriptionOptions>,
    ) -> Result<(), JsValue> {
        self.driver.handle(Input::Subscribe {
            channel: named(channel)?,
            options: match options {
                Some(options) => options::subscription(&options.into())?,
                None => SubscribeOptions::default(),
            },
        });
        Ok(())
    }

    /// No longer wants a channel: nothing more is said about it.
    ///
    /// # Errors
    /// A `TypeError` when the name is none.
    pub fn unsubscribe(&self, channel: &str) -> Result<(), JsValue> {
        let channel = named(channel)?;
        self.driver.handle(Input::Unsubscribe { channel });
        Ok(())
    }

    /// Sends a client event, its payload as JSON text. Returns the number of the request, whose answer the host hears.
    ///
    /// # Errors
    /// A `TypeError` when a name or the key is none.
    pub fn publish(
        &self,
        channel: &str,
        event: &str,
        json: String,
        key: Option<String>,
    ) -> Result<u32, JsValue> {
        let channel: ChannelName = named(channel)?;
        let (event, data, key) = content(event, json, key)?;
        Ok(self.ask(|request| Input::Publish {
            request,
            channel,
            event,
            data,
            key,
        }))
    }

    /// Sends an event to the server's event bus, its payload as JSON text.
    ///
    /// # Errors
    /// As for `publish`.
    pub fn emit(&self, event: &str, json: String, key: Option<String>) -> Result<u32, JsValue> {
        let (event, data, key) = content(event, json, key)?;
        Ok(self.ask(|request| Input::Emit {
            request,
            event,
            data,
            key,
        }))
    }

    /// Asks for the members of a presence channel.
    ///
    /// # Errors
    /// A `TypeError` when the name is none.
    pub fn presence(&self, channel: &str) -> Result<u32, JsValue> {
        let channel = named(channel)?;
        Ok(self.ask(|request| Input::Presence { request, channel }))
    }

    /// Asks for past events.
    ///
    /// # Errors
    /// A `TypeError` when the name or the position is none.
    pub fn history(
        &self,
        channel: &str,
        since: Option<HistoryPosition>,
        limit: Option<u32>,
    ) -> Result<u32, JsValue> {
        let channel = named(channel)?;
        let since = match since {
            Some(since) => Some(options::position(&since.into())?),
            None => None,
        };
        Ok(self.ask(|request| Input::History {
            request,
            channel,
            since,
            limit,
        }))
    }

    /// Lost interest in an answer; it comes at once, and says so.
    pub fn abort(&self, request: u32) {
        let request = RequestId(u64::from(request));
        self.driver.handle(Input::Abort { request });
    }

    /// Logs in, or out.
    pub fn set_token(&self, token: Option<String>) {
        self.driver.handle(Input::SetToken(token));
    }

    /// Where a subscription stands.
    ///
    /// # Errors
    /// A `TypeError` when the name is none.
    #[wasm_bindgen(unchecked_return_type = "Position | undefined")]
    pub fn position(&self, channel: &str) -> Result<JsValue, JsValue> {
        let channel = named(channel)?;
        let position: Option<Position> =
            self.driver.with_client(|client| client.position(&channel));
        Ok(position.map_or(JsValue::UNDEFINED, |it| convert::position(it).into()))
    }

    /// Closes the socket, clears the timer, stops listening to the page. The host hears nothing more.
    pub fn close(&self) {
        self.driver.close();
    }

    fn ask(&self, input: impl FnOnce(RequestId) -> Input<crate::read::Data>) -> u32 {
        let request = self.requests.get().wrapping_add(1);
        self.requests.set(request);
        self.driver.handle(input(RequestId(u64::from(request))));
        request
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.driver.close();
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.driver.with_client(Client::socket_id);
        f.debug_struct("Machine")
            .field("socket_id", &state)
            .finish()
    }
}

fn content(
    event: &str,
    json: String,
    key: Option<String>,
) -> Result<(EventName, RawJson, Option<IdempotencyKey>), JsValue> {
    let key = match key {
        Some(key) => Some(named(&key)?),
        None => None,
    };
    Ok((named(event)?, RawJson::trusted(json), key))
}

fn named<T: std::str::FromStr<Err = NameError>>(text: &str) -> Result<T, JsValue> {
    text.parse().map_err(|problem: NameError| {
        js_sys::TypeError::new(&convert::name_problem(&problem)).into()
    })
}
