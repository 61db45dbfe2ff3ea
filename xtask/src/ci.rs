//! `cargo xtask ci`: what must hold before a change is merged.

use std::process::Command;

use crate::dependencies;
use crate::error::Result;
use crate::process;
use crate::report::Report;
use crate::test;
use crate::tidy;
use crate::tools;
use crate::workspace::Workspace;

/// Runs every check and then every test, whatever failed before, and ends with the number of tests passed and failed.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let cargo = |arguments: &[&str]| {
        let mut command = workspace.cargo();
        command.args(arguments).env("CARGO_TERM_COLOR", "never");
        command
    };
    let mut report = Report::default();
    report.check("format", || {
        process::run(&mut cargo(&["fmt", "--all", "--check"]))
    });
    report.check("tidy", || tidy::run(workspace));
    report.check("dependencies", || dependencies::check(workspace));
    report.check("clippy", || {
        process::run(
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])
            .env_remove("RUSTFLAGS"),
        )
    });
    report.check("clippy-wasm", || {
        tools::wasm_target(workspace)?;
        let target = "--target=wasm32-unknown-unknown";
        let mut command: Command = cargo(&[
            "clippy",
            "-p",
            "fanfare-client-wasm",
            target,
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]);
        process::run(&mut command)?;
        // As the npm package has it: without the standard library.
        let standalone = ["--no-default-features", "--features", "standalone"];
        let mut command = cargo(&["clippy", "-p", "fanfare-client-wasm", target, "--lib"]);
        process::run(command.args(standalone).args(["--", "-D", "warnings"]))
    });
    report.check("rustdoc", || {
        process::run(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
    });
    test::all(workspace, &mut report);
    report.finish()
}
