//! `fanfare`: the program around the library.
//!
//! Each subcommand has a module of its own: [`serve`] runs the standalone server, [`token`] makes tokens.

mod address;
mod duration;
mod file;
mod options;
mod rule;
mod serve;
mod settings;
mod size;
mod token;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;

use crate::options::{Command, Options};

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Serve(options) => serve::run(*options).await,
        Command::Token(options) => token::run(*options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", sentence(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Joins an error and its causes into one sentence.
fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
