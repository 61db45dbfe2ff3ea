//! A question about several channels at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use fanfare_protocol::ChannelName;
use futures_util::stream::{self, StreamExt as _};
use serde::Serialize;

use super::{AuthEndpoint, Permission, Refusal};
use crate::auth::Caller;

/// The channels of a question, each once.
pub(super) struct List(BTreeSet<String>);

/// The body of an answer: every channel that was asked about.
#[derive(Debug, Serialize)]
pub(super) struct Answers {
    channels: BTreeMap<String, Answer>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Permitted(Permission),
    Refused { error: String, code: u16 },
}

impl List {
    pub(super) fn new(names: Vec<String>) -> Result<Self, Refusal> {
        if names.is_empty() || names.len() > CHANNELS_MAX {
            let count = names.len();
            let text = format!("`channels` has 1 to {CHANNELS_MAX} names, this one has {count}");
            return Err(Refusal::bad(text));
        }
        Ok(Self(names.into_iter().collect()))
    }
}

impl AuthEndpoint {
    /// Judges every channel of a list, a few at a time.
    pub(super) async fn judge_all(
        &self,
        caller: &Caller,
        list: List,
        asked_at: SystemTime,
    ) -> Answers {
        let judge = |name: String| async move {
            let judged = match ChannelName::new(&name) {
                Ok(channel) => self.judge(caller, &channel, asked_at).await,
                Err(error) => Err(Refusal::bad_channel(error.to_string())),
            };
            let answer = match judged {
                Ok(permission) => Answer::Permitted(permission),
                Err(refusal) => Answer::Refused {
                    error: refusal.error,
                    code: refusal.code.number(),
                },
            };
            (name, answer)
        };
        let judged = stream::iter(list.0)
            .map(judge)
            .buffer_unordered(JUDGED_AT_ONCE);
        Answers {
            channels: judged.collect().await,
        }
    }
}

/// 100: as many channels as a connection has by default.
const CHANNELS_MAX: usize = 100;

/// 8: one question takes no more of an authorizer at a time than a few connections do.
const JUDGED_AT_ONCE: usize = 8;
