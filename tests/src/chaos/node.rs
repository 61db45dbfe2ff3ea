//! One server process.

#![expect(clippy::unwrap_used, reason = "what does not start fails the run")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::access;
use crate::process::{Folder, Process, eventually, free_port};

/// What a server process is started with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The program.
    pub program: PathBuf,
    /// The store's URL; in memory when absent.
    pub redis_url: Option<String>,
    /// What keys begin with.
    pub prefix: String,
    /// A network namespace and its address there.
    pub namespace: Option<(String, IpAddr)>,
}

/// One server process. It keeps its port over restarts.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    address: SocketAddr,
    process: Option<Process>,
    folder: Folder,
}

impl Node {
    /// Starts one. Answers once it is ready.
    pub async fn start(config: NodeConfig) -> Self {
        let host = match config.namespace {
            Some((_, host)) => host,
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let mut node = Self {
            config,
            address: (host, free_port()).into(),
            process: None,
            folder: Folder::new("node").unwrap(),
        };
        node.restart().await;
        node
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Starts it (again). Answers once it is ready.
    pub async fn restart(&mut self) {
        self.launch();
        eventually("a node that is ready", async || {
            self.has_ended() || self.is_ready().await
        })
        .await;
        assert!(!self.has_ended(), "a node ended at once: {}", self.log());
    }

    fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|one| !one.is_running())
    }

    /// Starts it (again) and does not wait.
    pub fn launch(&mut self) {
        self.kill();
        let mut words = match &self.config.namespace {
            Some((name, _)) => ["ip", "netns", "exec", name].map(str::to_owned).to_vec(),
            None => Vec::new(),
        };
        words.push(self.config.program.display().to_string());
        let listen = match self.config.namespace {
            Some(_) => format!("0.0.0.0:{}", self.address.port()),
            None => self.address.to_string(),
        };
        words.extend(["--listen".to_owned(), listen]);
        for rule in access::RULES {
            words.extend(["--rule".to_owned(), rule.to_owned()]);
        }
        for (name, value) in [
            ("--drain-delay", "1s"),
            ("--drain-spread", "3s"),
            ("--log", "info"),
        ] {
            words.extend([name.to_owned(), value.to_owned()]);
        }
        if let Some(url) = &self.config.redis_url {
            words.extend(["--redis-url".to_owned(), url.clone()]);
            words.extend(["--redis-prefix".to_owned(), self.config.prefix.clone()]);
        }
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("FANFARE_JWT_SECRET", access::SECRET)
            .env("FANFARE_SECRET", access::SECRET);
        self.process = Some(Process::start(command, &self.log_path()).unwrap());
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end, waits until it has, and answers whether it says that all is well.
    pub async fn stop(&mut self) -> bool {
        let Some(mut process) = self.process.take() else {
            return true;
        };
        process.terminate();
        let patience = Duration::from_secs(35);
        let ended = async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            loop {
                look.tick().await;
                if let Some(outcome) = process.outcome() {
                    return outcome.success();
                }
            }
        };
        tokio::time::timeout(patience, ended).await.unwrap_or(false)
    }

    /// Stops it where it is.
    pub fn pause(&self) {
        if let Some(process) = &self.process {
            process.pause();
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(process) = &self.process {
            process.resume();
        }
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        let asking = status(self.address, "/health/ready");
        let answer = tokio::time::timeout(Duration::from_secs(2), asking).await;
        matches!(answer, Ok(Ok(200)))
    }

    /// How many files it has open, and how many bytes of memory it holds.
    #[must_use]
    pub fn open_files_and_bytes(&self) -> Option<(u64, u64)> {
        let place = PathBuf::from(format!("/proc/{}", self.id()?));
        let files = fs::read_dir(place.join("fd")).ok()?.count();
        let status = fs::read_to_string(place.join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some((u64::try_from(files).ok()?, kilobytes * 1024))
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Keeps what it has logged where it outlives the run.
    pub fn keep_log(&self, path: &Path) {
        // A log that cannot be kept is no reason to fail.
        let _ = fs::copy(self.log_path(), path);
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("node.log")
    }
}

/// The status of an answer.
async fn status(address: SocketAddr, path: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = vec![0; 12];
    stream.read_exact(&mut head).await?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let number = text
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok());
    number.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}
