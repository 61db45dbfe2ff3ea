//! Who a client belongs to: hears what happens and answers what only the application knows.

use fanfare_client::{ChannelAuthReply, Event, TokenReason, TokenReply};
use wasm_bindgen::JsValue;
use web_sys::WebSocket;

use crate::auth::{Answer, AuthRequest};
use crate::drain::Driver;
use crate::read::Data;

/// The application's side. Every method may call back into the driver.
pub(crate) trait Host {
    /// Something happened.
    fn tell(&self, driver: &Driver, event: Event<Data>);

    /// Gets a token. Asked only when the machine was promised that somebody answers.
    fn token(&self, reason: TokenReason) -> Answer<TokenReply>;

    /// Gets a channel token; `None` to have it fetched from the endpoint.
    fn authorize(&self, request: &AuthRequest) -> Option<Answer<ChannelAuthReply>>;

    /// Headers for the endpoint.
    fn headers(&self) -> Answer<Result<web_sys::Headers, JsValue>>;

    /// Opens a socket.
    ///
    /// # Errors
    /// What the constructor threw.
    fn open(&self, url: &str, protocols: &JsValue) -> Result<WebSocket, JsValue>;
}
