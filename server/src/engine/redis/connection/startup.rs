//! Checks at the start whether Redis is new enough, which is required, and whether its settings keep the promises, which is only
//! warned about, with what to set.

use redis::aio::ConnectionLike;
use redis::{RedisError, Value};
use tracing::warn;

use super::cluster;
use super::commands::Commands;
use super::connections::{Connection, Server};
use super::error::CommandError;
use super::topology::Layout;
use crate::engine::EngineError;

/// Checks every master. Waits for a Redis that is starting, within the budget of a call.
///
/// # Errors
/// When Redis cannot be reached, is too old, or is another kind of Redis than the URL says.
pub(crate) async fn check(commands: &Commands) -> Result<(), EngineError> {
    let mut retry = commands.retry("starting");
    loop {
        match attempt(commands).await {
            Ok(servers) => {
                for (server, facts) in servers {
                    refuse(commands.topology().is_cluster(), &server, &facts)?;
                    commands.note_memory_max(facts.memory_max);
                    facts
                        .warnings()
                        .iter()
                        .for_each(|warning| warning.log(&server));
                }
                return Ok(());
            }
            // Only questions were asked.
            Err(CommandError::Unknown(detail)) => {
                retry.pause(CommandError::NotExecuted(detail), true).await?;
            }
            Err(error) => retry.pause(error, true).await?,
        }
        commands.topology().distrust();
    }
}

async fn attempt(commands: &Commands) -> Result<Vec<(Server, Facts)>, CommandError> {
    let layout: Layout = commands.topology().layout().await?;
    let mut servers = Vec::new();
    for server in layout.masters() {
        let connection = commands.topology().connections().shared(&server).await?;
        let facts = ask(&connection).await.map_err(|error| {
            commands.topology().connections().retire(&connection);
            CommandError::while_executing(&error)
        })?;
        if commands.topology().is_cluster() {
            let migrating = cluster::migrating_slots(&connection).await;
            migrating.map_err(|error| migrating_error(commands, &connection, &error))?;
        }
        servers.push((server, facts));
    }
    Ok(servers)
}

fn migrating_error(
    commands: &Commands,
    connection: &Connection,
    error: &RedisError,
) -> CommandError {
    let server = &connection.server;
    match commands.judge(connection, error) {
        error @ (CommandError::Refused(_) | CommandError::Denied { .. }) => CommandError::Refused(
            format!("{server} does not tell which slots are on their way: {error}"),
        ),
        other => other,
    }
}

async fn ask(connection: &Connection) -> redis::RedisResult<Facts> {
    let mut questions = redis::pipe();
    questions.cmd("INFO");
    for setting in ["maxmemory-policy", "save", "min-replicas-to-write"] {
        questions.cmd("CONFIG").arg("GET").arg(setting);
    }
    let mut asking = connection.commands.clone();
    let answers = asking.req_packed_commands(&questions, 0, 4).await?;
    let mut answers = answers.into_iter();
    let info = answers.next().map(Value::extract_error);
    // Managed services forbid CONFIG, some users even INFO: then there is less to say.
    let info: String = match info {
        Some(Ok(info)) => redis::from_redis_value(info).unwrap_or_default(),
        _ => String::new(),
    };
    let settings: Vec<Option<String>> = answers
        .map(|answer| {
            let pairs: Vec<(String, String)> = redis::from_redis_value(answer).ok()?;
            pairs.into_iter().next().map(|(_, value)| value)
        })
        .collect();
    Ok(Facts::read(&info, &settings))
}

fn refuse(is_cluster: bool, server: &Server, facts: &Facts) -> Result<(), EngineError> {
    let oldest = if is_cluster { OLDEST_CLUSTER } else { OLDEST };
    let what = match facts.version {
        Some(version) if version < oldest => {
            format!("use {server}: it runs Redis {version}, and needs at least {oldest}")
        }
        _ if facts.is_cluster && !is_cluster => format!(
            "use {server} as a single server: it is part of a cluster, write redis+cluster://"
        ),
        _ => return Ok(()),
    };
    Err(EngineError::Unsupported {
        engine: super::ENGINE,
        what,
    })
}

/// A version of Redis, by its first two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u16, pub(crate) u16);

/// Exclusive ranges of streams, `RESP3`, and effects of scripts rather than scripts to the replicas.
const OLDEST: Version = Version(6, 2);

/// Sharded pub/sub.
const OLDEST_CLUSTER: Version = Version(7, 0);

impl Version {
    /// Reads `7.0.15`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What a server says about itself; unknown where it does not say.
#[derive(Debug, Default, PartialEq)]
struct Facts {
    version: Option<Version>,
    is_cluster: bool,
    is_replica: bool,
    memory_max: usize,
    eviction: Option<String>,
    has_log: Option<bool>,
    has_snapshots: Option<bool>,
    replicas: u64,
    replicas_to_write: Option<u64>,
}

impl Facts {
    fn read(info: &str, settings: &[Option<String>]) -> Self {
        let number = |name: &str| field(info, name).and_then(|value| value.parse::<u64>().ok());
        let setting = |index: usize| settings.get(index).cloned().flatten();
        Self {
            version: field(info, "redis_version").and_then(Version::parse),
            is_cluster: number("cluster_enabled") == Some(1),
            is_replica: field(info, "role") == Some("slave"),
            memory_max: number("maxmemory")
                .and_then(|n| n.try_into().ok())
                .unwrap_or(0),
            eviction: field(info, "maxmemory_policy")
                .map(str::to_owned)
                .or_else(|| setting(0)),
            has_log: number("aof_enabled").map(|flag| flag == 1),
            has_snapshots: setting(1).map(|save| !save.is_empty()),
            replicas: number("connected_slaves").unwrap_or(0),
            replicas_to_write: setting(2).and_then(|count| count.parse().ok()),
        }
    }

    fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |is_so: bool, setting, found: String, advice| {
            if is_so {
                warnings.push(Warning {
                    setting,
                    found,
                    advice,
                });
            }
        };
        warn(
            self.is_replica,
            "role",
            "replica".to_owned(),
            "every publish will be refused: name the master, or use redis+sentinel://",
        );
        let eviction = self.eviction.clone().unwrap_or_default();
        warn(
            !matches!(eviction.as_str(), "" | "noeviction"),
            "maxmemory-policy",
            eviction.clone(),
            "under memory pressure Redis drops histories, and subscribers must reload: set `noeviction`, \
             then publishes fail instead",
        );
        warn(
            self.has_log == Some(false),
            "appendonly",
            "no".to_owned(),
            if self.has_snapshots == Some(false) {
                "a restart of Redis loses every history, and subscribers must reload: set `appendonly yes`"
            } else {
                "a restart of Redis loses what came after the last snapshot, and subscribers must reload: \
                 set `appendonly yes`"
            },
        );
        warn(
            self.replicas > 0 && self.replicas_to_write == Some(0),
            "min-replicas-to-write",
            "0".to_owned(),
            "a master that is cut off accepts messages that the failover then loses: set 1, and \
             `min-replicas-max-lag 10`",
        );
        warnings
    }
}

/// A setting that does not keep what channels with history promise.
#[derive(Debug, PartialEq)]
struct Warning {
    setting: &'static str,
    found: String,
    advice: &'static str,
}

impl Warning {
    fn log(&self, server: &Server) {
        let Self {
            setting,
            found,
            advice,
        } = self;
        warn!(%server, setting, %found, advice, "a setting of Redis weakens what is promised");
    }
}

/// A field of what `INFO` answers.
pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    lines.find_map(|(field, value)| (field == name).then(|| value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(lines: &[&str]) -> String {
        lines.join("\r\n")
    }

    fn warned(facts: &Facts) -> Vec<&'static str> {
        facts
            .warnings()
            .iter()
            .map(|warning| warning.setting)
            .collect()
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(Version::parse("7.0.15"), Some(Version(7, 0)));
        assert_eq!(Version::parse("255.255.255"), Some(Version(255, 255)));
        assert_eq!(Version::parse("unstable"), None);
        assert!(Version(10, 0) > Version(7, 2));
    }

    #[test]
    fn a_redis_as_it_should_be_gets_no_warning() {
        let text = info(&[
            "# Server",
            "redis_version:7.0.15",
            "role:master",
            "maxmemory:1000",
            "maxmemory_policy:noeviction",
            "aof_enabled:1",
            "connected_slaves:1",
        ]);
        let facts = Facts::read(&text, &[None, Some(String::new()), Some("1".to_owned())]);
        assert_eq!(facts.version, Some(Version(7, 0)));
        assert_eq!(facts.memory_max, 1_000);
        assert_eq!(warned(&facts), [""; 0]);
    }

    #[test]
    fn every_weak_setting_is_named() {
        let text = info(&[
            "role:slave",
            "maxmemory_policy:volatile-lru",
            "aof_enabled:0",
            "connected_slaves:2",
        ]);
        let facts = Facts::read(&text, &[None, Some(String::new()), Some("0".to_owned())]);
        assert_eq!(
            warned(&facts),
            [
                "role",
                "maxmemory-policy",
                "appendonly",
                "min-replicas-to-write"
            ]
        );
        assert!(facts.warnings()[2].advice.contains("every history"));
    }

    #[test]
    fn what_is_too_old_or_of_another_kind_is_refused() {
        let server = Server::at("redis", 6379);
        let refused = |text: &str, is_cluster| {
            let outcome = refuse(is_cluster, &server, &Facts::read(text, &[]));
            outcome.err().map(|error| error.to_string())
        };
        let old = refused("redis_version:6.0.16", false).unwrap();
        assert_eq!(
            old,
            "the Redis engine cannot use redis:6379: it runs Redis 6.0, and needs at least 6.2"
        );
        assert_eq!(refused("redis_version:6.2.0", false), None);
        let old = refused("redis_version:6.2.14\ncluster_enabled:1", true).unwrap();
        assert!(old.ends_with("needs at least 7.0"), "{old}");
        assert_eq!(
            refused("redis_version:7.0.0\ncluster_enabled:1", true),
            None
        );
        let part = refused("redis_version:7.0.0\ncluster_enabled:1", false).unwrap();
        assert!(part.contains("redis+cluster://"), "{part}");
        assert_eq!(refused("", true), None, "a server that does not say");
    }

    #[test]
    fn what_redis_does_not_say_is_not_warned_about() {
        assert_eq!(warned(&Facts::read("", &[])), [""; 0]);
    }
}
