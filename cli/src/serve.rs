//! `fanfare serve`: the standalone server.
//!
//! The server writes `listening on <address>` to standard output once it accepts connections, and logs to standard error.
//! SIGTERM or SIGINT drains its connections and ends the process; a second signal ends it at once.

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};

use fanfare_server::engine::Engine;
use fanfare_server::engine::redis::RedisOptions;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::options::{LogFormat, ServeOptions};
use crate::settings::Settings;

/// Runs the server until a signal stops it.
///
/// # Errors
/// When a setting is not valid, the server cannot start, or a second signal ends it.
pub(crate) async fn run(options: ServeOptions) -> Result<(), Box<dyn Error>> {
    let settings = Settings::resolve(options)?;
    init_log(&settings)?;
    let engine = engine(&settings)?;
    if settings.redis_url.is_some() && !settings.has_secret() {
        tracing::warn!(
            "no secret is configured: a channel token is valid only on the server that signed it; give all servers the same FANFARE_SECRET"
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
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let second_signal = async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping: a signal asked for it");
        let _ = stop.send(());
        signals.next().await;
    };
    let shutdown = async move {
        let _ = stopped.await;
    };
    tokio::select! {
        served = server.serve(listener, shutdown) => served?,
        () = second_signal => return Err("a second signal ended the server while connections were open".into()),
    }
    tracing::info!("stopped");
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

fn init_log(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| {
        format!(
            "the log filter {:?} is not valid, write one such as warn or fanfare_server=debug: {error}",
            settings.log
        )
    })?;
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

/// The signals that stop the process.
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

    /// Waits for a signal and returns its name.
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

    /// Waits for Ctrl-C and returns its name.
    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}
