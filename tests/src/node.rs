//! The standalone server as a process of its own, and load balancers in front of several.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what does not start fails the test"
)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use tokio::net::TcpStream;

use crate::process::{Folder, Process, free_port};
use crate::{eventually, http};

/// Where the standalone server is; the first call builds it, in the same profile as the tests.
#[must_use]
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let target = own_target_folder();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--quiet", "-p", "fanfare-server"])
            .args(["--bin", "fanfare-server"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .env("CARGO_TARGET_DIR", target.parent().unwrap());
        if target.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo.status().unwrap();
        assert!(built.success(), "the standalone server is not built");
        target.join("fanfare-server")
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

/// A running standalone server. Killed when it is dropped.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    process: Process,
    folder: Folder,
}

impl Node {
    /// Starts one on a free port, with more arguments and environment variables. Answers once it is ready.
    pub async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = Folder::new("node").unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let variables: Vec<(String, String)> = variables
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let process = launch(address, &arguments, &variables, folder.path());
        let mut node = Self {
            address,
            arguments,
            variables,
            process,
            folder,
        };
        node.ready().await;
        node
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(log_of(self.folder.path())).unwrap_or_default()
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to stop, as a deploy does.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Stops it where it is.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// How it ended, once it has.
    pub fn outcome(&mut self) -> Option<ExitStatus> {
        self.process.outcome()
    }

    /// Starts it anew on the port it had. Answers once it is ready.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = launch(
            self.address,
            &self.arguments,
            &self.variables,
            self.folder.path(),
        );
        self.ready().await;
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) {
        let address = self.address;
        eventually("a node to be ready", async || {
            if let Some(outcome) = self.process.outcome() {
                panic!("a node ended with {outcome}:\n{}", self.log());
            }
            // Nobody may listen yet.
            if TcpStream::connect(address).await.is_err() {
                return false;
            }
            let ready = http::request(address, "GET", "/health/ready", &[], "").await;
            ready.status == 200
        })
        .await;
    }
}

fn launch(
    address: SocketAddr,
    arguments: &[String],
    variables: &[(String, String)],
    folder: &Path,
) -> Process {
    let mut command = Command::new(program());
    command.args(["--listen", &address.to_string()]);
    command.args(arguments);
    command.env_remove("REDIS_URL");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Process::start(command, &log_of(folder)).unwrap()
}

/// The column of a server's status in haproxy's table (its management guide, 9.1).
const STATUS: usize = 17;

fn log_of(folder: &Path) -> PathBuf {
    folder.join("log")
}

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
        let folder = Folder::new("haproxy").unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let statistics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, configuration(address, statistics, nodes)).unwrap();
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
fn configuration(address: SocketAddr, statistics: SocketAddr, nodes: &[SocketAddr]) -> String {
    let deployed = include_str!("../../deploy/haproxy.cfg");
    let mut text = String::new();
    for line in deployed.lines() {
        match line.trim() {
            "bind :8000" => text.push_str(&format!("    bind {address}\n")),
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
