//! A Redis server in a process of its own, on one core.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine;

/// A running Redis server without persistence; it ends with this value.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    address: SocketAddr,
}

impl RedisServer {
    /// Starts one on a core, and leaves this process on another.
    ///
    /// # Errors
    /// When it does not start within ten seconds.
    pub fn start(core: usize, own_core: usize) -> io::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        // The child begins where this process is.
        machine::pin_to(core)?;
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| {
                io::Error::other(format!(
                    "redis-server does not start, is it installed? {error}"
                ))
            });
        machine::pin_to(own_core)?;
        let server = Self {
            child: child?,
            address: (Ipv4Addr::LOCALHOST, port).into(),
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(server.address).is_err() {
            if Instant::now() > deadline {
                return Err(io::Error::other("redis-server does not listen"));
            }
            std::thread::yield_now();
        }
        Ok(server)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many scripts ran since it began. Nodes read with scripts alone, so this is at least the number of reads.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn scripts(&self) -> io::Result<u64> {
        Ok(self.calls("evalsha")? + self.calls("eval")?)
    }

    /// How often a command ran since it began, in scripts as well.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn calls(&self, command: &str) -> io::Result<u64> {
        let client = redis::Client::open(self.url()).map_err(io::Error::other)?;
        let mut connection = client.get_connection().map_err(io::Error::other)?;
        let text: String = redis::cmd("INFO")
            .arg("commandstats")
            .query(&mut connection)
            .map_err(io::Error::other)?;
        Ok(calls(&text, command))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The calls of a command in a reply to `INFO commandstats`.
fn calls(text: &str, command: &str) -> u64 {
    let line = format!("cmdstat_{command}:calls=");
    let figures = text.lines().find_map(|one| one.strip_prefix(&line));
    let digits = figures.and_then(|figures| figures.split(',').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_in_the_reply() {
        let text =
            "# Commandstats\r\ncmdstat_evalsha:calls=12,usec=3\r\ncmdstat_get:calls=4,usec=1\r\n";
        assert_eq!((calls(text, "evalsha"), calls(text, "eval")), (12, 0));
    }
}
