//! The map of a cluster: which master owns which slot.
//!
//! Promise: docs/guarantees.md, *What happens when something breaks*, "slots move in a Redis Cluster" and "a master of a Redis Cluster
//! is away".

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;

use super::connections::{Connection, Connections, Server};
use super::error::CommandError;

/// Which master owns which slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotMap {
    masters: Vec<Server>,
    /// By slot, the index into `masters`; beyond its end where no master owns the slot.
    owners: Vec<u16>,
}

const NO_OWNER: u16 = u16::MAX;

impl SlotMap {
    fn empty() -> Self {
        Self {
            masters: Vec::new(),
            owners: vec![NO_OWNER; usize::from(SLOTS)],
        }
    }

    /// The owner of a slot.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Server> {
        let index = self.owners.get(usize::from(slot))?;
        self.masters.get(usize::from(*index))
    }

    /// Every master, each once.
    pub(crate) fn masters(&self) -> &[Server] {
        &self.masters
    }

    /// Gives a slot to a server.
    pub(crate) fn assign(&mut self, slot: u16, owner: Server) {
        self.assign_all(slot, slot, owner);
    }

    fn assign_all(&mut self, first: u16, last: u16, owner: Server) {
        let known = self.masters.iter().position(|master| *master == owner);
        let index = known.unwrap_or_else(|| {
            self.masters.push(owner);
            self.masters.len() - 1
        });
        let index = u16::try_from(index).unwrap_or(NO_OWNER);
        let range = usize::from(first)..=usize::from(last);
        if let Some(owners) = self.owners.get_mut(range) {
            owners.fill(index);
        }
    }

    /// Reads the reply to `CLUSTER SLOTS`: `[first, last, [host, port, …], replicas…]` each. A server that does not know its own
    /// host means the one that this node reached it at.
    fn parse(asked: &Server, slots: &Value) -> Option<Self> {
        let Value::Array(ranges) = slots else {
            return None;
        };
        let mut map = Self::empty();
        for range in ranges {
            let Value::Array(range) = range else {
                return None;
            };
            let [
                Value::Int(first),
                Value::Int(last),
                Value::Array(master),
                ..,
            ] = range.as_slice()
            else {
                return None;
            };
            let host = match master.first()? {
                Value::BulkString(host) => std::str::from_utf8(host).ok()?,
                Value::SimpleString(host) => host,
                _ => "",
            };
            let Value::Int(port) = master.get(1)? else {
                return None;
            };
            let host = match host {
                "" | "?" => asked.host()?,
                host => host,
            };
            let owner = Server::at(host, u16::try_from(*port).ok()?);
            map.assign_all(
                u16::try_from(*first).ok()?,
                u16::try_from(*last).ok()?,
                owner,
            );
        }
        // In an order of its own, so that two equal maps are equal.
        map.sort();
        Some(map)
    }

    fn sort(&mut self) {
        let before = std::mem::take(&mut self.masters);
        let sorted: BTreeSet<&Server> = before.iter().collect();
        self.masters = sorted.into_iter().cloned().collect();
        let index_of = |server: &Server| self.masters.binary_search(server).ok();
        let places: Vec<u16> = before
            .iter()
            .map(|server| index_of(server).and_then(|at| u16::try_from(at).ok()))
            .map(|at| at.unwrap_or(NO_OWNER))
            .collect();
        for owner in &mut self.owners {
            *owner = places.get(usize::from(*owner)).copied().unwrap_or(NO_OWNER);
        }
    }
}

/// Reads the map from the first server that says the cluster is in order; failing that, the newest map of all that reply.
pub(crate) async fn read_map(
    connections: &Arc<Connections>,
    known: Vec<Server>,
    seeds: impl Iterator<Item = Server>,
) -> Result<SlotMap, CommandError> {
    let servers: BTreeSet<Server> = known.into_iter().chain(seeds).collect();
    let asked = servers.into_iter().map(|server| ask(connections, server));
    let mut asked: FuturesUnordered<_> = asked.collect();
    let mut newest: Option<View> = None;
    let mut failed = CommandError::NotExecuted("no server of the cluster knows its map".to_owned());
    while let Some(answer) = asked.next().await {
        match answer {
            // A server that was reset, or has not joined a cluster, knows of no slots.
            Ok(view) if view.map.masters.is_empty() => {}
            Ok(view) if view.is_in_order => return Ok(view.map),
            Ok(view) => {
                if newest
                    .as_ref()
                    .is_none_or(|newest| newest.epoch < view.epoch)
                {
                    newest = Some(view);
                }
            }
            Err(error) => failed = error,
        }
    }
    newest.map(|view| view.map).ok_or(failed)
}

/// The cluster as one of its servers sees it.
struct View {
    map: SlotMap,
    is_in_order: bool,
    epoch: u64,
}

async fn ask(connections: &Arc<Connections>, server: Server) -> Result<View, CommandError> {
    let mut connection = connections.shared(&server).await?;
    let mut questions = redis::pipe();
    questions.cmd("CLUSTER").arg("INFO");
    questions.cmd("CLUSTER").arg("SLOTS");
    let answers = connection.commands.send_packed_commands(&questions, 0, 2);
    let answers = answers.await.map_err(|error| {
        connections.retire(&connection);
        // Only a question got no reply: nothing was changed.
        CommandError::NotExecuted(format!("{server}: {error}"))
    })?;
    let [info, slots] = answers.as_slice() else {
        return Err(unreadable(&server));
    };
    if let Value::ServerError(error) = slots {
        return Err(CommandError::Refused(format!(
            "{server} does not tell the cluster's map: {error}"
        )));
    }
    let info: String = redis::from_redis_value_ref(info).unwrap_or_default();
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(field, value)| (field == name).then(|| value.trim().to_owned()))
    };
    Ok(View {
        map: SlotMap::parse(&server, slots).ok_or_else(|| unreadable(&server))?,
        is_in_order: field("cluster_state").as_deref() == Some("ok"),
        epoch: field("cluster_current_epoch")
            .and_then(|epoch| epoch.parse().ok())
            .unwrap_or(0),
    })
}

/// The slots that are migrating to or from a server.
pub(crate) async fn migrating_slots(connection: &Connection) -> redis::RedisResult<Vec<u16>> {
    let mut question = redis::cmd("CLUSTER");
    question.arg("NODES");
    let mut asking = connection.commands.clone();
    let answer = asking.send_packed_command(&question).await?;
    let nodes: String = redis::from_redis_value(answer.extract_error()?)?;
    Ok(parse_migrating(&nodes))
}

/// The slots that a server's answer to `CLUSTER NODES` says are migrating from it or to it: `[7->-id]`, `[7-<-id]`.
fn parse_migrating(nodes: &str) -> Vec<u16> {
    let own = nodes
        .lines()
        .find(|line| line.split(' ').nth(2).is_some_and(is_own));
    let parts = own.into_iter().flat_map(|line| line.split(' ').skip(8));
    parts
        .filter_map(|part| part.strip_prefix('[')?.split('-').next()?.parse().ok())
        .collect()
}

fn is_own(flags: &str) -> bool {
    flags.split(',').any(|flag| flag == "myself")
}

/// The slot of what stands between braces. Redis Cluster specification, *Key distribution model*.
pub(crate) fn slot(tag: &str) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(tag.as_bytes()) % SLOTS
}

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

fn unreadable(server: &Server) -> CommandError {
    CommandError::NotExecuted(format!("{server} answers with a map that cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), Value::Nil]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_map_is_read_whatever_order_it_comes_in() {
        let asked = Server::at("10.0.0.9", 7000);
        let rows = vec![
            range(0, 99, text("b"), 1),
            range(200, 16_383, text("::1"), 2),
            range(100, 150, text("b"), 1),
            range(151, 151, Value::Nil, 3),
        ];
        let map = SlotMap::parse(&asked, &Value::Array(rows.clone())).unwrap();
        let owner = |slot| map.owner(slot).map(ToString::to_string);
        assert_eq!(owner(0).as_deref(), Some("b:1"));
        assert_eq!(owner(150).as_deref(), Some("b:1"));
        assert_eq!(owner(151).as_deref(), Some("10.0.0.9:3"));
        assert_eq!(owner(152), None);
        assert_eq!(owner(16_383).as_deref(), Some("[::1]:2"));
        assert_eq!(map.masters().len(), 3);
        let turned = rows.into_iter().rev().collect();
        assert_eq!(SlotMap::parse(&asked, &Value::Array(turned)).unwrap(), map);
    }

    #[test]
    fn a_slot_that_moved_has_its_new_owner() {
        let asked = Server::at("a", 1);
        let rows = Value::Array(vec![range(0, 16_383, text("a"), 1)]);
        let mut map = SlotMap::parse(&asked, &rows).unwrap();
        map.assign(7, Server::at("b", 1));
        assert_eq!(map.owner(7), Some(&Server::at("b", 1)));
        assert_eq!(map.owner(8), Some(&Server::at("a", 1)));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let asked = Server::at("a", 1);
        for answer in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![Value::Array(vec![Value::Int(0)])]),
            Value::Array(vec![range(0, 5, text("a"), 1 << 20)]),
        ] {
            assert_eq!(SlotMap::parse(&asked, &answer), None);
        }
    }

    #[test]
    fn the_migrating_slots_of_the_server_itself_are_read() {
        let nodes = "\
            a1 10.0.0.1:7000@17000,host master - 0 1426238316232 2 connected 5461-10922 [9->-b2]\n\
            b2 10.0.0.2:7000@17000 myself,master - 0 0 3 connected 0-5460 12000 [93-<-a1] [16383->-c3]\n\
            c3 10.0.0.3:7000@17000 slave a1 0 1426238317741 3 connected\n";
        assert_eq!(parse_migrating(nodes), [93, 16_383]);
        assert_eq!(parse_migrating(""), [0_u16; 0]);
        assert_eq!(
            parse_migrating("b2 :0@0 myself,master - 0 0 0 connected"),
            [0_u16; 0]
        );
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot("123456789"), 0x31C3 % SLOTS);
    }
}
