//! How fast commands go out, so that the server never has to refuse one for coming too soon.

use fanfare_protocol::ConnectionLimits;

use crate::time::Millis;

/// What may be sent now.
#[derive(Debug)]
pub(crate) struct Pace {
    commands: Bucket,
    /// Channels that lists may name.
    channels: Bucket,
    /// Bytes of publishes.
    bytes: Bucket,
    filled_at: Millis,
    /// Whether the server takes lists of channels.
    pub(crate) takes_lists: bool,
    /// When a `subscribe` was sent last.
    subscribed_at: Millis,
    /// Since when channels are held back for others to go with them.
    gathering_since: Option<Millis>,
    /// The server has refused something for coming too soon: nothing goes out before this time.
    blocked_until: Millis,
    /// Something had to wait.
    pub(crate) is_short: bool,
}

/// A token bucket. Floating point: it is exact enough, and half the code in a browser.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    per_second: f64,
    burst: f64,
}

impl Pace {
    /// For a connection that is greeted; `limits` are the server's, if it said them.
    pub(crate) fn new(limits: Option<&ConnectionLimits>, now: Millis) -> Self {
        let (per_second, burst, channels_max, bytes) = match limits {
            Some(limits) => (
                limits.commands_per_second,
                limits.commands_burst,
                limits.channels_max.max(ALLOWANCE_MIN),
                limits.bytes_per_second.zip(limits.bytes_burst),
            ),
            None => (UNTOLD_PER_SECOND, UNTOLD_BURST, 0, None),
        };
        let (bytes_per_second, bytes_burst) = bytes.unwrap_or((u64::MAX, u64::MAX));
        Self {
            commands: Bucket::full(per_second, burst),
            channels: Bucket::full(per_second, channels_max),
            bytes: Bucket::full(bytes_per_second, bytes_burst),
            filled_at: now,
            takes_lists: limits.is_some(),
            subscribed_at: Millis(0),
            gathering_since: None,
            blocked_until: Millis(0),
            is_short: false,
        }
    }

    /// Takes note of a command that does not wait for its turn.
    pub(crate) fn spend(&mut self) {
        self.commands.tokens -= 1.0;
    }

    /// Takes a command of so many bytes, if it may be sent now. One that is larger than all that may be sent at once waits for that.
    pub(crate) fn take(&mut self, bytes: u64, now: Millis) -> bool {
        self.fill(now);
        // Some are kept for what does not wait: signs of life, credentials.
        let reserve = (self.commands.burst / 8.0).min(RESERVE_MAX);
        let bytes = bytes as f64;
        let may_send = now >= self.blocked_until
            // A server that allows one command at a time allows no reserve.
            && self.commands.tokens >= (reserve + 1.0).min(self.commands.burst)
            && self.bytes.tokens >= bytes.min(self.bytes.burst);
        if may_send {
            self.commands.tokens -= 1.0;
            self.bytes.tokens -= bytes;
        } else {
            self.is_short = true;
        }
        may_send
    }

    /// Takes a `subscribe` of at most `wanted` channels: of how many, 0 for not now.
    ///
    /// While there is plenty each channel goes out at once, else those that come within a moment go out together.
    pub(crate) fn take_channels(&mut self, wanted: u32, now: Millis) -> u32 {
        self.fill(now);
        let is_low = self.commands.tokens < self.commands.burst / 2.0;
        if is_low && self.takes_lists && now < self.subscribed_at + GATHER {
            self.is_short = true;
            return 0;
        }
        if !self.take(0, now) {
            return 0;
        }
        self.subscribed_at = now;
        let count = wanted.min(self.channels.tokens as u32).min(LIST_MAX);
        if count < 2 {
            return 1;
        }
        self.channels.tokens -= f64::from(count);
        count
    }

    /// Whether to hold back what is ready for a moment, because more is about to be.
    pub(crate) fn gathers(&mut self, is_more_to_come: bool, now: Millis) -> bool {
        let since = self.gathering_since.unwrap_or(now);
        let gathers = is_more_to_come && self.takes_lists && now < since + GATHER;
        self.gathering_since = gathers.then_some(since);
        self.is_short |= gathers;
        gathers
    }

    /// The server says that it was too soon.
    pub(crate) fn block(&mut self, wait: u64, now: Millis) {
        self.blocked_until = now + wait.min(BLOCK_MAX);
        self.is_short = true;
    }

    /// When to try again what had to wait.
    pub(crate) fn next_try(&self, now: Millis) -> Option<Millis> {
        self.is_short
            .then(|| self.blocked_until.max(now + TRY_AGAIN))
    }

    fn fill(&mut self, now: Millis) {
        let seconds = now.since(self.filled_at) as f64 / 1_000.0;
        self.filled_at = now;
        for bucket in [&mut self.commands, &mut self.channels, &mut self.bytes] {
            bucket.tokens = (bucket.tokens + seconds * bucket.per_second).min(bucket.burst);
        }
    }
}

impl Bucket {
    fn full(per_second: u64, burst: u64) -> Self {
        let burst = burst as f64;
        Self {
            tokens: burst,
            per_second: per_second as f64,
            burst,
        }
    }
}

/// 100: with names of usual length a list stays below a frame of 16 KiB, and 50 of them bring 5,000 channels back.
const LIST_MAX: u32 = 100;

/// What a connection may name in lists at least, says docs/protocol.md.
const ALLOWANCE_MIN: u64 = 1_000;

/// Three quarters of what servers allow that do not say it.
const UNTOLD_PER_SECOND: u64 = 37;
const UNTOLD_BURST: u64 = 150;

const RESERVE_MAX: f64 = 16.0;

/// 50 ms: what is wanted within it goes out as one list, once commands are scarce or where channel tokens come one by one.
const GATHER: u64 = 50;

/// 20 ms: as long as a server that allows 50 commands per second takes for one.
const TRY_AGAIN: u64 = 20;

/// 10 s: however long the server says.
const BLOCK_MAX: u64 = 10_000;
