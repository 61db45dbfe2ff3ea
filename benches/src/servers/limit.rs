//! The physical limit: what the kernel charges for a delivery, with as good as nothing of our own around it.
//!
//! One thread, level-triggered epoll, frames built once per message. It loses nothing (what a socket does not take is kept), but
//! knows no limits, no pings and only the handshake of this benchmark.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::{Listeners, lines};
use crate::dialect::{self, ACCEPT};
use crate::frame::{self, CLOSE};

/// How messages that were read together are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// Each one for itself.
    Single,
    /// Those of one channel in one piece.
    Joined,
    /// As [`Joined`](Self::Joined), each in the envelope of `fanfare.v1`.
    JoinedInEnvelope,
}

/// Serves until the process is killed.
///
/// # Errors
/// When epoll or a listener fails.
pub fn serve(listeners: Listeners, sends: Sends) -> io::Result<()> {
    listeners.announce()?;
    let mut server = Server {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        listeners,
        sends,
        publisher: None,
        unfinished_line: Vec::new(),
        connections: Vec::new(),
        vacant: Vec::new(),
        channels: HashMap::new(),
        buffer: vec![0; READ_BYTES],
    };
    server.run()
}

struct Server {
    epoll: OwnedFd,
    listeners: Listeners,
    sends: Sends,
    publisher: Option<TcpStream>,
    unfinished_line: Vec<u8>,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    channels: HashMap<Vec<u8>, Vec<usize>>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// The unfinished request, while there is one.
    request: Vec<u8>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
    /// Its channel and its place in that channel's list.
    membership: Option<(Vec<u8>, usize)>,
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        self.watch(&self.listeners.subscribers, SUBSCRIBERS)?;
        self.watch(&self.listeners.publisher, PUBLISHERS)?;
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        loop {
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                match event.data.u64() {
                    SUBSCRIBERS => self.accept()?,
                    PUBLISHERS => self.accept_publisher()?,
                    PUBLISHER => self.publish()?,
                    index => {
                        if !self.serve_connection(index as usize, event.flags)? {
                            self.remove(index as usize);
                        }
                    }
                }
            }
        }
    }

    fn watch(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, source, data, EventFlags::IN)?)
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(stream) = next_connection(&self.listeners.subscribers)? {
            let index = self.vacant.pop().unwrap_or(self.connections.len());
            self.watch(&stream, index as u64)?;
            let connection = Connection {
                stream,
                request: Vec::new(),
                unsent: Vec::new(),
                membership: None,
            };
            match self.connections.get_mut(index) {
                Some(place) => *place = Some(connection),
                None => self.connections.push(Some(connection)),
            }
        }
        Ok(())
    }

    fn accept_publisher(&mut self) -> io::Result<()> {
        if let Some(stream) = next_connection(&self.listeners.publisher)? {
            self.watch(&stream, PUBLISHER)?;
            self.unfinished_line.clear();
            self.publisher = Some(stream);
        }
        Ok(())
    }

    /// Reads from the publisher once and sends what it says.
    fn publish(&mut self) -> io::Result<()> {
        let Some(publisher) = &mut self.publisher else {
            return Ok(());
        };
        let length = match publisher.read(&mut self.buffer) {
            Ok(0) => {
                self.publisher = None;
                return Ok(());
            }
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut input = std::mem::take(&mut self.unfinished_line);
        input.extend_from_slice(&self.buffer[..length]);
        let end = memchr::memrchr(b'\n', &input).map_or(0, |last| last + 1);
        for (channel, frames) in batches(&input[..end], self.sends) {
            self.sweep(channel, &frames)?;
        }
        input.drain(..end);
        self.unfinished_line = input;
        Ok(())
    }

    fn sweep(&mut self, channel: &[u8], frames: &[u8]) -> io::Result<()> {
        let Some(subscribers) = self.channels.get(channel) else {
            return Ok(());
        };
        for &index in subscribers {
            if let Some(connection) = &mut self.connections[index]
                && connection.send(frames)
            {
                connection.watch_output(&self.epoll, index)?;
            }
        }
        Ok(())
    }

    /// Handles what happened to a connection; false when it is over.
    fn serve_connection(&mut self, index: usize, flags: EventFlags) -> io::Result<bool> {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return Ok(true);
        };
        if flags.contains(EventFlags::OUT) && connection.flush() {
            connection.watch_input(&self.epoll, index)?;
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(true);
        }
        let input = match connection.stream.read(&mut self.buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => &self.buffer[..length],
            Err(error) => return Ok(error.kind() == io::ErrorKind::WouldBlock),
        };
        if connection.membership.is_some() {
            let is_goodbye = input[0] & 0x0f == CLOSE;
            if is_goodbye {
                connection.send(&GOODBYE);
            }
            return Ok(!is_goodbye);
        }
        connection.request.extend_from_slice(input);
        if !connection.request.ends_with(b"\r\n\r\n") {
            return Ok(true);
        }
        let request = std::mem::take(&mut connection.request);
        let Some(channel) = channel_of(&request) else {
            return Ok(false);
        };
        connection.send(upgrade().as_bytes());
        let members = self.channels.entry(channel.to_vec()).or_default();
        connection.membership = Some((channel.to_vec(), members.len()));
        members.push(index);
        Ok(true)
    }

    fn remove(&mut self, index: usize) {
        let Some(connection) = self.connections[index].take() else {
            return;
        };
        self.vacant.push(index);
        let Some((channel, place)) = connection.membership else {
            return;
        };
        let Some(members) = self.channels.get_mut(&channel) else {
            return;
        };
        members.swap_remove(place);
        if let Some(&moved) = members.get(place)
            && let Some(Some(Connection {
                membership: Some((_, moved_place)),
                ..
            })) = self.connections.get_mut(moved)
        {
            *moved_place = place;
        }
        if members.is_empty() {
            self.channels.remove(&channel);
        }
    }
}

impl Connection {
    /// Sends as much as the socket takes and keeps the rest; true when the rest must wait for the socket from now on.
    fn send(&mut self, bytes: &[u8]) -> bool {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return false;
        }
        let sent = match send(&self.stream, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            // Its end is on the way as an event.
            Err(_) => return false,
        };
        self.unsent.extend_from_slice(&bytes[sent..]);
        !self.unsent.is_empty()
    }

    /// Sends the rest; true when there is none any more.
    fn flush(&mut self) -> bool {
        if let Ok(sent) = send(&self.stream, &self.unsent, SendFlags::NOSIGNAL) {
            self.unsent.drain(..sent);
        }
        self.unsent.is_empty()
    }

    fn watch_output(&self, epoll: &OwnedFd, index: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(index as u64);
        Ok(epoll::modify(
            epoll,
            &self.stream,
            data,
            EventFlags::IN | EventFlags::OUT,
        )?)
    }

    fn watch_input(&self, epoll: &OwnedFd, index: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(index as u64);
        Ok(epoll::modify(epoll, &self.stream, data, EventFlags::IN)?)
    }
}

/// The frames of complete lines, in the pieces in which they are sent.
fn batches(input: &[u8], sends: Sends) -> Vec<(&[u8], Vec<u8>)> {
    let mut batches: Vec<(&[u8], Vec<u8>)> = Vec::new();
    let messages = input.split(|&byte| byte == b'\n').filter_map(lines::split);
    for (channel, payload) in messages {
        let joined = batches
            .iter()
            .position(|(other, _)| sends != Sends::Single && *other == channel);
        let place = joined.unwrap_or_else(|| {
            batches.push((channel, Vec::with_capacity(payload.len() + 4)));
            batches.len() - 1
        });
        let frames = &mut batches[place].1;
        if sends == Sends::JoinedInEnvelope {
            let mut event = Vec::new();
            dialect::push_event(&mut event, channel, payload);
            frame::push_text(frames, &event);
        } else {
            frame::push_text(frames, payload);
        }
    }
    batches
}

fn next_connection(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(Some(stream))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The channel named in `GET /ws?channel=<name> HTTP/1.1`.
fn channel_of(request: &[u8]) -> Option<&[u8]> {
    let name = request.strip_prefix(b"GET /ws?channel=")?;
    name.split(|&byte| byte == b' ').next()
}

fn upgrade() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
}

const SUBSCRIBERS: u64 = u64::MAX;
const PUBLISHERS: u64 = u64::MAX - 1;
const PUBLISHER: u64 = u64::MAX - 2;
const EVENTS_PER_TURN: usize = 1_024;
const READ_BYTES: usize = 64 * 1024;
/// A close frame with 1000.
const GOODBYE: [u8; 4] = [0x88, 2, 0x03, 0xe8];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_one_read_are_joined_by_channel_or_kept_apart() {
        let input = b"a one\nb two\na three\n";
        let single = batches(input, Sends::Single);
        assert_eq!(single.len(), 3);
        let joined = batches(input, Sends::Joined);
        assert_eq!(joined.len(), 2);
        assert_eq!(joined[0], (&b"a"[..], b"\x81\x03one\x81\x05three".to_vec()));
        let [(_, one), (_, two)] = &batches(input, Sends::JoinedInEnvelope)[..] else {
            panic!("two channels");
        };
        let event = br#"{"type":"event","channel":"b","event":"tick","data":"two"}"#;
        assert_eq!(two[2..], event[..]);
        assert_eq!(one.len(), 2 * two.len() + 2);
    }

    #[test]
    fn the_channel_is_taken_from_the_request_line() {
        assert_eq!(
            channel_of(b"GET /ws?channel=bench-7 HTTP/1.1\r\n"),
            Some(&b"bench-7"[..])
        );
        assert_eq!(channel_of(b"GET / HTTP/1.1\r\n"), None);
    }
}
