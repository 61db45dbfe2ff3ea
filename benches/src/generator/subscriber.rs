//! One subscribed connection.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::handshake::Subscribed;
use crate::dialect::Dialect;
use crate::frame::{self, CLOSE, PING, PONG, TEXT};

/// Reads frames and hands their payloads on.
#[derive(Debug)]
pub(super) struct Subscriber {
    stream: TcpStream,
    dialect: Dialect,
    /// The beginning of a frame whose end has not arrived.
    partial: Vec<u8>,
    bytes_read: u64,
}

impl Subscriber {
    pub(super) fn new(connection: Subscribed, dialect: Dialect) -> io::Result<Self> {
        connection.stream.set_nonblocking(true)?;
        Ok(Self {
            stream: connection.stream,
            dialect,
            partial: connection.rest,
            bytes_read: 0,
        })
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Reads once and hands on every complete payload; false when the connection has come to its end.
    pub(super) fn read(&mut self, buffer: &mut [u8], deliver: impl FnMut(&[u8], Instant)) -> bool {
        let length = match self.stream.read(buffer) {
            Ok(0) => return false,
            Ok(length) => length,
            Err(error) => {
                return matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                );
            }
        };
        self.bytes_read += length as u64;
        if self.partial.is_empty() {
            let (used, is_open) = self.consume(&buffer[..length], deliver);
            self.partial.extend_from_slice(&buffer[used..length]);
            return is_open;
        }
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(&buffer[..length]);
        let (used, is_open) = self.consume(&bytes, deliver);
        bytes.drain(..used);
        self.partial = bytes;
        is_open
    }

    /// Handles complete frames: how many bytes they took, and whether more may follow.
    fn consume(&self, bytes: &[u8], mut deliver: impl FnMut(&[u8], Instant)) -> (usize, bool) {
        let now = Instant::now();
        let mut used = 0;
        loop {
            let frame = match frame::parse(&bytes[used..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => return (used, true),
                Err(_) => {
                    deliver(&bytes[used..], now);
                    return (bytes.len(), false);
                }
            };
            match frame.opcode {
                TEXT => self
                    .dialect
                    .payloads(frame.payload, |payload| deliver(payload, now)),
                // A pong that does not fit is a full socket: the server notices by itself.
                PING => drop((&self.stream).write(&frame::masked(PONG, frame.payload))),
                PONG => {}
                CLOSE => return (bytes.len(), false),
                _ => deliver(frame.payload, now),
            }
            used += frame.length;
        }
    }
}

impl AsFd for Subscriber {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
