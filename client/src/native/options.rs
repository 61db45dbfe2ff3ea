//! What a Rust program can choose.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use fanfare_protocol::{ChannelName, SocketId};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::ClientError;
use crate::io::{AuthReason, ChannelAuthReply, TokenReason, TokenReply};
use crate::options::Options;

/// The options of a [`NativeClient`](super::NativeClient).
#[derive(Clone)]
#[non_exhaustive]
pub struct NativeOptions {
    /// The machine's own. `token_provider` and `channel_auth` follow from the callbacks given here.
    pub machine: Options,
    /// The token to start with.
    pub token: Option<String>,
    /// Sent with the handshake of every connection.
    pub headers: HeaderMap,
    /// How many events a [`Subscription`](super::Subscription) holds that nobody has received yet: 1024. What comes beyond is
    /// lost, and said so with a gap.
    pub subscription_events_max: usize,
    /// The largest frame that is read: 16 MiB.
    pub frame_bytes_max: usize,
    pub(super) token_provider: Option<TokenProvider>,
    pub(super) channel_auth: Option<ChannelAuthProvider>,
    pub(super) on_error: Option<OnError>,
}

/// What a channel token is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelAuthRequest {
    /// The channel.
    pub channel: ChannelName,
    /// The connection that the token will be bound to.
    pub socket_id: SocketId,
    /// Why.
    pub reason: AuthReason,
}

type OnError = Arc<dyn Fn(&ClientError) + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(super) type TokenProvider = Arc<dyn Fn(TokenReason) -> BoxFuture<TokenReply> + Send + Sync>;
pub(super) type ChannelAuthProvider =
    Arc<dyn Fn(ChannelAuthRequest) -> BoxFuture<ChannelAuthReply> + Send + Sync>;

impl Default for NativeOptions {
    fn default() -> Self {
        Self {
            machine: Options::default(),
            token: None,
            headers: HeaderMap::new(),
            subscription_events_max: 1024,
            frame_bytes_max: 16 * 1024 * 1024,
            token_provider: None,
            channel_auth: None,
            on_error: None,
        }
    }
}

impl NativeOptions {
    /// Sets the machine's options.
    #[must_use]
    pub fn with_machine(mut self, machine: Options) -> Self {
        self.machine = machine;
        self
    }

    /// Authenticates with a fixed token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Asks for a token whenever one is needed. The future is dropped when its answer is no longer wanted, also after
    /// `auth_timeout`.
    #[must_use]
    pub fn with_token_provider<F, A>(mut self, provider: F) -> Self
    where
        F: Fn(TokenReason) -> A + Send + Sync + 'static,
        A: Future<Output = TokenReply> + Send + 'static,
    {
        self.token_provider = Some(Arc::new(move |reason| Box::pin(provider(reason))));
        self
    }

    /// Asks for the tokens of `private-` and `presence-` channels. The future is dropped when its answer is no longer wanted.
    #[must_use]
    pub fn with_channel_auth<F, A>(mut self, provider: F) -> Self
    where
        F: Fn(ChannelAuthRequest) -> A + Send + Sync + 'static,
        A: Future<Output = ChannelAuthReply> + Send + 'static,
    {
        self.channel_auth = Some(Arc::new(move |request| Box::pin(provider(request))));
        self
    }

    /// Sends a header with the handshake, such as `cookie` or `origin`.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Sets how many events a subscription holds.
    #[must_use]
    pub fn with_subscription_events_max(mut self, events_max: usize) -> Self {
        self.subscription_events_max = events_max.max(1);
        self
    }

    /// Hears of what goes wrong and belongs to nobody: a frame that cannot be read, a token that could not be renewed.
    #[must_use]
    pub fn with_on_error(
        mut self,
        on_error: impl Fn(&ClientError) + Send + Sync + 'static,
    ) -> Self {
        self.on_error = Some(Arc::new(on_error));
        self
    }

    pub(super) fn machine_options(&self) -> Options {
        Options {
            token_provider: self.token_provider.is_some(),
            channel_auth: self.channel_auth.is_some(),
            ..self.machine.clone()
        }
    }
}

impl fmt::Debug for NativeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeOptions")
            .field("machine", &self.machine)
            .field("subscription_events_max", &self.subscription_events_max)
            .field("frame_bytes_max", &self.frame_bytes_max)
            .finish_non_exhaustive()
    }
}
