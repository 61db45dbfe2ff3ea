//! A message on a channel without positions that is on its way to its master.

use std::sync::Arc;

use fanfare_protocol::ChannelName;

use crate::clock::Instant;
use crate::engine::redis::flow::Shared;

/// Notes what this node says: when it begins, because it may be heard at once, and however it ends, because it may have been heard
/// just then.
pub(crate) struct PublishGuard<'a> {
    shared: &'a Arc<Shared>,
    channel: &'a ChannelName,
    /// How often masters had been replaced when it began.
    replacements: u64,
}

impl<'a> PublishGuard<'a> {
    /// It is about to be sent.
    pub(crate) fn new(shared: &'a Arc<Shared>, channel: &'a ChannelName) -> Self {
        shared.unconfirmed.note(channel, Instant::now());
        Self {
            shared,
            channel,
            replacements: shared.commands.topology().replacements(),
        }
    }
}

impl Drop for PublishGuard<'_> {
    fn drop(&mut self) {
        self.shared.unconfirmed.note(self.channel, Instant::now());
        if self.shared.commands.topology().replacements() != self.replacements {
            self.shared.note_published_during_failover();
        }
    }
}
