//! What a session must still send: bounded in bytes, written directly to the socket while nothing waits.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fanfare_protocol::SocketId;
use socket2::SockRef;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::dialect::Dialect;

/// One connection's way out.
///
/// Whoever has a frame offers it here: the hub's sweep, or the session's own driver. While nothing waits, the offer is a
/// non-blocking write; what the socket does not take is queued and the driver writes it when the socket can take more.
/// The lock is held for at most one write call and never across an await.
#[derive(Debug)]
pub(crate) struct Outbox {
    socket: SocketId,
    dialect: Dialect,
    bytes_max: usize,
    stream: Stream,
    queue: Mutex<Queue>,
    wake: Notify,
    drained: Notify,
    /// Whoever holds it is the one whose large reply may go into the empty outbox next.
    turn: Semaphore,
}

/// A socket that can be written to without a task of its own.
#[derive(Debug)]
pub(crate) enum Stream {
    /// The fast road: the connection itself.
    Tcp(TcpStream),
    /// The generic road (TLS and the like): the near end of a pair whose far end a task copies to and from the connection.
    #[cfg(unix)]
    Pair(UnixStream),
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Written or queued.
    Taken,
    /// There is no room.
    Full,
    /// The connection takes nothing any more.
    Closed,
}

/// What a flush came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Nothing waits any more.
    Done,
    /// The socket took some of what waits.
    Advanced,
    /// The socket took nothing.
    Stuck,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    is_head_partial: bool,
    /// What is said once everything that waits is out.
    notices: Vec<Bytes>,
    gate: Gate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Gate {
    #[default]
    Open,
    /// Too slow: only the driver's last words are still taken.
    Slow,
    /// The last words are queued.
    Closing,
    /// The socket failed.
    Broken,
}

impl Outbox {
    pub(crate) fn new(
        socket: SocketId,
        dialect: Dialect,
        bytes_max: usize,
        stream: Stream,
    ) -> Self {
        Self {
            socket,
            dialect,
            bytes_max,
            stream,
            queue: Mutex::default(),
            wake: Notify::new(),
            drained: Notify::new(),
            turn: Semaphore::new(1),
        }
    }

    pub(crate) fn socket(&self) -> SocketId {
        self.socket
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Offers complete frames.
    ///
    /// A full outbox takes nothing; a single offer larger than the whole bound is taken when nothing else waits, so that the
    /// largest allowed message can always be sent.
    pub(crate) fn offer(&self, frames: &Bytes) -> Offer {
        let mut queue = self.lock();
        if queue.gate != Gate::Open {
            return Offer::Closed;
        }
        self.write_or_queue(&mut queue, frames, self.bytes_max)
    }

    /// Keeps frames to be sent once everything that waits is out.
    pub(crate) fn notice(&self, frames: Bytes) {
        let mut queue = self.lock();
        if queue.gate == Gate::Open {
            queue.notices.push(frames);
            self.wake.notify_one();
        }
    }

    /// Closes the way for a reader that is too slow: what waits is dropped and the driver is woken to say so.
    pub(crate) fn mark_slow(&self) {
        let mut queue = self.lock();
        if queue.gate == Gate::Open {
            queue.gate = Gate::Slow;
            queue.drop_waiting();
            self.wake.notify_one();
        }
    }

    /// Queues the driver's last words; nothing is taken after them.
    pub(crate) fn close_with(&self, frames: &Bytes) {
        let mut queue = self.lock();
        if matches!(queue.gate, Gate::Open | Gate::Slow) {
            // Nothing may follow a close frame (RFC 6455, 5.5.1).
            queue.notices = Vec::new();
            let offer = self.write_or_queue(&mut queue, frames, usize::MAX);
            queue.gate = if offer == Offer::Taken {
                Gate::Closing
            } else {
                Gate::Broken
            };
        }
    }

    /// Says that nothing more will be written. What was written still arrives, and the peer may go on writing.
    pub(crate) fn end(&self) {
        // A connection that is gone already needs not be told.
        let _ = match &self.stream {
            Stream::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            #[cfg(unix)]
            Stream::Pair(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
        };
    }

    /// Bounds for how long the kernel keeps what the peer has not taken, once the socket is closed. Without that it is a quarter
    /// of an hour for a peer that is there and does not read, and no limit here counts such a connection.
    pub(crate) fn let_go(&self) {
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if let Stream::Tcp(stream) = &self.stream {
            // A connection that is gone already keeps nothing.
            let _ = SockRef::from(stream).set_tcp_user_timeout(Some(ORPHANED_MAX));
        }
    }

    /// Gives the connection up: the driver is woken to end.
    pub(crate) fn cut(&self) {
        self.lock().gate = Gate::Broken;
        self.wake.notify_one();
    }

    pub(crate) fn is_slow(&self) -> bool {
        self.lock().gate == Gate::Slow
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.lock().gate == Gate::Broken
    }

    pub(crate) fn is_empty(&self) -> bool {
        let queue = self.lock();
        queue.frames.is_empty() && queue.notices.is_empty()
    }

    /// Waits for a turn with an empty outbox: large replies go out one after the other, so that they do not overflow it
    /// together. Answers `None` when the outbox did not drain in time. Cancel safe.
    pub(crate) async fn turn(&self, deadline: Duration) -> Option<SemaphorePermit<'_>> {
        let turn = async {
            let permit = self.turn.acquire().await.ok()?;
            loop {
                let drained = self.drained.notified();
                if self.is_empty() {
                    return Some(permit);
                }
                drained.await;
            }
        };
        tokio::time::timeout(deadline, turn).await.ok().flatten()
    }

    /// Wakes the driver: something other than the socket wants its attention.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when the driver was woken. Cancel safe: a wake-up is kept until it is taken.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Writes what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// When the socket failed; the outbox is closed then.
    pub(crate) fn flush(&self) -> io::Result<Flush> {
        let mut queue = self.lock();
        let mut flush = Flush::Stuck;
        loop {
            if queue.frames.is_empty() && !queue.raise_notices() {
                self.drained.notify_waiters();
                return Ok(Flush::Done);
            }
            match self.write_queued(&queue) {
                Ok(written) => {
                    queue.consume(written);
                    flush = Flush::Advanced;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(flush),
                Err(error) => {
                    queue.gate = Gate::Broken;
                    return Err(error);
                }
            }
        }
    }

    /// Waits until the socket can be read, or written.
    ///
    /// # Errors
    /// When the runtime's I/O driver is gone.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match &self.stream {
            Stream::Tcp(stream) => stream.ready(interest).await,
            #[cfg(unix)]
            Stream::Pair(stream) => stream.ready(interest).await,
        }
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else when the socket failed.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => stream.try_read(buffer),
            #[cfg(unix)]
            Stream::Pair(stream) => stream.try_read(buffer),
        }
    }

    fn write_or_queue(&self, queue: &mut Queue, frames: &Bytes, bytes_max: usize) -> Offer {
        let mut rest = frames.clone();
        if queue.frames.is_empty() {
            match self.try_write(frames) {
                Ok(written) if written == frames.len() => return Offer::Taken,
                Ok(written) => {
                    rest = frames.slice(written..);
                    queue.is_head_partial = written > 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    queue.gate = Gate::Broken;
                    self.wake.notify_one();
                    return Offer::Closed;
                }
            }
        } else if queue.bytes.saturating_add(frames.len()) > bytes_max {
            return Offer::Full;
        }
        queue.bytes += rest.len();
        queue.frames.push_back(rest);
        if queue.frames.len() == 1 {
            self.wake.notify_one();
        }
        Offer::Taken
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => stream.try_write(bytes),
            #[cfg(unix)]
            Stream::Pair(stream) => stream.try_write(bytes),
        }
    }

    fn write_queued(&self, queue: &Queue) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = queue.frames.len().min(SLICES_MAX);
        for (slice, frame) in slices.iter_mut().zip(&queue.frames) {
            *slice = IoSlice::new(frame);
        }
        match &self.stream {
            Stream::Tcp(stream) => stream.try_write_vectored(&slices[..count]),
            #[cfg(unix)]
            Stream::Pair(stream) => stream.try_write_vectored(&slices[..count]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn consume(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(head) = self.frames.front_mut() {
            if written < head.len() {
                if written > 0 {
                    *head = head.slice(written..);
                    self.is_head_partial = true;
                }
                return;
            }
            written -= head.len();
            self.is_head_partial = false;
            self.frames.pop_front();
        }
        // An idle connection owns no queue memory.
        self.frames = VecDeque::new();
    }

    /// Queues the notices; answers whether there were any.
    fn raise_notices(&mut self) -> bool {
        self.frames.extend(std::mem::take(&mut self.notices));
        self.bytes = self.frames.iter().map(Bytes::len).sum();
        !self.frames.is_empty()
    }

    /// Drops what waits, except the rest of a frame whose beginning is already out: the peer must be able to read on.
    fn drop_waiting(&mut self) {
        let keep = usize::from(self.is_head_partial);
        self.frames.truncate(keep);
        self.notices = Vec::new();
        self.bytes = self.frames.iter().map(Bytes::len).sum();
    }
}

/// 5 s: for a slow peer to read the last words.
#[cfg(any(target_os = "android", target_os = "linux"))]
const ORPHANED_MAX: Duration = Duration::from_secs(5);

/// 64: as many frames as one vectored write carries.
const SLICES_MAX: usize = 64;
