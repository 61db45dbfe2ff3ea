//! The table of suites, and how each is started.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::chaos;
use crate::error::{Result, TaskError};
use crate::npm;
use crate::process::{self, Background};
use crate::progress::step;
use crate::report::Outcome;
use crate::test::count::Runner;
use crate::test::excerpt::excerpt;
use crate::tools;
use crate::workspace::Workspace;

/// Every suite, the quickest to tell first.
pub(super) const SUITES: &[Suite] = &[
    Suite {
        name: "rust",
        folder: "tests",
        runner: Runner::Rust,
        minutes_max: 25,
        prepare: rust,
    },
    Suite {
        name: "chaos",
        folder: "tests/src/chaos",
        runner: Runner::Rust,
        minutes_max: 15,
        prepare: chaos,
    },
    Suite {
        name: "wasm",
        folder: "client-wasm/tests",
        runner: Runner::Rust,
        minutes_max: 10,
        prepare: wasm,
    },
    Suite {
        name: "npm",
        folder: "npm/test",
        runner: Runner::Node,
        minutes_max: 10,
        prepare: npm,
    },
    Suite {
        name: "packages",
        folder: "npm/packaging",
        runner: Runner::Node,
        minutes_max: 15,
        prepare: packages,
    },
    Suite {
        name: "browser",
        folder: "tests/browser",
        runner: Runner::Node,
        minutes_max: 10,
        prepare: browser,
    },
];

/// Tests that are run and counted together.
pub(super) struct Suite {
    /// What `--only` and the table call it.
    pub(super) name: &'static str,
    folder: &'static str,
    runner: Runner,
    minutes_max: u64,
    prepare: fn(&Workspace) -> Result<Prepared>,
}

/// A suite that is ready to start.
struct Prepared {
    command: Command,
    /// Runs for as long as the suite does.
    server: Option<Background>,
}

impl From<Command> for Prepared {
    fn from(command: Command) -> Self {
        Self {
            command,
            server: None,
        }
    }
}

impl Suite {
    /// Gets what the suite needs, runs it, and counts.
    pub(super) fn run(&self, workspace: &Workspace) -> Result<Outcome> {
        if !workspace.path(self.folder).is_dir() {
            return Err(TaskError::Unexpected(format!(
                "{} is not in this checkout",
                self.folder
            )));
        }
        let Prepared {
            mut command,
            server,
        } = (self.prepare)(workspace)?;
        command
            .env("NO_COLOR", "1")
            .env("CARGO_TERM_COLOR", "never");
        let watched = process::watch(&mut command, Duration::from_secs(60 * self.minutes_max))?;
        drop(server);
        let counts = self.runner.counts(&watched.lines);
        let is_clean = watched.outcome.is_ok() && counts.failed == 0;
        Ok(Outcome {
            counts,
            verdict: watched.outcome,
            excerpt: match is_clean {
                true => Vec::new(),
                false => excerpt(self.runner, &watched.lines),
            },
        })
    }
}

/// Unit, doc, property and integration tests; the browser crate has nothing to run outside of a browser.
fn rust(workspace: &Workspace) -> Result<Prepared> {
    tools::servers(workspace)?;
    let mut command = workspace.cargo();
    command.args([
        "test",
        "--workspace",
        "--exclude",
        "fanfare-client-wasm",
        "--no-fail-fast",
    ]);
    Ok(command.into())
}

/// The system in trouble: the rows of the short form count as tests.
fn chaos(workspace: &Workspace) -> Result<Prepared> {
    Ok(chaos::short(workspace)?.into())
}

/// The browser crate in headless Chromium, against a server of its own.
fn wasm(workspace: &Workspace) -> Result<Prepared> {
    tools::wasm_target(workspace)?;
    tools::wasm_bindgen(workspace)?;
    let wasm_pack = tools::wasm_pack(workspace)?;
    let browser = tools::browser(workspace)?;
    let (server, address) = suite_server(workspace)?;
    let mut command = Command::new(wasm_pack.program);
    command
        .args([
            "test",
            "--headless",
            "--chrome",
            "--mode",
            "no-install",
            "--chromedriver",
        ])
        .arg(browser.driver)
        .arg(workspace.path("client-wasm"))
        .env("PATH", workspace.search_path())
        // Read by the suite when it is compiled: a page has no environment.
        .env("FANFARE_TEST_URL", format!("ws://{address}/ws"))
        .env("WASM_BINDGEN_TEST_TIMEOUT", "900");
    Ok(Prepared {
        command,
        server: Some(server),
    })
}

/// Starts the server of the wasm suite and returns its address.
fn suite_server(workspace: &Workspace) -> Result<(Background, String)> {
    let arguments = |action: &str| {
        let mut command = workspace.cargo();
        command.args([
            action,
            "--quiet",
            "-p",
            "fanfare-tests",
            "--bin",
            "wasm-suite-server",
        ]);
        command
    };
    step("building the server of the wasm suite", || {
        process::run(&mut arguments("build"))
    })?;
    let mut run = arguments("run");
    // Whatever ends this program ends the server, too.
    run.args(["--", "--until-stdin-closes"]);
    let (server, line) = Background::start(&mut run, Duration::from_secs(60))?;
    let address = line.strip_prefix("listening on ").ok_or_else(|| {
        TaskError::Unexpected(format!(
            "wasm-suite-server said `{line}` where `listening on <address>` was due"
        ))
    })?;
    Ok((server, address.trim().to_owned()))
}

/// The package's own tests.
fn npm(workspace: &Workspace) -> Result<Prepared> {
    npm_script(workspace, "test")
}

/// The packed package in the runtimes and bundlers it is made for.
fn packages(workspace: &Workspace) -> Result<Prepared> {
    npm_script(workspace, "test:packages")
}

fn npm_script(workspace: &Workspace, script: &str) -> Result<Prepared> {
    npm::build(workspace)?;
    node_suite(workspace, &workspace.path("npm"), script)
}

/// Pages in Chromium against the chat example.
fn browser(workspace: &Workspace) -> Result<Prepared> {
    npm::build(workspace)?;
    step("building the servers of the browser suite", || {
        process::run(workspace.cargo().args([
            "build",
            "--quiet",
            "-p",
            "chat",
            "-p",
            "fanfare-tests",
            "-p",
            "fanfare",
            "--bins",
        ]))
    })?;
    let folder = workspace.path("tests/browser");
    tools::npm()?.install(&folder)?;
    node_suite(workspace, &folder, "test")
}

/// An npm script with Chromium's place in `FANFARE_CHROMIUM` and cargo's programs in `FANFARE_BIN`.
fn node_suite(workspace: &Workspace, folder: &Path, script: &str) -> Result<Prepared> {
    let browser = tools::browser(workspace)?;
    let mut command = tools::npm()?.command(folder);
    command
        .args(["run", script])
        .env("FANFARE_CHROMIUM", browser.chromium)
        .env("FANFARE_BIN", workspace.target("debug"));
    Ok(command.into())
}
