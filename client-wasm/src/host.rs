//! The application's side of a client: hears events, and gives tokens.

use fanfare_client::{ChannelAuthReply, Event, TokenReason, TokenReply};
use wasm_bindgen::JsValue;
use web_sys::WebSocket;

use crate::auth::{AuthRequest, BoxFuture};
use crate::drain::Driver;
use crate::read::Data;

/// The application's side. Every method may call back into the driver.
pub(crate) trait Host {
    /// Something happened.
    fn tell(&self, driver: &Driver, event: Event<Data>);

    /// Gets a token. Called only when the machine's options promise an answer.
    fn token(&self, reason: TokenReason) -> BoxFuture<TokenReply>;

    /// Gets a channel token; `None` to have it fetched from the endpoint.
    fn authorize(&self, request: &AuthRequest) -> Option<BoxFuture<ChannelAuthReply>>;

    /// Headers for the endpoint.
    fn headers(&self) -> BoxFuture<Result<web_sys::Headers, JsValue>>;

    /// Opens a socket.
    ///
    /// # Errors
    /// What the constructor threw.
    fn open(&self, url: &str, protocols: &JsValue) -> Result<WebSocket, JsValue>;
}
