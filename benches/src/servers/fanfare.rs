//! Our own server, embedded as an application embeds it: a public live-only channel, published to through the handle.

use std::io;

use fanfare_server::{AcceptLimits, Server};
use tokio::net::TcpListener;

use super::{Listeners, lines};

/// Serves on a default multi-thread runtime; pinned to one core that is one worker.
///
/// # Errors
/// When the runtime, the server or the listeners fail.
pub fn serve(listeners: Listeners, limits: AcceptLimits) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::builder().accept_limits(limits).build().await;
        let server = server.map_err(io::Error::other)?;
        listeners.announce()?;
        let subscribers = TcpListener::from_std(listeners.subscribers)?;
        let publisher = TcpListener::from_std(listeners.publisher)?;
        let handle = server.handle();
        let receiving = tokio::spawn(lines::receive(publisher, move |line| {
            let handle = handle.clone();
            async move {
                let Some((channel, payload)) = lines::split_text(&line) else {
                    return;
                };
                // A message that is not accepted is missed by every subscriber, and counted there.
                if let Err(error) = handle.broadcast(channel, "tick", payload).await {
                    eprintln!("not published: {error}");
                }
            }
        }));
        server.serve(subscribers, std::future::pending()).await?;
        receiving.await.map_err(io::Error::other)?
    })
}
