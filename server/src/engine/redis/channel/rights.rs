//! What the login of Redis is not allowed: found at the start and named, so that whoever set it up knows what to add.

use fanfare_protocol::{ChannelName, IdempotencyKey, SocketId};
use redis::Value;
use redis::aio::ConnectionLike;
use tokio::time::Instant;

use super::keys::{self, Keys};
use crate::delivery::Publication;
use crate::engine::redis::connection::commands::{Call, Commands};
use crate::engine::redis::connection::connections::{Connection, Server};
use crate::engine::redis::connection::error::CommandError;
use crate::engine::redis::connection::topology::Layout;

/// Tries at a master everything that servers do there.
///
/// # Errors
/// [`CommandError::Refused`] names all rights that are missing; anything else that went wrong says nothing about rights.
pub(crate) async fn check(
    commands: &Commands,
    layout: &Layout,
    server: &Server,
    deadline: Instant,
) -> Result<(), CommandError> {
    let Some(channel) = channel_at(layout, server, "rights") else {
        return Ok(());
    };
    let names = commands.keys();
    let publication = unsaid(&channel);
    let key = IdempotencyKey::new("k").ok();
    let mut of_channel = vec![
        names.position(&channel),
        names.stream(&channel),
        names.count(&channel),
        names.connections(&channel),
        names.expiries(&channel),
        names.users(&channel),
        names.members(&channel),
    ];
    of_channel.extend(key.map(|key| names.idempotency(&publication, &key)));
    let mut missing = Missing::new(names);
    let name = names.channel(&channel);
    missing.note(try_all(commands, deadline, &channel, &of_channel, &name).await)?;
    if let Ok(nodes) = ChannelName::new(NODES)
        && layout.owner(keys::slot(NODES)) == Some(server)
    {
        let own = [names.scratch()];
        missing.note(try_all(commands, deadline, &nodes, &own, &names.requests()).await)?;
    }
    let connection = commands.connection(deadline, &channel).await?;
    let (listen, leave) = match commands.topology().is_cluster() {
        true => ("SSUBSCRIBE", "SUNSUBSCRIBE"),
        false => ("SUBSCRIBE", "UNSUBSCRIBE"),
    };
    let (name, probe) = (name.as_str(), names.probe(&channel));
    let words: [&[&str]; 5] = [
        // A script is sent as a text only where Redis has forgotten it.
        &["EVAL", "return 1", "1", of_channel[0].as_str()],
        &[listen, name],
        &[leave, name],
        &[listen, probe.as_str()],
        &[leave, probe.as_str()],
    ];
    for words in words {
        let said = say(deadline, &connection, words).await;
        missing.note(said.map(|()| Vec::new()))?;
    }
    missing.into_result(server)
}

/// A name that no channel of an application has, of a slot that a master owns. Nobody can guess it.
pub(crate) fn channel_at(layout: &Layout, server: &Server, purpose: &str) -> Option<ChannelName> {
    let random = fastrand::u64(1..);
    let tags = (0..TAGS_TRIED)
        .filter_map(|attempt| ChannelName::new(&format!("{purpose}:{random:x}:{attempt}")).ok());
    let mut fitting = tags.filter(|tag| layout.owner(keys::slot(tag.as_str())) == Some(server));
    fitting.next()
}

/// A publication of a client without a user, for the name of its key.
fn unsaid(channel: &ChannelName) -> Publication {
    Publication::member_removed_head(channel.clone()).from_connection(SocketId::from_bits(0))
}

/// Answers the commands that are denied, each with the words of Redis.
async fn try_all(
    commands: &Commands,
    deadline: Instant,
    channel: &ChannelName,
    keys: &[String],
    redis_channel: &str,
) -> Result<Vec<(String, String)>, CommandError> {
    let call = Call {
        attempted: "checking rights",
        script: &commands.scripts().rights,
        channel,
        keys,
        args: &[
            commands.publish_command().as_bytes(),
            redis_channel.as_bytes(),
        ],
    };
    let Value::Array(parts) = commands.run_until(deadline, call).await? else {
        return Ok(Vec::new());
    };
    let text = |value: &Value| {
        crate::engine::redis::text(value)
            .unwrap_or_default()
            .to_owned()
    };
    let pairs = parts.chunks_exact(2);
    Ok(pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect())
}

async fn say(
    deadline: Instant,
    connection: &Connection,
    words: &[&str],
) -> Result<(), CommandError> {
    let mut command = redis::pipe();
    for (at, word) in words.iter().enumerate() {
        match at {
            0 => command.cmd(word),
            _ => command.arg(word),
        };
    }
    let mut sending = connection.commands.clone();
    let sent = sending.req_packed_commands(&command, 0, 1);
    let replies = crate::engine::redis::connection::commands::within(deadline, sent).await;
    let replies = replies.and_then(|replies| {
        let replies = replies.into_iter().map(Value::extract_error);
        replies.collect::<Result<Vec<_>, _>>()
    });
    replies
        .map(|_| ())
        .map_err(|error| CommandError::while_executing(&error))
}

/// The rights that were found to be missing.
struct Missing<'a> {
    names: &'a Keys,
    rights: Vec<String>,
}

impl<'a> Missing<'a> {
    const fn new(names: &'a Keys) -> Self {
        Self {
            names,
            rights: Vec::new(),
        }
    }

    fn note(
        &mut self,
        tried: Result<Vec<(String, String)>, CommandError>,
    ) -> Result<(), CommandError> {
        match tried {
            Ok(denied) => {
                for (command, text) in denied {
                    self.add(right(&text, Some(&command), self.names.prefix()));
                }
                Ok(())
            }
            Err(CommandError::Denied { right, .. }) => {
                self.add(right);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, right: String) {
        let right = right.replace(NO_PREFIX, self.names.prefix());
        if !self.rights.contains(&right) {
            self.rights.push(right);
        }
    }

    fn into_result(self, server: &Server) -> Result<(), CommandError> {
        if self.rights.is_empty() {
            return Ok(());
        }
        let rights = self.rights.join(" ");
        Err(CommandError::Refused(format!(
            "{server} denies this login rights that it needs: {rights}"
        )))
    }
}

/// What an answer of Redis says about a right that the login lacks: nothing, or whether that showed in the middle of a script.
pub(crate) fn denial(text: &str) -> Option<IsInScript> {
    let is_in_script = text.contains("The user executing the script can")
        || text.contains("ACL failure in script");
    // The library writes `NoPerm: …` where Redis begins with `NOPERM`.
    let is_denied = is_in_script || text.contains("NOPERM") || text.starts_with("NoPerm: ");
    is_denied.then_some(IsInScript(is_in_script))
}

/// Whether a script had begun when it was denied something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IsInScript(pub(crate) bool);

/// The right that is missing, as `ACL SETUSER` takes it.
pub(crate) fn right(text: &str, command: Option<&str>, prefix: &str) -> String {
    let quoted = || text.split('\'').nth(1).filter(|word| !word.contains(' '));
    if text.contains(" channel") {
        format!("&{prefix}*")
    } else if text.contains(" key") {
        format!("~{prefix}*")
    } else if let Some(command) = command.or_else(quoted) {
        format!("+{}", command.to_ascii_lowercase())
    } else {
        "(a command of the scripts)".to_owned()
    }
}

/// Stands for the prefix where that is not known.
pub(crate) const NO_PREFIX: &str = "{prefix}";

/// What stands for the nodes themselves where others have a channel's name.
pub(crate) const NODES: &str = "nodes";

/// 100,000: even a master with one slot of 16,384 owns one of so many tags.
const TAGS_TRIED: u32 = 100_000;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::redis::connection::scripts::Scripts;

    #[test]
    fn every_command_of_the_scripts_is_tried() {
        let texts = RefCell::new(Vec::new());
        let _ = Scripts::edited(|name, text| {
            texts.borrow_mut().push((name, text.clone()));
            text
        });
        let texts = texts.into_inner();
        let rights = texts.iter().find(|(name, _)| *name == "rights").unwrap();
        let mut used = BTreeSet::new();
        for (_, text) in texts.iter().filter(|(name, _)| *name != "rights") {
            // What a script only tries, it can do without.
            for call in text.split("redis.call('").skip(1) {
                used.insert(call.split('\'').next().unwrap());
            }
        }
        assert!(used.len() > 20, "{used:?}");
        for command in used {
            let is_tried = rights.1.contains(&format!("{{ '{command}'"));
            assert!(is_tried, "{command} is used and not tried");
        }
    }

    #[test]
    fn what_versions_of_redis_say_names_the_right() {
        // (what Redis says, whether a script had begun, the right)
        let rows = [
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                false,
                "~p:*",
            ),
            ("NOPERM No permissions to access a key", false, "~p:*"),
            (
                "NoPerm: this user has no permissions to access one of the keys used as arguments",
                false,
                "~p:*",
            ),
            (
                "NOPERM this user has no permissions to access one of the channels used as arguments",
                false,
                "&p:*",
            ),
            (
                "NOPERM this user has no permissions to run the 'subscribe' command",
                false,
                "+subscribe",
            ),
            (
                "NOPERM User fan has no permissions to run the 'evalsha' command",
                false,
                "+evalsha",
            ),
            (
                "ERR The user executing the script can't run this command or subcommand",
                true,
                "(a command of the scripts)",
            ),
            (
                "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
                true,
                "~p:*",
            ),
            (
                "ERR The user executing the script can't publish to the channel mentioned in the command",
                true,
                "&p:*",
            ),
            (
                "NOPERM ACL failure in script: User fan has no permissions to run the 'xadd' command",
                true,
                "+xadd",
            ),
            (
                "NOPERM ACL failure in script: No permissions to access a channel",
                true,
                "&p:*",
            ),
        ];
        for (text, is_in_script, expected) in rows {
            assert_eq!(denial(text), Some(IsInScript(is_in_script)), "{text}");
            assert_eq!(right(text, None, "p:"), expected, "{text}");
        }
        assert_eq!(
            denial("OOM command not allowed when used memory > 'maxmemory'."),
            None
        );
    }
}
