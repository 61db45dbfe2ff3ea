//! The standalone server.
//!
//! It says `listening on <address>` on standard output when it takes connections, logs to standard error, and ends on SIGTERM
//! or SIGINT after it has sent its connections elsewhere. A second signal ends it at once.

mod address;
mod duration;
mod file;
mod options;
mod rule;
mod settings;
mod size;
mod token;

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use fanfare_server::engine::Engine;
use fanfare_server::engine::redis::RedisOptions;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::options::{Command, LogFormat, Options};
use crate::settings::{Secrets, Settings};
use crate::token::TokenOptions;

#[tokio::main]
async fn main() -> ExitCode {
    let mut options = Options::parse();
    let done = match options.command.take() {
        Some(Command::Token(token)) => write_token(&token, options),
        None => run(options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", sentence(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let settings = Settings::of(options)?;
    write_log(&settings)?;
    let engine = engine(&settings)?;
    if settings.redis_url.is_some() && !settings.has_secret() {
        tracing::warn!(
            "no secret is given: channel tokens count only on the server that signed them"
        );
    }
    let address = settings.listen;
    let server = settings.builder().engine(engine).build().await?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let mut signals = Signals::listen()?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    let (asked, ask) = tokio::sync::oneshot::channel();
    let asked_twice = async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "asked to stop");
        let _ = asked.send(());
        signals.next().await;
    };
    let asked_to_stop = async move {
        let _ = ask.await;
    };
    tokio::select! {
        served = server.serve(listener, asked_to_stop) => served?,
        () = asked_twice => return Err("asked twice to stop: ended with connections open".into()),
    }
    tracing::info!("stopped");
    Ok(())
}

fn write_token(token: &TokenOptions, options: Options) -> Result<(), Box<dyn Error>> {
    let secrets = Secrets::of(options)?;
    writeln!(std::io::stdout(), "{}", token::make(token, &secrets)?)?;
    Ok(())
}

fn engine(settings: &Settings) -> Result<Engine, Box<dyn Error>> {
    let Some(url) = &settings.redis_url else {
        return Ok(Engine::memory());
    };
    let mut options: RedisOptions = url.parse()?;
    if let Some(prefix) = &settings.redis_prefix {
        options = options.with_prefix(prefix.as_str())?;
    }
    Ok(Engine::redis(options))
}

fn write_log(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|error| format!("the log filter is not valid: {error}"))?;
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter);
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// The signals that ask a process to end.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}

/// An error and what caused it, as one sentence.
fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
