//! The publishing connection: a line per message.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Writes messages; never waits for the server.
#[derive(Debug)]
pub(super) struct Publisher {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Publisher {
    pub(super) fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            pending: Vec::new(),
        })
    }

    /// Queues a message.
    pub(super) fn push(&mut self, channel: &str, payload: &[u8]) {
        self.pending.extend_from_slice(channel.as_bytes());
        self.pending.push(b' ');
        self.pending.extend_from_slice(payload);
        self.pending.push(b'\n');
    }

    /// Writes what is queued, in one call as far as the socket takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.stream.write(&self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
