//! The standalone server as a process of its own, and load balancers in front of several.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what does not start fails the test"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, io};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http;
use crate::process::{Folder, Process, eventually, free_port};

/// Where the standalone server is; the first call builds it, in the same profile as the tests.
#[must_use]
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let target = own_target_folder();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--quiet", "-p", "fanfare"])
            .args(["--bin", "fanfare"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .env("CARGO_TARGET_DIR", target.parent().unwrap());
        if target.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo.status().unwrap();
        assert!(built.success(), "the standalone server is not built");
        target.join("fanfare")
    })
}

/// `target/debug` or `target/release`: a test lies in `deps` below it.
fn own_target_folder() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let folder = this.parent().unwrap();
    match folder.ends_with("deps") {
        true => folder.parent().unwrap().to_owned(),
        false => folder.to_owned(),
    }
}

/// What a standalone server is started with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The program.
    pub program: PathBuf,
    /// The arguments of `serve`, besides where it listens.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
    /// A network namespace and its address there; the machine's own and `127.0.0.1` when absent.
    pub namespace: Option<(String, IpAddr)>,
}

/// A standalone server. It keeps its port over restarts, and is killed when it is dropped.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    address: SocketAddr,
    // Before the folder: first it ends, then its files go.
    process: Option<Process>,
    folder: Folder,
}

impl Node {
    /// Starts one on a free port, with more arguments and environment variables. Answers once it is ready.
    pub async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments = arguments.iter().map(|&text| text.to_owned());
        let variables = variables.iter();
        let variables = variables.map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let config = NodeConfig {
            program: program().to_owned(),
            arguments: arguments.collect(),
            variables: variables.collect(),
            namespace: None,
        };
        Self::start_with(config).await
    }

    /// Starts one with a configuration. Answers once it is ready.
    pub async fn start_with(config: NodeConfig) -> Self {
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

    /// Its process id, while it runs.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Keeps what it has written where it outlives the test.
    pub fn keep_log(&self, path: &Path) {
        // A log that cannot be kept is no reason to fail.
        let _ = fs::copy(self.log_path(), path);
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to stop, as a deploy does.
    pub fn terminate(&self) {
        if let Some(process) = &self.process {
            process.terminate();
        }
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

    /// How it ended, once it has.
    pub fn outcome(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.outcome()
    }

    /// Starts it anew on the port it had. Answers once it is ready.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = Some(self.launch());
        eventually("a node to be ready", async || {
            if let Some(outcome) = self.outcome() {
                panic!("a node ended with {outcome}:\n{}", self.log());
            }
            self.is_ready().await
        })
        .await;
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        let asking = status(self.address, "/health/ready");
        let answer = tokio::time::timeout(ANSWER_MAX, asking).await;
        matches!(answer, Ok(Ok(200)))
    }

    /// How many files it has open, and how many bytes of memory it holds.
    #[must_use]
    pub fn open_files_and_bytes(&self) -> Option<(u64, u64)> {
        let place = PathBuf::from(format!("/proc/{}", self.process.as_ref()?.id()));
        let files = fs::read_dir(place.join("fd")).ok()?.count();
        let status = fs::read_to_string(place.join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some((u64::try_from(files).ok()?, kilobytes * 1024))
    }

    fn launch(&self) -> Process {
        let mut words = match &self.config.namespace {
            Some((name, _)) => ["ip", "netns", "exec", name].map(str::to_owned).to_vec(),
            None => Vec::new(),
        };
        words.push(self.config.program.display().to_string());
        let listen = match self.config.namespace {
            Some(_) => format!("0.0.0.0:{}", self.address.port()),
            None => self.address.to_string(),
        };
        words.extend(["serve".to_owned(), "--listen".to_owned(), listen]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(&self.config.arguments);
        command.env_remove("REDIS_URL");
        let variables = self.config.variables.iter();
        command.envs(variables.map(|(name, value)| (name, value)));
        Process::start(command, &self.log_path()).unwrap()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// The status of an answer; nobody may listen yet.
async fn status(address: SocketAddr, path: &str) -> io::Result<u16> {
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
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// 2 s: a node that does not answer for longer is not ready.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The column of a server's status in haproxy's table (its management guide, 9.1).
const STATUS: usize = 17;

/// A haproxy with the configuration of `deploy/`, in front of nodes of the test. Killed when it is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    statistics: SocketAddr,
    _process: Process,
    _folder: Folder,
}

impl Balancer {
    /// Starts one. Answers once it sends connections to every node.
    pub async fn start(nodes: &[SocketAddr]) -> Self {
        Self::start_with(nodes, &[]).await
    }

    /// As [`Balancer::start`], with further lines of its configuration for what comes in.
    pub async fn start_with(nodes: &[SocketAddr], rules: &[&str]) -> Self {
        let folder = Folder::new("haproxy").unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let statistics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, configuration(address, statistics, nodes, rules)).unwrap();
        // Debian puts it where only the administrator's shell looks.
        let usual = Path::new("/usr/sbin/haproxy");
        let program = if usual.is_file() {
            usual
        } else {
            Path::new("haproxy")
        };
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&file);
        let process = Process::start(command, &folder.path().join("log")).unwrap();
        let balancer = Self {
            address,
            statistics,
            _process: process,
            _folder: folder,
        };
        balancer.knows(nodes.len()).await;
        balancer
    }

    /// Waits until it sends connections to so many nodes.
    pub async fn knows(&self, nodes: usize) {
        let statistics = self.statistics;
        eventually(
            "the balancer to send connections to the nodes",
            async || {
                // It may not listen yet.
                if TcpStream::connect(statistics).await.is_err() {
                    return false;
                }
                let table = http::request(statistics, "GET", "/;csv", &[], "").await;
                let table = String::from_utf8_lossy(&table.body).into_owned();
                let is_up = |line: &&str| {
                    line.starts_with("nodes,node-") && line.split(',').nth(STATUS) == Some("UP")
                };
                table.lines().filter(is_up).count() == nodes
            },
        )
        .await;
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The configuration of `deploy/` with other addresses, and a page that says how the nodes are.
fn configuration(
    address: SocketAddr,
    statistics: SocketAddr,
    nodes: &[SocketAddr],
    rules: &[&str],
) -> String {
    let deployed = include_str!("../../deploy/haproxy.cfg");
    let mut text = String::new();
    for line in deployed.lines() {
        match line.trim() {
            "bind :8000" => {
                text.push_str(&format!("    bind {address}\n"));
                for rule in rules {
                    text.push_str(&format!("    {rule}\n"));
                }
            }
            server if server.starts_with("server node-") => {}
            // A test opens a few hundred connections, and may not open as many files as a server.
            limit if limit.starts_with("maxconn") => text.push_str("    maxconn 2000\n"),
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    for (number, node) in nodes.iter().enumerate() {
        text.push_str(&format!("    server node-{} {node}\n", number + 1));
    }
    text.push_str(&format!(
        "\nfrontend statistics\n    bind {statistics}\n    stats enable\n    stats uri /\n"
    ));
    text
}
