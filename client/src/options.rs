//! What a host can choose; everything has a default.

use fanfare_protocol::{Position, RawJson};

/// The options of a [`Client`](crate::Client). Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How long to wait between attempts to connect, and between attempts to subscribe.
    pub backoff: Backoff,
    /// From the request for a socket until the connection is greeted and authenticated: 10 s.
    pub handshake_timeout: u64,
    /// From a command until its reply: 10 s. While replies to other subscriptions keep coming, a subscription waits up to six times
    /// as long.
    pub request_timeout: u64,
    /// From a ping until anything is heard: 10 s.
    pub pong_timeout: u64,
    /// The same after a wake-up or when the network is said to be gone: 5 s.
    pub probe_timeout: u64,
    /// From [`Output::NeedToken`](crate::Output::NeedToken) or [`Output::NeedChannelAuth`](crate::Output::NeedChannelAuth)
    /// until the answer: 10 s. While channel tokens of others keep coming, one is waited for up to six times as long.
    pub auth_timeout: u64,
    /// How many requests wait for a connection, and how long.
    pub queue: QueueLimits,
    /// How many channels the server may join this client to unasked: 1,000. What comes beyond is ignored.
    pub server_channels_max: usize,
    /// Whether the host answers [`Output::NeedToken`](crate::Output::NeedToken). Off: only
    /// [`Input::SetToken`](crate::Input::SetToken) gives tokens.
    pub token_provider: bool,
    /// Whether `private-` and `presence-` channels need a channel token from the host
    /// ([`Output::NeedChannelAuth`](crate::Output::NeedChannelAuth)). Off: the server knows who may subscribe.
    pub channel_auth: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            handshake_timeout: 10_000,
            request_timeout: 10_000,
            pong_timeout: 10_000,
            probe_timeout: 5_000,
            auth_timeout: 10_000,
            queue: QueueLimits::default(),
            server_channels_max: 1_000,
            token_provider: false,
            channel_auth: false,
        }
    }
}

impl Options {
    /// Sets the backoff.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the limits of the queue.
    #[must_use]
    pub fn with_queue(mut self, queue: QueueLimits) -> Self {
        self.queue = queue;
        self
    }

    /// Promises that the host answers [`Output::NeedToken`](crate::Output::NeedToken).
    #[must_use]
    pub fn with_token_provider(mut self) -> Self {
        self.token_provider = true;
        self
    }

    /// Promises that the host answers [`Output::NeedChannelAuth`](crate::Output::NeedChannelAuth).
    #[must_use]
    pub fn with_channel_auth(mut self) -> Self {
        self.channel_auth = true;
        self
    }
}

/// Full-jitter exponential backoff: attempt `n` waits a random time between 0 and `min * 2^n`, at most `max`.
///
/// A server that shuts down (close codes 4200 to 4299) spreads its clients by itself: they reconnect without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling of the first wait: 500 ms.
    pub min: u64,
    /// The ceiling of every wait: 20 s.
    pub max: u64,
    /// After so long a connection counts as healthy and the next loss starts at `min` again: 5 s.
    pub reset_after: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: 500,
            max: 20_000,
            reset_after: 5_000,
        }
    }
}

/// How much the client keeps for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Requests that wait to be sent: 128.
    pub messages_max: usize,
    /// Requests that were sent and wait for their reply; more wait to be sent: 128.
    pub in_flight_max: usize,
    /// Bytes of all requests together: 1 MiB.
    pub bytes_max: usize,
    /// How long a request may take in all, over any number of connections: 30 s.
    pub ttl: u64,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            messages_max: 128,
            in_flight_max: 128,
            bytes_max: 1024 * 1024,
            ttl: 30_000,
        }
    }
}

/// The options of one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscribeOptions<J = RawJson> {
    /// Start after this position, such as one kept from an earlier run.
    pub since: Option<Position>,
    /// Start with the last n events.
    pub rewind: Option<u32>,
    /// An unsigned hint about the member, on presence channels.
    pub data: Option<J>,
    /// The info to show from the start, on presence channels whose members may change theirs; see
    /// [`Input::PresenceUpdate`](crate::Input::PresenceUpdate).
    pub info: Option<J>,
}

impl<J> Default for SubscribeOptions<J> {
    fn default() -> Self {
        Self {
            since: None,
            rewind: None,
            data: None,
            info: None,
        }
    }
}

impl<J> SubscribeOptions<J> {
    /// Whether it is about more than what comes from now on.
    pub(crate) const fn asks_for_more(&self) -> bool {
        self.since.is_some() || self.rewind.is_some() || self.info.is_some()
    }
}

impl SubscribeOptions {
    /// Starts after a position.
    #[must_use]
    pub fn since(mut self, position: Position) -> Self {
        self.since = Some(position);
        self
    }

    /// Starts with the last `count` events.
    #[must_use]
    pub fn rewind(mut self, count: u32) -> Self {
        self.rewind = Some(count);
        self
    }

    /// Gives a hint about the member.
    #[must_use]
    pub fn data(mut self, data: RawJson) -> Self {
        self.data = Some(data);
        self
    }

    /// Shows other info than what the server or a signature says, from the start.
    #[must_use]
    pub fn info(mut self, info: RawJson) -> Self {
        self.info = Some(info);
        self
    }
}
