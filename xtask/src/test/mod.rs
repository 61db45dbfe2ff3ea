//! `cargo xtask test`: every test of the project, counted.

mod count;
mod excerpt;
mod suites;

use clap::Args;

use crate::error::Result;
use crate::report::Report;
use crate::test::suites::SUITES;
use crate::workspace::Workspace;

/// Which tests to run.
#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Run this suite alone; may be given several times.
    #[arg(long, value_parser = suite_names())]
    only: Vec<String>,
}

fn suite_names() -> Vec<&'static str> {
    SUITES.iter().map(|suite| suite.name).collect()
}

/// Runs the suites and ends with the number of tests passed and failed.
pub(crate) fn run(workspace: &Workspace, options: &TestOptions) -> Result<()> {
    let mut report = Report::default();
    for suite in SUITES {
        if options.only.is_empty() || options.only.iter().any(|name| name == suite.name) {
            report.suite(suite.name, || suite.run(workspace));
        }
    }
    report.finish()
}

/// Adds every suite to a report.
pub(crate) fn all(workspace: &Workspace, report: &mut Report) {
    for suite in SUITES {
        report.suite(suite.name, || suite.run(workspace));
    }
}
