//! `cargo xtask demo`: the chat example on this machine.

use clap::Args;

use crate::error::Result;
use crate::npm;
use crate::process;
use crate::progress::step;
use crate::workspace::Workspace;

/// Where the demo listens.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// The port to listen on; without it 8000, or another one when that is taken.
    #[arg(long)]
    port: Option<u16>,
}

/// Gets the tools, builds the npm package and runs the example until it is interrupted.
pub(crate) fn run(workspace: &Workspace, options: &DemoOptions) -> Result<()> {
    npm::build(workspace)?;
    step("building the chat example", || {
        process::run(workspace.cargo().args(["build", "-p", "chat"]))
    })?;
    let mut command = workspace.cargo();
    command.args(["run", "--quiet", "-p", "chat", "--"]);
    if let Some(port) = options.port {
        command.args(["--port", &port.to_string()]);
    }
    process::run(&mut command)
}
