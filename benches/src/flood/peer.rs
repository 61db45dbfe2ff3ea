//! The peers that flood: all of them on one thread, and each comes back as soon as it is cut.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Flood;
use crate::frame::{PING, PONG, TEXT, masked};

/// Peers under way; they end with this value.
#[derive(Debug)]
pub struct Flooding {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Mutex<Counts>>,
}

/// What the peers saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Bytes that were written.
    pub bytes: u64,
    /// How often a peer was told that it floods.
    pub told: u64,
    /// The longest time from being told to being cut.
    pub cut_after: Duration,
}

impl Flooding {
    /// Starts so many peers.
    ///
    /// # Errors
    /// When there is no runtime for them.
    pub fn start(address: SocketAddr, flood: Flood, peers: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let counts = Arc::new(Mutex::default());
        let counted = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let mut all = JoinSet::new();
                for _ in 0..peers {
                    let counts = Arc::clone(&counted);
                    all.spawn(async move {
                        loop {
                            // One that is cut comes back.
                            let _ = flood_once(address, flood, &counts).await;
                        }
                    });
                }
                let _ = stopped.await;
            });
        });
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            counts,
        })
    }

    /// What the peers have seen so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flooding {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn flood_once(address: SocketAddr, flood: Flood, counts: &Mutex<Counts>) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let chunk = match flood {
        Flood::None => return std::future::pending().await,
        Flood::HalfRead => return read_half(stream, counts).await,
        Flood::Requests => LIVE.repeat(500),
        Flood::Pings => masked(PING, b"").repeat(CHUNK_FRAMES),
        Flood::Pongs => masked(PONG, b"").repeat(CHUNK_FRAMES),
        Flood::Texts => masked(TEXT, b"{}").repeat(CHUNK_FRAMES),
        Flood::Fragments => fragments().repeat(CHUNK_FRAMES / FRAGMENTS),
    };
    if flood != Flood::Requests {
        stream.write_all(HANDSHAKE).await?;
    }
    let (mut from_server, mut to_server) = stream.into_split();
    let reading = async {
        let mut piece = vec![0; 64 << 10];
        let mut told_at = None;
        let ended = loop {
            match from_server.read(&mut piece).await {
                Ok(0) => break Ok(()),
                Ok(count) if told_at.is_none() => {
                    // The code may lie across two reads: then this one is not counted.
                    let is_told = memchr::memmem::find(&piece[..count], b"4106").is_some();
                    told_at = is_told.then(Instant::now);
                }
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        if let Some(at) = told_at {
            let mut counts = lock(counts);
            counts.told += 1;
            counts.cut_after = counts.cut_after.max(at.elapsed());
        }
        ended
    };
    let writing = async {
        loop {
            match to_server.write(&chunk).await {
                Ok(count) => lock(counts).bytes += count as u64,
                // The reader notices the end.
                Err(_) => return std::future::pending().await,
            }
        }
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}

/// Asks for much, reads a little of it, and leaves the rest for a while.
async fn read_half(mut stream: TcpStream, counts: &Mutex<Counts>) -> io::Result<()> {
    let requests = LARGE.repeat(100);
    stream.write_all(&requests).await?;
    lock(counts).bytes += requests.len() as u64;
    let mut half = vec![0; 64 << 10];
    stream.read_exact(&mut half).await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

/// One empty message in as many parts as a message may have.
fn fragments() -> Vec<u8> {
    // A frame with a mask of zeros: the first is no final one, and continuations have the opcode 0.
    let part = |first: u8| [first, 0x80, 0, 0, 0, 0];
    let mut message = part(TEXT).to_vec();
    for _ in 0..FRAGMENTS - 2 {
        message.extend(part(0));
    }
    message.extend(part(0x80));
    message
}

fn lock(counts: &Mutex<Counts>) -> std::sync::MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

const FRAGMENTS: usize = 1_000;
const CHUNK_FRAMES: usize = 10_000;

pub(super) const HANDSHAKE: &[u8] =
    b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
      sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n";
const LARGE: &[u8] = b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n";
