//! The host that is made of closures.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use fanfare_client::{AuthReason, ChannelAuthReply, ClientError, Event, TokenReason, TokenReply};
use fanfare_protocol::{ChannelName, SocketId};
use wasm_bindgen::JsValue;
use web_sys::WebSocket;

use crate::auth::{AuthRequest, BoxFuture};
use crate::drain::Driver;
use crate::frontend::error::Error;
use crate::frontend::listeners::Listeners;
use crate::frontend::request::Requests;
use crate::frontend::subscription::Meta;
use crate::host::Host;
use crate::read::Data;

/// A channel token that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthQuestion {
    /// The channel.
    pub channel: ChannelName,
    /// The connection that the token has to be bound to.
    pub socket_id: SocketId,
    /// Why.
    pub reason: AuthReason,
}

/// A channel token, as the backend gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelAuth {
    /// The token.
    pub auth: String,
    /// Signed member data, exactly as it was given.
    pub channel_data: Option<String>,
}

impl std::fmt::Debug for ChannelAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChannelAuth(..)")
    }
}

/// Why a closure has no answer, with a sentence for people: it is in the error that the application is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The user may not: do not ask again.
    Unauthorized(String),
    /// It could not be had this time: ask again later.
    Failed(String),
}

impl Refused {
    /// The user may not, because of this.
    pub fn unauthorized(reason: impl Display) -> Self {
        Self::Unauthorized(reason.to_string())
    }

    /// It could not be had this time, because of this.
    pub fn failed(reason: impl Display) -> Self {
        Self::Failed(reason.to_string())
    }
}

pub(crate) type TokenProvider =
    Rc<dyn Fn(TokenReason) -> BoxFuture<Result<Option<String>, Refused>>>;
pub(crate) type Authorizer = Rc<dyn Fn(AuthQuestion) -> BoxFuture<Result<ChannelAuth, Refused>>>;
pub(crate) type HeaderProvider = Rc<dyn Fn() -> BoxFuture<Vec<(String, String)>>>;

/// The closures of one client.
#[derive(Default)]
pub(crate) struct Closures {
    pub(crate) listeners: Rc<Listeners>,
    pub(crate) requests: Rc<Requests>,
    pub(crate) token: Option<TokenProvider>,
    pub(crate) authorize: Option<Authorizer>,
    pub(crate) headers: Option<HeaderProvider>,
}

impl Host for Closures {
    fn tell(&self, _driver: &Driver, event: Event<Data>) {
        let listeners = &self.listeners;
        match event {
            Event::Connection(status) => listeners.connection.each(|tell| tell(&status)),
            Event::Channel(status) => listeners.each(&status.channel, |channel| {
                channel.state.each(|tell| tell(&status));
            }),
            Event::Message(message) => {
                let data = message.data;
                let meta = Meta {
                    channel: message.channel,
                    event: message.event,
                    position: message.position,
                    user_id: message.user_id,
                    event_id: message.event_id,
                    recovered: message.recovered,
                };
                listeners.each(&meta.channel, |channel| {
                    channel.messages.each(|tell| tell(&data, &meta));
                });
            }
            Event::Sync {
                channel,
                count,
                members,
            } => listeners.each(&channel, |channel| {
                channel.sync.each(|tell| tell(&members, count));
            }),
            Event::Joined {
                channel, member, ..
            } => listeners.each(&channel, |channel| {
                channel.joined.each(|tell| tell(&member));
            }),
            Event::Updated {
                channel, member, ..
            } => listeners.each(&channel, |channel| {
                channel.updated.each(|tell| tell(&member));
            }),
            Event::Left {
                channel,
                id,
                reason,
                ..
            } => listeners.each(&channel, |channel| {
                channel.left.each(|tell| tell(&id, reason.as_deref()));
            }),
            Event::Gap(gap) => listeners.each(&gap.channel, |channel| {
                channel.gaps.each(|tell| tell(&gap));
            }),
            Event::Reset(reset) => listeners.each(&reset.channel, |channel| {
                channel.resets.each(|tell| tell(&reset));
            }),
            Event::RequestDone { request, result } => self.requests.done(request, result),
            Event::Error(error) => self.complain(error),
        }
    }

    fn token(&self, reason: TokenReason) -> BoxFuture<TokenReply> {
        let Some(token) = &self.token else {
            return Box::pin(async { TokenReply::Anonymous });
        };
        let answer = token(reason);
        Box::pin(async move {
            match answer.await {
                Ok(Some(token)) => TokenReply::Token(token),
                Ok(None) => TokenReply::Anonymous,
                Err(Refused::Unauthorized(reason)) => TokenReply::unauthorized(reason),
                Err(Refused::Failed(reason)) => TokenReply::failed(reason),
            }
        })
    }

    fn authorize(&self, request: &AuthRequest) -> Option<BoxFuture<ChannelAuthReply>> {
        let answer = self.authorize.as_ref()?(AuthQuestion {
            channel: request.channel.clone(),
            socket_id: request.socket_id,
            reason: request.reason,
        });
        Some(Box::pin(async move {
            match answer.await {
                Ok(ChannelAuth { auth, channel_data }) => {
                    ChannelAuthReply::Granted { auth, channel_data }
                }
                Err(Refused::Unauthorized(reason)) => ChannelAuthReply::forbidden(reason),
                Err(Refused::Failed(reason)) => ChannelAuthReply::failed(reason),
            }
        }))
    }

    fn headers(&self) -> BoxFuture<Result<web_sys::Headers, JsValue>> {
        let answer = self.headers.as_ref().map(|headers| headers());
        Box::pin(async move {
            let headers = web_sys::Headers::new()?;
            if let Some(answer) = answer {
                for (name, value) in answer.await {
                    headers.set(&name, &value)?;
                }
            }
            Ok(headers)
        })
    }

    fn open(&self, url: &str, protocols: &JsValue) -> Result<WebSocket, JsValue> {
        WebSocket::new_with_str_sequence(url, protocols)
    }
}

impl Closures {
    fn complain(&self, error: ClientError) {
        let error = Error::from(error);
        self.listeners.errors.each(|tell| tell(&error));
    }
}

/// Makes one type of closures that give futures.
pub(crate) fn boxed<T, F>(future: F) -> Pin<Box<dyn Future<Output = T>>>
where
    F: Future<Output = T> + 'static,
{
    Box::pin(future)
}
