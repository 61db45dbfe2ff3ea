//! Real Redis servers, each in a process and a folder of its own, gone when dropped or when the tests end.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use crate::engine::redis::RedisOptions;

/// A Redis server.
pub(super) struct RedisProcess {
    shell: Child,
    pid: u32,
    port: u16,
    folder: PathBuf,
}

impl RedisProcess {
    /// Starts a server with some settings beyond the defaults, such as `["maxmemory", "5mb"]`.
    pub(super) async fn start(settings: &[[&str; 2]]) -> Self {
        for _ in 0..5 {
            let process = Self::spawn(free_port(), settings);
            if process.is_up().await {
                return process;
            }
        }
        panic!("redis-server does not start; is it installed?");
    }

    fn spawn(port: u16, settings: &[[&str; 2]]) -> Self {
        let folder = std::env::temp_dir().join(format!("fanfare-redis-{:x}", fastrand::u64(..)));
        std::fs::create_dir(&folder).unwrap();
        let own = [
            ["port", &port.to_string()],
            ["bind", "127.0.0.1"],
            ["dir", folder.to_str().unwrap()],
            ["save", "\"\""],
        ];
        let lines = own.iter().chain(settings);
        let lines: Vec<String> = lines
            .map(|[name, value]| format!("{name} {value}\n"))
            .collect();
        std::fs::write(folder.join("redis.conf"), lines.concat()).unwrap();
        let (shell, pid) = launch(&folder);
        Self {
            shell,
            pid,
            port,
            folder,
        }
    }

    /// Kills it and starts it again, on the same port and in the same folder.
    pub(super) async fn restart(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
        (self.shell, self.pid) = launch(&self.folder);
        assert!(self.is_up().await, "redis-server does not start again");
    }

    async fn is_up(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && self.is_running() {
            match self.try_connect().await {
                Ok(mut connection) => {
                    // Somebody else's server may have taken the port.
                    let mut info = redis::cmd("INFO");
                    let info = info.arg("server").query_async(&mut connection).await;
                    let info: String = info.unwrap_or_default();
                    return info.contains(&format!("process_id:{}", self.pid));
                }
                // It asks for a password.
                Err(error) if error.code() == Some("NOAUTH") => return true,
                Err(error) if error.kind() == redis::ErrorKind::AuthenticationFailed => {
                    return true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    fn is_running(&self) -> bool {
        PathBuf::from(format!("/proc/{}", self.pid)).exists()
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The options of an engine on it, with a prefix of its own.
    pub(super) fn options(&self) -> RedisOptions {
        let url = format!("redis://{}", self.address());
        let prefix = format!("test-{:x}:", fastrand::u64(..));
        url.parse::<RedisOptions>()
            .unwrap()
            .with_prefix(prefix)
            .unwrap()
    }

    /// A connection beside the engine's.
    pub(super) async fn connect(&self) -> MultiplexedConnection {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://{}/?protocol=resp3", self.address()))?;
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// Runs a command beside the engine.
    pub(super) async fn run(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut sent = redis::cmd(command[0]);
        sent.arg(&command[1..]);
        sent.query_async(&mut self.connect().await).await
    }

    /// Waits until it has all that its master has.
    pub(super) async fn until_replicating(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut connection = self.connect().await;
        loop {
            let mut info = redis::cmd("INFO");
            let info = info.arg("replication").query_async(&mut connection).await;
            let info: String = info.unwrap();
            if info.contains("master_link_status:up") {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the replica does not follow: {info}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends the process a signal: `STOP`, `CONT`, `KILL`.
    pub(super) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([format!("-{signal}"), self.pid.to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for RedisProcess {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts a server in its folder.
///
/// The shell outlives nobody: it ends its server when the pipe to it closes, however this process ends.
fn launch(folder: &Path) -> (Child, u32) {
    let script = "redis-server - <\"$1\" >/dev/null 2>&1 & echo $!; read -r line; kill -9 $!";
    let mut shell = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(folder.join("redis.conf"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pid = String::new();
    let stdout = shell.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut pid).unwrap();
    (shell, pid.trim().parse().unwrap())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
