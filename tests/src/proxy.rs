//! Proxies that can cut and stall what runs through them, make lines worse, or lose one thing: in front of servers ([`Proxy`]) and
//! in front of a Redis ([`RedisProxy`]).

mod conditions;
mod fault;
mod link;
mod redis;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::conditions::Conditions;
use self::conditions::Line;
pub use self::fault::Fault;
use self::fault::Saboteur;
pub use self::redis::{RedisFault, RedisProxy};
use crate::lock;

/// A TCP proxy in front of a server. Ends when it is dropped, and cuts everything then.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    targets: Mutex<Targets>,
    links: Mutex<Links>,
    is_stalled: watch::Sender<bool>,
    conditions: watch::Sender<Conditions>,
    fault: Mutex<Option<(Fault, usize)>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The servers, taken in turn.
#[derive(Debug)]
struct Targets {
    all: Vec<SocketAddr>,
    next: usize,
}

#[derive(Debug, Default)]
struct Links {
    next: u64,
    open: HashMap<u64, Link>,
}

/// One connection through the proxy.
#[derive(Debug)]
struct Link {
    cut: CancellationToken,
    /// What the server calls the connection, once it has said so.
    socket_id: Option<String>,
}

impl Proxy {
    /// Listens on a port of its own and passes everything on to `target`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        Self::start_on(listener, target)
    }

    /// Takes connections from `listener` and passes everything on to `target`.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start_on(listener: TcpListener, target: SocketAddr) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            targets: Mutex::new(Targets {
                all: vec![target],
                next: 0,
            }),
            links: Mutex::default(),
            is_stalled: watch::Sender::new(false),
            conditions: watch::Sender::new(Conditions::default()),
            fault: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let of = Arc::clone(&shared);
        shared
            .tasks
            .spawn(link::accept(listener, shared.stop.clone(), move |near| {
                of.tasks.spawn(run(near, Arc::clone(&of)));
            }));
        Ok(Self { address, shared })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends the connections to come to another server.
    pub fn retarget(&self, target: SocketAddr) {
        self.balance(vec![target]);
    }

    /// Sends the connections to come to these servers in turn, past those that do not listen.
    pub fn balance(&self, targets: Vec<SocketAddr>) {
        lock(&self.shared.targets).all = targets;
    }

    /// Makes all connections worse in both directions, or well again.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.shared.conditions.send_replace(conditions);
    }

    /// Cuts every WebSocket connection, as a failing network does: no close frame, no FIN. Answers how many there were.
    pub fn cut_all(&self) -> usize {
        self.cut_where(|_| true)
    }

    /// Cuts the WebSocket connections with these ids. Answers how many there were.
    pub fn cut<T: AsRef<str>>(&self, socket_ids: &[T]) -> usize {
        self.cut_where(|id| socket_ids.iter().any(|other| other.as_ref() == id))
    }

    /// Holds back, or lets go on, what runs in both directions.
    pub fn stall(&self, is_stalled: bool) {
        self.shared.is_stalled.send_replace(is_stalled);
    }

    /// Has the next WebSocket connection lose, double, delay or alter an event, once `spared` events have passed.
    ///
    /// It must not be one that batches: a frame is taken for one event.
    pub fn plant(&self, fault: Fault, spared: usize) {
        *lock(&self.shared.fault) = Some((fault, spared));
    }

    fn cut_where(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        let mut links = lock(&self.shared.links);
        let mut count = 0;
        links.open.retain(|_, link| {
            let is_cut = link.socket_id.as_deref().is_some_and(&is_meant);
            if is_cut {
                link.cut.cancel();
                count += 1;
            }
            !is_cut
        });
        count
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

async fn run(near: TcpStream, shared: Arc<Shared>) {
    let Some(far) = shared.dial().await else {
        link::reset(&near);
        return;
    };
    let cut = shared.stop.child_token();
    let id = shared.open(cut.clone());
    let up = |from, line| copy(from, line, &shared, None);
    let down = |from, line| copy(from, line, &shared, Some(id));
    link::run([near, far], &cut, &shared.conditions, [id, !id], up, down).await;
    lock(&shared.links).open.remove(&id);
}

/// Copies one direction to its end and passes the end on; `link` has the server's side read for the connection's id.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: Line,
    shared: &Shared,
    mut link: Option<u64>,
) -> io::Result<()> {
    let mut is_stalled = shared.is_stalled.subscribe();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut head = Vec::new();
    let fault = link.and_then(|_| lock(&shared.fault).take());
    let mut saboteur = fault.map(|(fault, spared)| Saboteur::new(fault, spared));
    loop {
        // The sender lives in `shared`: the wait cannot fail.
        let _ = is_stalled.wait_for(|is_stalled| !is_stalled).await;
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        if let Some(id) = link {
            head.extend_from_slice(&buffer[..count]);
            if let Some(socket_id) = socket_id_in(&head) {
                shared.name(id, socket_id);
                link = None;
            } else if head.len() > HEAD_BYTES_MAX {
                link = None;
            }
        }
        let _ = is_stalled.wait_for(|is_stalled| !is_stalled).await;
        match &mut saboteur {
            Some(saboteur) => to.send(saboteur.pass(&buffer[..count])).await?,
            None => to.send(buffer[..count].to_vec()).await?,
        }
    }
}

impl Shared {
    /// A connection to the server whose turn it is, or to the next one that listens.
    async fn dial(&self) -> Option<TcpStream> {
        let targets = {
            let mut targets = lock(&self.targets);
            let count = targets.all.len().max(1);
            targets.next = (targets.next + 1) % count;
            let (before, from) = targets.all.split_at(targets.next.min(targets.all.len()));
            [from, before].concat()
        };
        for target in targets {
            if let Ok(far) = TcpStream::connect(target).await {
                return Some(far);
            }
        }
        None
    }

    fn open(&self, cut: CancellationToken) -> u64 {
        let mut links = lock(&self.links);
        let id = links.next;
        links.next += 1;
        let link = Link {
            cut,
            socket_id: None,
        };
        links.open.insert(id, link);
        id
    }

    fn name(&self, id: u64, socket_id: String) {
        if let Some(link) = lock(&self.links).open.get_mut(&id) {
            link.socket_id = Some(socket_id);
        }
    }
}

/// The id in a `connected` message: servers do not mask their frames, so it can be read in passing.
fn socket_id_in(head: &[u8]) -> Option<String> {
    let begin = head.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let id = head.get(begin..begin + ID_BYTES)?;
    String::from_utf8(id.to_vec()).ok()
}

/// How the id begins in a `connected` message.
const MARK: &[u8] = br#""socket_id":""#;
/// A socket id is 32 hexadecimal digits.
const ID_BYTES: usize = 32;
/// 16 KiB: the response head and the `connected` message are under 1 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// 16 KiB: small enough that a stalled proxy holds little back by itself.
const BUFFER_BYTES: usize = 16 << 10;
