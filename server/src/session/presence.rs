//! The info that a member shows of itself: where it may, what that costs, and what is shown when it takes that back.

use fanfare_protocol::{ChannelName, Code, RawJson, Reply, Subscribe};

use super::effects::Setting;
use super::io::{Effect, Outcome, Refusal};
use super::{Session, Task};
use crate::auth::member::check_info;
use crate::clock::Moment;

impl Session {
    /// Shows other info of this connection to its channel.
    pub(super) fn update_presence(
        &mut self,
        id: Option<u64>,
        channel: &ChannelName,
        info: RawJson,
        now: Moment,
    ) {
        let info = match self.may_update(channel) {
            Ok(()) => self.shown(channel, info),
            Err(refusal) => return self.refuse_for(id, refusal),
        };
        if let Err(refusal) = self.take_info_bytes(&info, now) {
            return self.refuse_for(id, refusal);
        }
        let task = Task::Reply {
            request: id,
            channel: channel.clone(),
        };
        let effect = Effect::UpdatePresence {
            request: id,
            channel: channel.clone(),
            info,
        };
        self.start_on(channel, task, effect);
    }

    /// Judges the info that comes with a subscription; answers what the connection is to show, where that is not what the
    /// server knows of it.
    pub(super) fn info_to_join_with(
        &mut self,
        subscribe: &Subscribe,
        now: Moment,
    ) -> Result<Option<RawJson>, Refusal> {
        let Some(info) = &subscribe.info else {
            return Ok(None);
        };
        let channel = &subscribe.channel;
        self.may_show_info(channel)?;
        let info = match is_null(info) {
            true => self.joined_info(channel),
            false => Some(info.clone()),
        };
        if let Some(info) = &info {
            self.take_info_bytes(info, now)?;
        }
        Ok(info)
    }

    fn may_update(&self, channel: &ChannelName) -> Result<(), Refusal> {
        if self.terms.rules.has_presence(channel) && !self.is_live(channel) {
            return Err(Refusal::new(Code::NOT_SUBSCRIBED));
        }
        self.may_show_info(channel)
    }

    fn may_show_info(&self, channel: &ChannelName) -> Result<(), Refusal> {
        let rules = &self.terms.rules;
        if !rules.has_presence(channel) {
            return Err(Refusal::new(Code::NO_PRESENCE));
        }
        if !rules.of(channel).presence_update {
            return Err(Refusal::new(Code::PRESENCE_UPDATE_NOT_ALLOWED));
        }
        Ok(())
    }

    /// What an update shows: `null` takes the ones before it back.
    fn shown(&self, channel: &ChannelName, info: RawJson) -> RawJson {
        match is_null(&info) {
            true => self.joined_info(channel).unwrap_or(info),
            false => info,
        }
    }

    /// Takes what is shown, also where an update of a few bytes takes a longer one back: the channel gets all of it.
    fn take_info_bytes(&mut self, info: &RawJson, now: Moment) -> Result<(), Refusal> {
        check_info(info)
            .map_err(|error| Refusal::new(Code::PAYLOAD_TOO_LARGE).with_text(error.to_string()))?;
        self.take_publish_bytes(info.len(), now)
    }
}

impl Setting {
    pub(super) async fn update_presence(
        &self,
        request: Option<u64>,
        channel: &ChannelName,
        info: RawJson,
    ) -> Result<Outcome, Refusal> {
        self.take_channel_bytes(channel, info.len())?;
        self.show(channel, info).await?;
        Ok(request.map_or(Outcome::Accepted, |id| {
            Outcome::Replied(Box::new(Reply::new(id)))
        }))
    }

    /// Shows other info of this connection to its channel. To repeat this is harmless, so that a store that does not answer, or
    /// does not know the connection yet again, is `unavailable`.
    pub(super) async fn show(&self, channel: &ChannelName, info: RawJson) -> Result<(), Refusal> {
        let deadline = self.services.terms.limits.engine_deadline;
        let room = self.services.hub.admit(channel);
        if tokio::time::timeout(deadline, room).await.is_err() {
            return Err(Refusal::unavailable());
        }
        let retention = self.services.terms.rules.retention(channel);
        let presence = &self.services.engine.presence;
        let update = presence.update(channel, self.outbox.socket(), info, retention);
        match self.within_engine(update).await? {
            true => Ok(()),
            false => Err(Refusal::unavailable()),
        }
    }
}

fn is_null(info: &RawJson) -> bool {
    info.as_str() == "null"
}
