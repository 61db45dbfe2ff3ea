//! Opening and closing connections. Plain blocking calls with deadlines, many connections in one step.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::dialect::{ACCEPT, Dialect, Reply, channel_name};
use crate::frame::{self, CLOSE};

/// Where a server can be reached, and how it is spoken to.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Subscribers connect here.
    pub subscribers: SocketAddr,
    /// The publisher connects here and sends lines of `<channel> <payload>`.
    pub publisher: SocketAddr,
    /// What subscribers speak.
    pub dialect: Dialect,
}

/// A connection that has subscribed.
#[derive(Debug)]
pub struct Subscribed {
    /// The connection.
    pub stream: TcpStream,
    /// What arrived behind the confirmation.
    pub rest: Vec<u8>,
}

/// Connects a subscriber for each channel number and waits until all of them are confirmed.
///
/// # Errors
/// When a connection fails, is refused or is not confirmed in ten seconds.
pub fn subscribe_all(target: &Target, channels: &[u64]) -> io::Result<Vec<Subscribed>> {
    let mut connections = open_all(target, channels)?;
    for (connection, &channel) in connections.iter_mut().zip(channels) {
        if let Some(command) = target.dialect.subscribe(&channel_name(channel)) {
            connection.stream.write_all(&command)?;
        }
    }
    if !target.dialect.subscribes_by_url() {
        for connection in &mut connections {
            connection.await_confirmation(target.dialect)?;
        }
    }
    Ok(connections)
}

/// Connects for each channel number, sends the frame that `command` makes for its index, and waits until all of them are
/// confirmed: the connections and the texts of their confirmations.
///
/// # Errors
/// As [`subscribe_all`].
pub fn subscribe_with(
    target: &Target,
    channels: &[u64],
    command: impl Fn(usize) -> Vec<u8>,
) -> io::Result<Vec<(Subscribed, Vec<u8>)>> {
    let mut connections = open_all(target, channels)?;
    for (index, connection) in connections.iter_mut().enumerate() {
        connection.stream.write_all(&command(index))?;
    }
    let confirmed = connections.into_iter().map(|mut connection| {
        let text = connection.await_confirmation(target.dialect)?;
        Ok((connection, text))
    });
    confirmed.collect()
}

fn open_all(target: &Target, channels: &[u64]) -> io::Result<Vec<Subscribed>> {
    let mut connections = Vec::with_capacity(channels.len());
    let host = target.subscribers.to_string();
    for &channel in channels {
        let mut stream = connect(target.subscribers)?;
        let request = target.dialect.request(&host, &channel_name(channel));
        stream.write_all(request.as_bytes())?;
        connections.push(Subscribed {
            stream,
            rest: Vec::new(),
        });
    }
    for connection in &mut connections {
        connection.await_upgrade()?;
    }
    Ok(connections)
}

/// Says goodbye on every connection and waits until the server has said so too.
///
/// # Errors
/// When a server does not answer in ten seconds.
pub fn close_all(connections: Vec<Subscribed>) -> io::Result<()> {
    let goodbye = frame::masked(CLOSE, &NORMAL_CLOSURE);
    for connection in &connections {
        (&connection.stream).write_all(&goodbye)?;
    }
    for mut connection in connections {
        loop {
            match frame::parse(&connection.rest)? {
                Some(frame) if frame.opcode == CLOSE => break,
                Some(frame) => {
                    let length = frame.length;
                    connection.rest.drain(..length);
                }
                None => connection.read_more()?,
            }
        }
    }
    Ok(())
}

impl Subscribed {
    fn await_upgrade(&mut self) -> io::Result<()> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.rest, b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more()?;
        };
        let head = String::from_utf8_lossy(&self.rest[..end]);
        if !head.starts_with("HTTP/1.1 101") || !head.contains(ACCEPT) {
            return Err(io::Error::other(format!("the upgrade was refused: {head}")));
        }
        self.rest.drain(..end);
        Ok(())
    }

    /// The text that confirms the subscription.
    fn await_confirmation(&mut self, dialect: Dialect) -> io::Result<Vec<u8>> {
        loop {
            let Some(frame) = frame::parse(&self.rest)? else {
                self.read_more()?;
                continue;
            };
            let reply = dialect.reply(frame.payload);
            if reply == Reply::Refused || frame.opcode == CLOSE {
                let text = String::from_utf8_lossy(frame.payload).into_owned();
                return Err(io::Error::other(format!(
                    "the subscription was refused: {text}"
                )));
            }
            let confirmation = (reply == Reply::Subscribed).then(|| frame.payload.to_vec());
            let length = frame.length;
            self.rest.drain(..length);
            if let Some(confirmation) = confirmation {
                return Ok(confirmation);
            }
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let length = self.stream.read(&mut buffer)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.rest.extend_from_slice(&buffer[..length]);
        Ok(())
    }
}

/// Connects. The source port is left to the kernel until then: 28,000 of them are free towards every new server, and one that is
/// bound before is looked for among all connections, those that ended a minute ago included.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Time enough for a server to answer hundreds of connections that come at once.
const DEADLINE: Duration = Duration::from_secs(10);
/// 1000 in network order.
const NORMAL_CLOSURE: [u8; 2] = [0x03, 0xe8];
