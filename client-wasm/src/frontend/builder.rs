//! What a page chooses before it connects.

use std::future::Future;
use std::rc::Rc;

use fanfare_client::{Backoff, Input, Options, QueueLimits, TokenReason};
use web_sys::RequestCredentials;

use crate::drain::{Driver, Settings};
use crate::endpoint::Endpoint;
use crate::frontend::host::{AuthQuestion, ChannelAuth, Closures, Refused, boxed};
use crate::frontend::{FanfareClient, Shared};

/// Builds a [`FanfareClient`]. Everything has a default.
#[must_use]
pub struct Builder {
    settings: Settings,
    token: Option<String>,
    closures: Closures,
}

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            settings: Settings {
                url: url.to_owned(),
                options: Options::default(),
                endpoint: Endpoint {
                    url: Endpoint::beside(url),
                    credentials: RequestCredentials::Include,
                    knows_lists: true,
                },
                with_page_events: true,
            },
            token: None,
            closures: Closures::default(),
        }
    }

    /// The token to start with. [`FanfareClient::set_token`] gives another one later.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Asked for a token before each connection that needs one, and before the token in use ends. `None` is anonymous.
    pub fn token_provider<F>(mut self, provider: impl Fn(TokenReason) -> F + 'static) -> Self
    where
        F: Future<Output = Result<Option<String>, Refused>> + 'static,
    {
        self.settings.options.token_provider = true;
        self.closures.token = Some(Rc::new(move |reason| boxed(provider(reason))));
        self
    }

    /// Private and presence channels need a token from the socket's own address with `/auth` behind it. Cookies go along.
    ///
    /// It is asked for up to 100 channels with one request, and with at most ten requests at once.
    pub fn auth_endpoint(mut self) -> Self {
        self.settings.options.channel_auth = true;
        self
    }

    /// Private and presence channels need a token from this address. Cookies go along as `credentials` says.
    ///
    /// It is asked for one channel with each request, and with at most ten requests at once; [`Builder::auth_lists`] says otherwise.
    pub fn auth_endpoint_at(mut self, url: &str, credentials: RequestCredentials) -> Self {
        self.settings.endpoint = Endpoint {
            url: url.to_owned(),
            credentials,
            knows_lists: false,
        };
        self.auth_endpoint()
    }

    /// The endpoint is asked for up to 100 channels with one request, `{"socket_id", "channels"}`, as the server's own takes them. One
    /// that answers a list without `channels`, or refuses it with a 4xx status, is asked for one channel at a time from then on.
    pub fn auth_lists(mut self) -> Self {
        self.settings.endpoint.knows_lists = true;
        self
    }

    /// Headers for the auth endpoint, asked before each request.
    pub fn auth_headers<F>(mut self, headers: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = Vec<(String, String)>> + 'static,
    {
        self.closures.headers = Some(Rc::new(move || boxed(headers())));
        self
    }

    /// Private and presence channels need a token from this closure. It is called once per channel, and for at most 100 channels at
    /// the same time.
    pub fn authorize<F>(mut self, authorize: impl Fn(AuthQuestion) -> F + 'static) -> Self
    where
        F: Future<Output = Result<ChannelAuth, Refused>> + 'static,
    {
        self.closures.authorize = Some(Rc::new(move |question| boxed(authorize(question))));
        self.auth_endpoint()
    }

    /// How long to wait between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.options.backoff = backoff;
        self
    }

    /// Changes whatever else can be chosen, such as how long to wait for an answer.
    pub fn options(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.settings.options);
        self
    }

    /// The page's comings and goings do not count: neither online and offline, nor hidden and shown, nor the page cache.
    pub fn ignore_page_events(mut self) -> Self {
        self.settings.with_page_events = false;
        self
    }

    /// How much is kept for later while there is no connection.
    pub fn queue(mut self, queue: QueueLimits) -> Self {
        self.settings.options.queue = queue;
        self
    }

    /// The client, not yet connected.
    #[must_use]
    pub fn build(self) -> FanfareClient {
        let listeners = Rc::clone(&self.closures.listeners);
        let requests = Rc::clone(&self.closures.requests);
        let driver = Driver::start(self.settings, Box::new(self.closures));
        if self.token.is_some() {
            driver.handle(Input::SetToken(self.token));
        }
        let shared = Shared {
            driver,
            listeners,
            requests,
        };
        FanfareClient {
            shared: Rc::new(shared),
        }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("url", &self.settings.url)
            .finish_non_exhaustive()
    }
}
