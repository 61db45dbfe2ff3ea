//! What this client shows of its user in a presence channel, beside what the server or a signature says.
//!
//! An update is a request like others while the channel is subscribed. Until then it waits, and goes out as the `info` of
//! `subscribe`; so does, each time the client comes back as the same user, the last one that succeeded.

use fanfare_protocol::Code;

use crate::ClientError;
use crate::machine::Machine;
use crate::machine::channel::Phase;
use crate::machine::values::{Refusal, Update, Values};

impl<V: Values> Machine<V> {
    /// The info to join with: that of the newest update that is not on its way, else of the last one that succeeded. What is on its
    /// way has an answer of its own, which the subscription must not prove wrong.
    pub(crate) fn info_to_join(&self, at: usize) -> Option<V::Hint> {
        let channel = &self.channels[at];
        match self.requests.newest_update(&channel.name) {
            Some(Update(info)) => info.clone(),
            None => channel.info.clone(),
        }
    }

    /// The subscription that was asked for with this id stands, and with it all updates that it went out with.
    pub(crate) fn joined_with_info(&mut self, at: usize, id: u64) {
        let channel = &mut self.channels[at];
        channel.info = channel.joining_with.take();
        let name = channel.name.clone();
        self.finish_updates(&name, id);
    }

    /// The update that was asked for with this id has succeeded.
    pub(crate) fn updated(&mut self, channel: &V::Channel, Update(info): Update<V>, id: u64) {
        if let Ok(at) = self.find(channel) {
            self.channels[at].info = info;
        }
        self.finish_updates(channel, id);
    }

    /// Ends the updates that a later one, or a subscription, has overtaken.
    fn finish_updates(&mut self, channel: &V::Channel, before: u64) {
        while let Some(pending) = self.requests.take_update(channel, before) {
            self.answer(pending.question.request, Ok(V::done()));
        }
    }

    /// The server does not take the info that a channel was asked for with: it is asked for without.
    pub(crate) fn info_refused(&mut self, at: usize, refusal: &Refusal<V>) {
        let Phase::Subscribing { id, .. } = self.channels[at].phase else {
            return;
        };
        let channel = self.channels[at].name.clone();
        let mut is_told = false;
        while let Some(pending) = self.requests.take_update(&channel, id) {
            is_told = true;
            self.answer(pending.question.request, Err(refusal.error()));
        }
        if !is_told {
            self.complain(refusal.error());
        }
        if !is_told || refusal.code == Code::PRESENCE_UPDATE_NOT_ALLOWED.number() {
            self.channels[at].info = None;
        }
        self.start(at);
    }

    /// Another user has nothing to do with what the last one showed. On a connection without a user each channel token names one,
    /// and the next token may name another.
    pub(crate) fn forget_info_of_others(&mut self, user: Option<&V::User>) {
        let owner = self.requests.owner();
        if user.is_none() || (owner.is_some() && owner != user) {
            for channel in &mut self.channels {
                channel.info = None;
                channel.joining_with = None;
            }
            // It would be repeated in the name of the other one.
            while let Some(pending) = self.requests.take_uncertain_update() {
                let request = pending.question.request;
                self.answer(request, Err(ClientError::UnknownOutcome));
            }
        }
    }
}
