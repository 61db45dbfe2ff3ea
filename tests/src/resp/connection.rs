//! One connection to a Redis, without any cleverness.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Value, command, read};

/// One connection to a Redis.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens, or not within 5 s.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = within(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends a command and takes the next thing that is said.
    ///
    /// # Errors
    /// When the connection ends, or nothing is said within 5 s. What Redis refuses is a [`Value::Error`].
    pub async fn command<T: AsRef<[u8]>>(&mut self, words: &[T]) -> io::Result<Value> {
        self.send(words).await?;
        within(self.receive()).await
    }

    /// Sends a command.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send<T: AsRef<[u8]>>(&mut self, words: &[T]) -> io::Result<()> {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        within(self.stream.write_all(&command(&words))).await
    }

    /// The next thing that is said, whenever that is.
    ///
    /// # Errors
    /// When the connection ends, or what comes is not RESP.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn receive(&mut self) -> io::Result<Value> {
        loop {
            let frame = read(&self.buffer).map_err(io::Error::other)?;
            if let Some((value, length)) = frame {
                self.buffer.drain(..length);
                return Ok(value);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

async fn within<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// 5 s: a Redis that does not answer by then is as good as none.
const PATIENCE: Duration = Duration::from_secs(5);
