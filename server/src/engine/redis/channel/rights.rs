//! Rights that the login lacks: tried at the start and named as `ACL SETUSER` takes them, so that an operator knows what to add.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "a server cannot publish: its login lost rights".

use fanfare_protocol::{ChannelName, IdempotencyKey, SocketId};
use redis::Value;
use redis::aio::ConnectionLike;
use tokio::time::Instant;

use super::keys::{Keys, NODES};
use super::store::ChannelStore;
use crate::delivery::Publication;
use crate::engine::EngineError;
use crate::engine::redis::connection::cluster::slot;
use crate::engine::redis::connection::commands::Call;
use crate::engine::redis::connection::connections::{Connection, Server};
use crate::engine::redis::connection::error::{CommandError, NO_PREFIX, right};
use crate::engine::redis::connection::topology::Layout;

/// Names what the login may not do at any master. Waits for a Redis that is starting, within the budget of a call.
///
/// # Errors
/// When Redis cannot be reached, or the login lacks a right.
pub(crate) async fn check(store: &ChannelStore) -> Result<(), EngineError> {
    let topology = store.commands().topology();
    let mut retry = store.commands().retry("starting");
    loop {
        let checked = async {
            let layout = topology.layout().await?;
            for server in layout.masters() {
                check_at(store, &layout, &server, retry.deadline()).await?;
            }
            Ok::<(), CommandError>(())
        };
        match checked.await {
            Ok(()) => return Ok(()),
            // Nothing that was tried leaves anything behind.
            Err(CommandError::Unknown(detail)) => {
                retry.pause(CommandError::NotExecuted(detail), true).await?;
            }
            Err(error) => retry.pause(error, true).await?,
        }
        topology.distrust();
    }
}

/// Tries at a master every command that servers run there.
///
/// # Errors
/// [`CommandError::Refused`] names all rights that are missing; anything else that went wrong says nothing about rights.
async fn check_at(
    store: &ChannelStore,
    layout: &Layout,
    server: &Server,
    deadline: Instant,
) -> Result<(), CommandError> {
    let Some(channel) = layout.tag_at(server, &format!("rights:{:x}", fastrand::u64(1..))) else {
        return Ok(());
    };
    let names = store.keys();
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
    missing.note(try_all(store, deadline, &channel, &of_channel, &name).await)?;
    if let Ok(nodes) = ChannelName::new(NODES)
        && layout.owner(slot(NODES)) == Some(server)
    {
        let own = [names.scratch()];
        missing.note(try_all(store, deadline, &nodes, &own, &names.requests()).await)?;
    }
    let connection = store.commands().connection(deadline, &channel).await?;
    let (listen, leave) = match store.commands().topology().is_cluster() {
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

/// A publication of a client without a user, for the name of its key.
fn unsaid(channel: &ChannelName) -> Publication {
    Publication::member_removed_head(channel.clone()).from_connection(SocketId::from_bits(0))
}

/// Returns the commands that are denied, each with the error text of Redis.
async fn try_all(
    store: &ChannelStore,
    deadline: Instant,
    channel: &ChannelName,
    keys: &[String],
    redis_channel: &str,
) -> Result<Vec<(String, String)>, CommandError> {
    let call = Call {
        attempted: "checking rights",
        script: &store.scripts().rights,
        channel,
        keys,
        args: &[
            store.commands().publish_command().as_bytes(),
            redis_channel.as_bytes(),
        ],
        last_args: None,
    };
    let Value::Array(parts) = store.commands().run_until(deadline, call).await? else {
        return Ok(Vec::new());
    };
    let text = |value: &Value| {
        crate::engine::redis::connection::text(value)
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

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
}
