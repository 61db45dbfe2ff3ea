//! The others: plain connections whose waits are what the benchmark is about. Blocking calls, on a thread of their own.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::peer::HANDSHAKE;
use super::server::{MESSAGE_DEADLINE, STALE_AFTER};
use crate::frame::{self, CLOSE, TEXT, masked};
use crate::histogram::Histogram;

/// How the others fared.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    /// From a ping command to its answer.
    pub ping: Histogram,
    /// From connecting for `/health/live` to the end of its answer.
    pub health: Histogram,
    /// How much later than it should a mute connection was closed as stale.
    pub stale_late: Vec<Duration>,
    /// The same for one whose message was not finished in time.
    pub message_late: Vec<Duration>,
}

/// Looks at the server for so long.
///
/// # Errors
/// When a connection fails, or waits for more than [`LIMIT`].
pub fn watch(address: SocketAddr, duration: Duration) -> io::Result<Waits> {
    let mut waits = Waits::default();
    let closings = std::thread::spawn(move || watch_closings(address, duration));
    let mut socket = Socket::open(address)?;
    let begun = Instant::now();
    let command = masked(TEXT, br#"{"type":"ping","id":1}"#);
    while begun.elapsed() < duration {
        let asked = Instant::now();
        socket.stream.write_all(&command)?;
        socket.until(TEXT)?;
        waits.ping.record(asked.elapsed());
        let asked = Instant::now();
        ask_for_health(address)?;
        waits.health.record(asked.elapsed());
        crate::machine::wait(PAUSE);
    }
    let closings = closings.join();
    let closings = closings.map_err(|_| io::Error::other("a witness panicked"))??;
    waits.stale_late = closings.0;
    waits.message_late = closings.1;
    Ok(waits)
}

type Lateness = (Vec<Duration>, Vec<Duration>);

fn watch_closings(address: SocketAddr, duration: Duration) -> io::Result<Lateness> {
    let begun = Instant::now();
    let mut late: Lateness = Default::default();
    while begun.elapsed() < duration {
        let mut unfinished = Socket::open(address)?;
        let mut mute = Socket::open(address)?;
        let mute_since = Instant::now();
        // The beginning of a message: its rest never comes.
        unfinished.stream.write_all(&masked(TEXT, b"{}")[..4])?;
        let unfinished_since = Instant::now();
        unfinished.until(CLOSE)?;
        let waited = unfinished_since.elapsed();
        late.1.push(waited.saturating_sub(MESSAGE_DEADLINE));
        mute.until(CLOSE)?;
        late.0
            .push(mute_since.elapsed().saturating_sub(STALE_AFTER));
    }
    Ok(late)
}

fn ask_for_health(address: SocketAddr) -> io::Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        Err(io::Error::other("the health check was not answered"))
    }
}

struct Socket {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Socket {
    /// Opens a WebSocket and waits for the server's first message.
    fn open(address: SocketAddr) -> io::Result<Self> {
        let mut stream = connect(address)?;
        stream.write_all(HANDSHAKE)?;
        let mut socket = Self {
            stream,
            rest: Vec::new(),
        };
        let end = loop {
            if let Some(at) = memchr::memmem::find(&socket.rest, b"\r\n\r\n") {
                break at + 4;
            }
            socket.read_more()?;
        };
        socket.rest.drain(..end);
        socket.until(TEXT)?;
        Ok(socket)
    }

    /// Reads up to a frame of that kind.
    fn until(&mut self, opcode: u8) -> io::Result<()> {
        loop {
            match frame::parse(&self.rest)? {
                Some(frame) => {
                    let is_it = frame.opcode == opcode;
                    let length = frame.length;
                    self.rest.drain(..length);
                    if is_it {
                        return Ok(());
                    }
                }
                None => self.read_more()?,
            }
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut piece = [0; 4_096];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.rest.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// 10 s: a server that takes longer is frozen.
pub const LIMIT: Duration = Duration::from_secs(10);

/// 5 ms: some 150 looks a second, which cost the server nothing.
const PAUSE: Duration = Duration::from_millis(5);
