//! Asks the sentinels for the master.
//!
//! Around a partition sentinels name different masters, and each of these takes the role of master. Their `config-epoch` decides:
//! every failover gets a higher one from a majority of the sentinels. So all of them are asked, and the highest epoch wins,
//! whichever replies first.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "Sentinel fails over",
//! "such a partition is over" and "a healthy master is replaced".

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, PushInfo, PushKind, Value};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::commands::within;
use super::connections::{Connections, Server, connection_info};
use super::error::CommandError;
use super::options::{RedisOptions, Target};
use super::topology::{Opinion, Topology};

/// A master as the sentinels name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) server: Server,
    /// `config-epoch`: the higher, the newer.
    pub(crate) epoch: u64,
}

/// What was known before the sentinels are asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Before {
    /// The highest epoch that a master was named with.
    ///
    /// A master of a lower one counts only when a majority of the sentinels names it: without those that know the newer
    /// master, the others are no reason to go back.
    pub(crate) epoch: u64,
    /// The master in use.
    pub(crate) used: Option<Server>,
}

/// The master, confirmed by its own `ROLE`.
///
/// Nothing is kept between calls: a sentinel that was unreachable may be back.
pub(crate) async fn master(
    connections: &Arc<Connections>,
    options: &RedisOptions,
    sentinels: &[ConnectionAddr],
    name: &str,
    before: Before,
) -> Result<Named, CommandError> {
    let poll = poll(options, sentinels, name, before, Poll::is_settled).await;
    let named = poll.master()?;
    confirm(connections, &named.server).await?;
    Ok(named)
}

/// The master without that confirmation, and whether most sentinels agree. All sentinels that reply are counted.
pub(crate) async fn named(
    options: &RedisOptions,
    sentinels: &[ConnectionAddr],
    name: &str,
    before: Before,
) -> Result<(Named, bool), CommandError> {
    let poll = poll(options, sentinels, name, before, |_| false).await;
    let is_agreed = poll
        .newest()
        .is_some_and(|newest| poll.has_majority(newest));
    Ok((poll.master()?, is_agreed))
}

/// Asks all sentinels at once, until what was answered is enough.
async fn poll(
    options: &RedisOptions,
    sentinels: &[ConnectionAddr],
    name: &str,
    before: Before,
    is_enough: impl Fn(&Poll) -> bool,
) -> Poll {
    let asked = sentinels.iter();
    let asked = asked.map(|address| ask(options, address, name));
    let mut asked: FuturesUnordered<_> = asked.collect();
    let mut poll = Poll {
        asked: sentinels.len(),
        before,
        words: Vec::new(),
        trouble: None,
    };
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(word) => poll.words.push(word),
            Err(error) => poll.trouble = Some(error),
        }
        if is_enough(&poll) {
            break;
        }
    }
    poll
}

/// What the sentinels have answered.
struct Poll {
    /// How many there are.
    asked: usize,
    before: Before,
    words: Vec<Word>,
    /// Why one did not answer.
    trouble: Option<CommandError>,
}

/// What one sentinel says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    named: Named,
    /// Whether it thinks that this master is down.
    is_down: bool,
}

impl Poll {
    /// The newest master. One epoch has one master; where sentinels call it by different names, the one in use is as good as
    /// any.
    fn newest(&self) -> Option<&Named> {
        let is_used = |named: &Named| self.before.used.as_ref() == Some(&named.server);
        let named = self.words.iter().map(|word| &word.named);
        named.max_by_key(|named| {
            (
                named.epoch,
                is_used(named),
                self.votes(named),
                &named.server,
            )
        })
    }

    fn votes(&self, named: &Named) -> usize {
        let votes = self.words.iter().filter(|word| word.named == *named);
        votes.count()
    }

    fn has_majority(&self, named: &Named) -> bool {
        self.votes(named) * 2 > self.asked
    }

    /// Whether the sentinels that have not answered yet may be left out.
    fn is_settled(&self) -> bool {
        self.newest()
            .is_some_and(|newest| newest.epoch >= self.before.epoch && self.has_majority(newest))
    }

    /// The master.
    fn master(self) -> Result<Named, CommandError> {
        let Some(newest) = self.newest() else {
            let silence = || CommandError::not_executed("there is no sentinel to ask");
            return Err(self.trouble.unwrap_or_else(silence));
        };
        if newest.epoch < self.before.epoch && !self.has_majority(newest) {
            return Err(CommandError::NotExecuted(format!(
                "the sentinels that know the newest master do not answer, others name {}",
                newest.server
            )));
        }
        let mut words = self.words.iter();
        if words.all(|word| word.is_down || word.named != *newest) {
            return Err(CommandError::NotExecuted(format!(
                "the sentinels think that the master {} is down",
                newest.server
            )));
        }
        Ok(newest.clone())
    }
}

async fn ask(
    options: &RedisOptions,
    address: &ConnectionAddr,
    name: &str,
) -> Result<Word, CommandError> {
    let sentinel = Server::new(address);
    let refused = |error: redis::RedisError| CommandError::while_opening(&sentinel, &error);
    let info = connection_info(address.clone(), &options.sentinel_login, 0);
    let client = info.and_then(Client::open).map_err(refused)?;
    let mut questions = redis::pipe();
    // In this order: what happens in between makes an address newer than its epoch, and never an epoch newer than its address.
    questions.cmd("SENTINEL").arg("MASTER").arg(name);
    questions
        .cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(name);
    let asking = async {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        opening.await?.send_packed_commands(&questions, 0, 2).await
    };
    match tokio::time::timeout(QUESTION_DEADLINE, asking).await {
        Ok(Ok(answers)) => read(&answers).map_err(|error| match error {
            Some(error) => refused(error),
            None => CommandError::NotExecuted(format!("{sentinel} names no master")),
        }),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err(CommandError::NotExecuted(format!(
            "{sentinel} named no master within {QUESTION_DEADLINE:?}"
        ))),
    }
}

/// Listens to what a sentinel says when a master is replaced: that a replica was promoted, and, when the others follow it, that
/// there is a new master. Every push goes to `told`, the connection's end included; dropping the connection ends it.
pub(crate) async fn listen(
    options: &RedisOptions,
    address: &ConnectionAddr,
    told: mpsc::Sender<PushKind>,
) -> Result<MultiplexedConnection, CommandError> {
    let sentinel = Server::new(address);
    let refused = |error: redis::RedisError| CommandError::while_opening(&sentinel, &error);
    let info = connection_info(address.clone(), &options.sentinel_login, 0);
    let client = info.and_then(Client::open).map_err(refused)?;
    let listening = async {
        let pushes = move |push: PushInfo| {
            // A full queue holds a reason to ask already.
            let _ = told.try_send(push.kind);
            Ok::<_, std::convert::Infallible>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(pushes);
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = opening.await?;
        for event in ["+promoted-slave", "+switch-master"] {
            connection.subscribe(event).await?;
        }
        Ok(connection)
    };
    match tokio::time::timeout(QUESTION_DEADLINE, listening).await {
        Ok(listening) => listening.map_err(refused),
        Err(_) => Err(CommandError::NotExecuted(format!(
            "{sentinel} confirmed no subscription within {QUESTION_DEADLINE:?}"
        ))),
    }
}

/// Reads what `SENTINEL MASTER` and `SENTINEL GET-MASTER-ADDR-BY-NAME` answer.
fn read(answers: &[Value]) -> Result<Word, Option<redis::RedisError>> {
    let [facts, address] = answers else {
        return Err(None);
    };
    if let Value::ServerError(error) = address {
        return Err(Some(error.clone().into()));
    }
    // While a failover is being completed, only this address is the new master's.
    let address: (String, u16) = redis::from_redis_value_ref(address).map_err(|_| None)?;
    let server = Server::at(&address.0, address.1);
    // A sentinel that tells only the address knows of no failover.
    let facts: HashMap<String, String> = redis::from_redis_value_ref(facts).unwrap_or_default();
    let fact = |name: &str| facts.get(name).map_or("", String::as_str);
    let port = fact("port").parse().unwrap_or(0);
    let is_about_it = Server::at(fact("ip"), port) == server;
    Ok(Word {
        named: Named {
            server,
            epoch: fact("config-epoch").parse().unwrap_or(0),
        },
        is_down: is_about_it && fact("flags").contains("_down"),
    })
}

/// Asks a master for its `ROLE`: after a failover the old one may be a replica already, and the new one still.
async fn confirm(connections: &Arc<Connections>, server: &Server) -> Result<(), CommandError> {
    let deadline = Instant::now() + QUESTION_DEADLINE;
    let connecting = connections.shared(server);
    let connecting = tokio::time::timeout_at(deadline, connecting).await;
    let mut connection = connecting.unwrap_or_else(|_| {
        Err(CommandError::NotExecuted(format!(
            "the master {server} accepted no connection within {QUESTION_DEADLINE:?}"
        )))
    })?;
    let question = redis::cmd("ROLE");
    let answer = connection.commands.send_packed_command(&question);
    let answer = within(deadline, answer).await;
    let trouble = match answer.and_then(Value::extract_error) {
        Ok(Value::Array(role)) if role.first().and_then(super::text) == Some("master") => {
            return Ok(());
        }
        Ok(_) => CommandError::NotExecuted(format!("{server} does not take itself for a master")),
        Err(error) => CommandError::while_opening(server, &error),
    };
    connections.retire(&connection);
    Err(trouble)
}

/// 1.5 s: the sentinels and then the master answer, or are given up, within the time that a call has.
const QUESTION_DEADLINE: Duration = Duration::from_millis(1_500);

/// Asks the sentinels whether the master in use still is the master, until it is stopped: at intervals, and as soon as one of them
/// says otherwise. `confirm` is called with the time until which every node certainly used the master that it is now.
///
/// A master that was cut off and replaced goes on accepting what is lost later, and no command that is sent to it fails. After the
/// network has healed, Sentinel takes some ten seconds until it demotes such a master. The same holds for a healthy master that an
/// operator has replaced: until every node has left it, both give out the same offsets.
pub(crate) async fn watch(
    topology: Arc<Topology>,
    confirm: impl Fn(Instant) + Send,
    stop: CancellationToken,
) {
    let options = topology.options();
    let is_replaced = Notify::new();
    let interval = options.flow.sentinel_interval;
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = follow_all(options, &is_replaced) => {}
        () = ask_all(&topology, interval, confirm, &is_replaced) => {}
    }
}

/// Asks at intervals, and when a sentinel has announced a new master.
async fn ask_all(
    topology: &Topology,
    interval: Duration,
    confirm: impl Fn(Instant),
    is_replaced: &Notify,
) {
    loop {
        // Nodes that started together do not ask together.
        let pause = interval.mul_f64(0.8 + 0.4 * fastrand::f64());
        tokio::select! {
            biased;
            () = is_replaced.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        let asked_at = Instant::now();
        match topology.ask_sentinels().await {
            // Another master would need a majority, and have a higher epoch than these know, or will know in a moment.
            Opinion::TheSame => {
                if let Some(until) = asked_at.checked_sub(SPREADING_MAX) {
                    confirm(until);
                }
            }
            Opinion::Another => {
                info!("the sentinels name another Redis master than the one in use");
                topology.request_lookup();
            }
            Opinion::None => {}
        }
    }
}

/// Follows every sentinel, for as long as this is awaited.
async fn follow_all(options: &RedisOptions, is_replaced: &Notify) {
    if let Target::Sentinel { sentinels, .. } = &options.target {
        let following = sentinels.iter();
        join_all(following.map(|address| follow(options, address, is_replaced))).await;
    }
    // Without a sentinel to follow, asking goes on.
    std::future::pending().await
}

/// Listens to one sentinel, and again when the connection was lost. An event is only a reason to ask all of them.
async fn follow(options: &RedisOptions, address: &ConnectionAddr, is_replaced: &Notify) {
    loop {
        // 16: one failover makes two events; further ones say nothing more.
        let (told, mut events) = mpsc::channel(16);
        let listening = listen(options, address, told).await;
        match &listening {
            Ok(_) => {
                // There may have been an event while this node did not listen.
                is_replaced.notify_one();
                while let Some(kind) = events.recv().await
                    && kind != PushKind::Disconnection
                {
                    if kind == PushKind::Message {
                        is_replaced.notify_one();
                    }
                }
            }
            Err(error) => debug!(%error, "a sentinel is not listened to"),
        }
        tokio::time::sleep(options.flow.sentinel_interval).await;
    }
}

/// 5 s: a sentinel that has made a master tells the others of it every 2 s.
const SPREADING_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// `a@2` is the master `a` of epoch 2; `a@2!` is thought to be down.
    fn poll(asked: usize, words: &[&str], epoch: u64) -> Poll {
        let words = words.iter().map(|word| {
            let (server, epoch) = word.trim_end_matches('!').split_once('@').unwrap();
            Word {
                named: Named {
                    server: Server::at(server, 1),
                    epoch: epoch.parse().unwrap(),
                },
                is_down: word.ends_with('!'),
            }
        });
        Poll {
            asked,
            before: Before {
                epoch,
                used: Some(Server::at("used", 1)),
            },
            words: words.collect(),
            trouble: None,
        }
    }

    #[test]
    fn the_newest_master_is_taken_and_no_older_one_than_before() {
        // (sentinels, what they say, epoch known before, the master)
        let rows: &[(usize, &[&str], u64, Option<&str>)] = &[
            (3, &["a@0", "a@0", "a@0"], 0, Some("a")),
            (3, &["a@0"], 0, Some("a")),
            // Both sides of a partition, in any order and number.
            (3, &["a@0", "b@1"], 0, Some("b")),
            (3, &["b@1", "a@0", "a@0"], 0, Some("b")),
            // The newer side is silent now.
            (3, &["a@0"], 1, None),
            (2, &["a@0"], 1, None),
            // A majority that was set up anew.
            (3, &["a@0", "a@0"], 1, Some("a")),
            (1, &["a@0"], 1, Some("a")),
            (3, &["a@0", "c@0"], 1, None),
            (3, &["b@1", "used@1", "b@1"], 0, Some("used")),
            (3, &["b@1", "used@0", "used@0"], 0, Some("b")),
            // One sentinel's word that it is up is enough, for the newest.
            (3, &["a@1!", "a@1", "a@1!"], 0, Some("a")),
            (3, &["a@1!", "a@1!"], 0, None),
            (3, &["a@0", "a@0", "b@1!"], 0, None),
            (3, &[], 0, None),
        ];
        for (asked, words, epoch, expected) in rows {
            let master = poll(*asked, words, *epoch).master();
            let expected = expected.map(|server| Server::at(server, 1));
            assert_eq!(
                master.ok().map(|named| named.server),
                expected,
                "{words:?}, {epoch} known"
            );
        }
    }

    #[test]
    fn a_majority_that_knows_nothing_older_need_not_wait_for_the_others() {
        let rows: &[(&[&str], u64, bool)] = &[
            (&[], 0, false),
            (&["a@0"], 0, false),
            (&["a@0", "a@0"], 0, true),
            (&["a@0", "a@0"], 1, false),
            (&["a@0", "b@1"], 0, false),
            (&["b@1", "a@0", "b@1"], 1, true),
        ];
        for (words, epoch, expected) in rows {
            let is_settled = poll(3, words, *epoch).is_settled();
            assert_eq!(is_settled, *expected, "{words:?}, {epoch} known");
        }
    }

    #[test]
    fn a_sentinel_that_completes_a_failover_names_the_new_master() {
        let text = |text: &str| Value::BulkString(text.into());
        let facts = |flags: &str| {
            let facts = [("ip", "a"), ("port", "1"), ("flags", flags)];
            let facts = facts.iter().chain(&[("config-epoch", "7")]);
            let pairs = facts.map(|(name, value)| (text(name), text(value)));
            Value::Map(pairs.collect())
        };
        let at = |host: &str| Value::Array(vec![text(host), text("1")]);
        let down = "s_down,o_down,master,failover_in_progress";
        for (host, flags, is_down) in [
            ("a", "master", false),
            ("a", down, true),
            ("b", down, false),
        ] {
            let word = read(&[facts(flags), at(host)]).unwrap();
            let server = Server::at(host, 1);
            let named = Named { server, epoch: 7 };
            assert_eq!(word, Word { named, is_down });
        }
        let alone = read(&[Value::Nil, at("a")]).unwrap();
        assert_eq!((alone.named.epoch, alone.is_down), (0, false));
        assert!(read(&[facts("master"), Value::Nil]).is_err());
    }
}
