//! A proxy in front of a Redis that knows where frames end: it loses one message, or one reply, and nothing else.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::conditions::{Conditions, Line};
use super::link;
use crate::lock;
use crate::resp::{self, Value};

/// A proxy in front of a Redis. Ends when it is dropped, and cuts everything then.
#[derive(Debug)]
pub struct RedisProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What happens to some of what runs through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RedisFault {
    /// A pub/sub message is left out.
    DropMessage,
    /// A new connection is refused. It has no words yet: the mark does not matter.
    Refuse,
    /// The connection is cut before a script reaches Redis: it does not run.
    CutBefore,
    /// The connection is cut before a script's reply comes back: it has run.
    CutAfter,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    orders: Mutex<HashMap<RedisFault, Order>>,
    conditions: watch::Sender<Conditions>,
    is_frozen: watch::Sender<bool>,
    links: Mutex<Vec<CancellationToken>>,
    random: Mutex<fastrand::Rng>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How often a fault is still due, for what has the mark in it.
#[derive(Debug, Default)]
struct Order {
    due: u64,
    done: u64,
    mark: Vec<u8>,
}

/// What Redis still owes a reply for.
#[derive(Debug, Default)]
struct Owed(Mutex<VecDeque<Request>>);

#[derive(Debug)]
struct Request {
    /// A script whose words have the mark of [`RedisFault::CutAfter`] in them.
    is_marked: bool,
}

impl RedisProxy {
    /// Listens on a port of its own and passes everything on to `target`; the seed decides how late what is late will be.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(target: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            orders: Mutex::default(),
            conditions: watch::Sender::new(Conditions::default()),
            is_frozen: watch::Sender::new(false),
            links: Mutex::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let of = Arc::clone(&shared);
        shared.tasks.spawn(link::accept(
            listener,
            shared.stop.clone(),
            move |near| match of.takes_any_turn(RedisFault::Refuse) {
                true => link::reset(&near),
                false => drop(of.tasks.spawn(run(near, Arc::clone(&of)))),
            },
        ));
        Ok(Self { address, shared })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has a fault happen so many more times, to messages or scripts that have `mark` somewhere in their words.
    pub fn plant(&self, fault: RedisFault, times: u64, mark: &str) {
        let mut orders = lock(&self.shared.orders);
        let order = orders.entry(fault).or_default();
        order.due = times;
        order.mark = mark.as_bytes().to_vec();
    }

    /// How often a fault has happened.
    #[must_use]
    pub fn done(&self, fault: RedisFault) -> u64 {
        let orders = lock(&self.shared.orders);
        orders.get(&fault).map_or(0, |order| order.done)
    }

    /// Makes the line worse, or well again.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.shared.conditions.send_replace(conditions);
    }

    /// Passes nothing on and says nothing (half-open), or lets go on.
    pub fn freeze(&self, is_frozen: bool) {
        self.shared.is_frozen.send_replace(is_frozen);
    }

    /// How many faults have happened.
    #[must_use]
    pub fn all_done(&self) -> u64 {
        lock(&self.shared.orders)
            .values()
            .map(|order| order.done)
            .sum()
    }

    /// How many connections run through it.
    #[must_use]
    pub fn open(&self) -> usize {
        let links = lock(&self.shared.links);
        links.iter().filter(|link| !link.is_cancelled()).count()
    }

    /// Resets every connection; how many there were.
    pub fn cut_all(&self) -> usize {
        let links = std::mem::take(&mut *lock(&self.shared.links));
        let open = links.iter().filter(|link| !link.is_cancelled());
        open.inspect(|link| link.cancel()).count()
    }
}

impl Drop for RedisProxy {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

async fn run(near: TcpStream, shared: Arc<Shared>) {
    let Ok(far) = TcpStream::connect(shared.target).await else {
        link::reset(&near);
        return;
    };
    let cut = shared.stop.child_token();
    {
        let mut links = lock(&shared.links);
        links.retain(|link| !link.is_cancelled());
        links.push(cut.clone());
    }
    let seeds = {
        let mut random = lock(&shared.random);
        [random.u64(..), random.u64(..)]
    };
    let owed = Owed::default();
    let up = |from, line| requests(from, line, &shared, &owed);
    let down = |from, line| replies(from, line, &shared, &owed);
    link::run([near, far], &cut, &shared.conditions, seeds, up, down).await;
    cut.cancel();
}

async fn requests(
    from: OwnedReadHalf,
    mut line: Line,
    shared: &Shared,
    owed: &Owed,
) -> io::Result<()> {
    let mut frames = Frames::new(from, shared);
    while let Some((value, bytes)) = frames.next().await? {
        let words = value.elements();
        let name = words.first().map(Value::text).unwrap_or_default();
        let name = name.to_ascii_uppercase();
        let is_script = matches!(name.as_str(), "EVAL" | "EVALSHA" | "FCALL");
        if is_script && shared.takes_turn(RedisFault::CutBefore, words) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if !name.ends_with("SUBSCRIBE") {
            let is_marked = is_script && shared.has_turn(RedisFault::CutAfter, words);
            lock(&owed.0).push_back(Request { is_marked });
        }
        line.send(bytes).await?;
    }
    Ok(())
}

async fn replies(
    from: OwnedReadHalf,
    mut line: Line,
    shared: &Shared,
    owed: &Owed,
) -> io::Result<()> {
    let mut frames = Frames::new(from, shared);
    while let Some((value, bytes)) = frames.next().await? {
        let words = value.elements();
        match pushed(&value) {
            Some(Pushed::Message) => {
                if shared.takes_turn(RedisFault::DropMessage, words) {
                    continue;
                }
            }
            Some(Pushed::Other) => {}
            None => {
                let request = lock(&owed.0).pop_front();
                let is_marked = request.is_some_and(|request| request.is_marked);
                if is_marked && shared.takes_any_turn(RedisFault::CutAfter) {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            }
        }
        line.send(bytes).await?;
    }
    Ok(())
}

/// Something that nobody asked for.
enum Pushed {
    Message,
    Other,
}

/// What a frame is, where it is no reply: a push, or what stands for one in RESP2.
fn pushed(value: &Value) -> Option<Pushed> {
    let kind = value
        .elements()
        .first()
        .map(Value::text)
        .unwrap_or_default();
    let is_message = matches!(kind.as_str(), "message" | "smessage" | "pmessage");
    match value {
        Value::Push(_) if is_message => Some(Pushed::Message),
        Value::Push(_) => Some(Pushed::Other),
        Value::Array(_) if is_message => Some(Pushed::Message),
        Value::Array(_) if kind.ends_with("subscribe") => Some(Pushed::Other),
        _ => None,
    }
}

/// Reads frame by frame.
struct Frames {
    from: OwnedReadHalf,
    buffer: Vec<u8>,
    is_frozen: watch::Receiver<bool>,
}

impl Frames {
    fn new(from: OwnedReadHalf, shared: &Shared) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            is_frozen: shared.is_frozen.subscribe(),
        }
    }

    async fn next(&mut self) -> io::Result<Option<(Value, Vec<u8>)>> {
        loop {
            // The sender outlives every connection: the wait cannot fail.
            let _ = self.is_frozen.wait_for(|is_frozen| !is_frozen).await;
            let frame = resp::read(&self.buffer).map_err(io::Error::other)?;
            if let Some((value, length)) = frame {
                let rest = self.buffer.split_off(length);
                let bytes = std::mem::replace(&mut self.buffer, rest);
                return Ok(Some((value, bytes)));
            }
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

impl Shared {
    /// Whether a fault is due for these words.
    fn has_turn(&self, fault: RedisFault, words: &[Value]) -> bool {
        let orders = lock(&self.orders);
        let order = orders.get(&fault).filter(|order| order.due > 0);
        order.is_some_and(|order| words.iter().any(|word| has(word, &order.mark)))
    }

    /// The same, and counts it.
    fn takes_turn(&self, fault: RedisFault, words: &[Value]) -> bool {
        self.has_turn(fault, words) && self.takes_any_turn(fault)
    }

    fn takes_any_turn(&self, fault: RedisFault) -> bool {
        let mut orders = lock(&self.orders);
        let Some(order) = orders.get_mut(&fault).filter(|order| order.due > 0) else {
            return false;
        };
        order.due -= 1;
        order.done += 1;
        true
    }
}

fn has(word: &Value, mark: &[u8]) -> bool {
    match word {
        Value::Bulk(bytes) => {
            mark.is_empty() || bytes.windows(mark.len()).any(|window| window == mark)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::resp::Connection;
    use crate::{redis, within};

    const SCRIPT: &str =
        "redis.call('INCR', KEYS[1]); return redis.call('PUBLISH', KEYS[2], ARGV[1])";

    async fn started() -> (RedisProxy, Connection, String) {
        let redis = redis::shared().await;
        let proxy = RedisProxy::start(redis.address(), 1).await.unwrap();
        let connection = Connection::open(proxy.address()).await.unwrap();
        (proxy, connection, redis::prefix("proxy"))
    }

    fn publish<'a>(counter: &'a str, channel: &'a str, payload: &'a str) -> [&'a str; 6] {
        ["EVAL", SCRIPT, "2", counter, channel, payload]
    }

    #[tokio::test]
    async fn exactly_one_message_is_dropped_in_both_versions() {
        for version in ["2", "3"] {
            let (proxy, mut subscriber, prefix) = started().await;
            let hello = subscriber.command(&["HELLO", version]).await.unwrap();
            assert!(!hello.is_error());
            subscriber.command(&["SUBSCRIBE", &prefix]).await.unwrap();
            proxy.plant(RedisFault::DropMessage, 1, &prefix);
            for payload in ["one", "two", "three"] {
                redis::shared()
                    .await
                    .command(&["PUBLISH", &prefix, payload])
                    .await;
            }
            for payload in ["two", "three"] {
                let message = within("a message", subscriber.receive()).await.unwrap();
                assert_eq!(message.elements()[2].text(), payload);
            }
            assert_eq!(proxy.done(RedisFault::DropMessage), 1);
        }
    }

    #[tokio::test]
    async fn a_script_is_cut_off_before_or_after_it_has_run() {
        for (fault, runs) in [(RedisFault::CutBefore, ""), (RedisFault::CutAfter, "1")] {
            let (proxy, mut connection, prefix) = started().await;
            let counter = format!("{prefix}counter");
            proxy.plant(fault, 1, "marked");
            assert!(connection.command(&["PING"]).await.is_ok());
            let other = connection
                .command(&publish(&prefix, &prefix, "other"))
                .await;
            assert!(other.is_ok());
            let marked = connection
                .command(&publish(&counter, &prefix, "marked"))
                .await;
            assert!(marked.is_err());
            let count = redis::shared().await.command(&["GET", &counter]).await;
            assert_eq!(count.text(), runs, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_bad_line_loses_nothing() {
        let (proxy, mut connection, prefix) = started().await;
        proxy.set_conditions(Conditions {
            latency_max: Duration::from_millis(20),
            slice_bytes: Some(1),
            bytes_per_second: Some(100_000),
        });
        for number in 1..=20 {
            let count = connection.command(&["INCR", &prefix]).await.unwrap();
            assert_eq!(count.number(), Some(number));
        }
    }

    #[tokio::test]
    async fn connections_are_refused_frozen_and_cut() {
        let (proxy, mut connection, _) = started().await;
        connection.command(&["PING"]).await.unwrap();
        proxy.freeze(true);
        connection.send(&["PING"]).await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(50), connection.receive()).await;
        assert!(silence.is_err());
        proxy.freeze(false);
        assert!(within("an answer", connection.receive()).await.is_ok());
        proxy.plant(RedisFault::Refuse, 1, "");
        let refused = async {
            let mut other = Connection::open(proxy.address()).await?;
            other.command(&["PING"]).await
        };
        assert!(refused.await.is_err());
        assert_eq!((proxy.all_done(), proxy.open()), (1, 1));
        assert_eq!(proxy.cut_all(), 1);
        assert!(connection.command(&["PING"]).await.is_err());
        let mut after = Connection::open(proxy.address()).await.unwrap();
        assert!(after.command(&["PING"]).await.is_ok());
    }
}
