//! A chat: the tour of what Fanfare does, in one axum application.
//!
//! `cargo xtask demo` builds the browser client and starts this; open the address it prints in two windows.

mod api;
mod app;
mod error;
mod line;
mod listener;
mod login;
mod page;
mod rooms;
mod store;
mod ticker;

use std::path::PathBuf;

use clap::Parser;
use fanfare_server::engine::Engine;

use crate::app::Chat;
use crate::page::ClientPackage;
use crate::store::Store;

/// A chat on Fanfare.
///
/// The environment variable REDIS_URL moves its channels from memory to a Redis.
#[derive(Debug, Parser)]
struct Arguments {
    /// The port to listen on; without it 8000, or another one when that is taken.
    #[arg(long)]
    port: Option<u16>,
    /// Where messages and logins are kept; without it they last as long as the program.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The built browser client.
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../npm/dist"))]
    client: PathBuf,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error::sentence(error.as_ref()));
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let package = ClientPackage::find(&arguments.client)?;
    let store = match &arguments.data_dir {
        Some(folder) => Store::open(folder)?,
        None => Store::in_memory(),
    };
    let listener = listener::bind(arguments.port).await?;
    println!("the chat is at http://{}", listener.local_addr()?);
    let (server, chat) = Chat::start(store, Engine::from_env()?).await?;
    let app = app::router(&server, &chat, &package);
    let events = server.handle();
    let interrupt = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    tokio::select! {
        served = server.serve_app(listener, app, interrupt) => served?,
        () = ticker::run(&events) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
