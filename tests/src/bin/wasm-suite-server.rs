//! Serves the browser suites: see [`fanfare_tests::suite`] for what it allows and which levers it has.

use std::sync::Arc;

use clap::Parser;
use fanfare_server::Limits;
use fanfare_tests::proxy::Proxy;
use fanfare_tests::suite;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// Serves the browser suites until it is killed.
#[derive(Parser)]
struct Arguments {
    /// The port to listen on; a free one by default.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Ends when standard input is closed, so that the server does not outlive the program that started it.
    #[arg(long)]
    until_stdin_closes: bool,
    /// How many channels a connection may have.
    #[arg(long, default_value_t = Limits::default().channels_max)]
    channels_max: usize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    // What clients connect to is a proxy that can cut them off; the server itself is behind it.
    let inner = TcpListener::bind(("127.0.0.1", 0)).await?;
    let proxy = Arc::new(Proxy::start_on(listener, inner.local_addr()?)?);
    let mut limits = Limits::default();
    limits.channels_max = arguments.channels_max;
    let server = suite::builder().limits(limits).build().await?;
    let app = suite::app(&server, Arc::clone(&proxy));
    println!("listening on {}", proxy.address());
    server
        .serve_app(inner, app, end(arguments.until_stdin_closes))
        .await?;
    Ok(())
}

async fn end(with_stdin: bool) {
    if !with_stdin {
        return std::future::pending().await;
    }
    let mut buffer = [0; 64];
    while matches!(tokio::io::stdin().read(&mut buffer).await, Ok(count) if count > 0) {}
}
