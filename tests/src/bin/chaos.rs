//! Troubles a running system and says whether every promise was kept: see [`fanfare_tests::chaos`].

use std::process::ExitCode;

use clap::Parser as _;
use fanfare_tests::chaos::options::ChaosOptions;
use fanfare_tests::chaos::run;

#[tokio::main]
async fn main() -> ExitCode {
    match run::run(&ChaosOptions::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
