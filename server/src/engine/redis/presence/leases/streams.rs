//! Calls about many channels of one server.

use fanfare_protocol::ChannelName;
use futures_util::stream::{self, StreamExt};
use tracing::warn;

use crate::engine::redis::connection::error::CommandError;

/// What became of calls to one server.
#[derive(Default)]
pub(super) struct Outcome {
    /// Whether the server was given up.
    pub(super) is_away: bool,
    /// Why a call failed, if one did.
    pub(super) failure: Option<CommandError>,
}

impl Outcome {
    /// Makes calls to one server, some at once. When as many as that have failed in a row, the server is given up: every further
    /// one would run into its deadline too.
    pub(super) async fn of<T, F>(
        calls: Vec<(ChannelName, T)>,
        at_once: usize,
        call: impl Fn(ChannelName, T) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), CommandError>>,
    {
        let enough = at_once.min(calls.len());
        let answers = calls.into_iter().map(|(channel, what)| {
            let answer = call(channel.clone(), what);
            async move { (channel, answer.await) }
        });
        let mut answers = stream::iter(answers).buffer_unordered(at_once);
        let mut outcome = Self::default();
        let mut in_a_row = 0;
        while let Some((channel, answer)) = answers.next().await {
            match answer {
                Ok(()) => in_a_row = 0,
                Err(error @ (CommandError::NotExecuted(_) | CommandError::Unknown(_))) => {
                    in_a_row += 1;
                    outcome.failure = Some(error);
                }
                // Of this channel alone.
                Err(error) => {
                    in_a_row = 0;
                    warn!(%channel, %error, "presence of a channel cannot be kept");
                }
            }
            if in_a_row == enough {
                outcome.is_away = true;
                break;
            }
        }
        outcome
    }
}
