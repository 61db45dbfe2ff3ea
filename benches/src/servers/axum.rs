//! What one would write first: axum's `ws` with defaults and a tokio broadcast channel per channel.
//!
//! As in axum's own chat example, a connection has a task that sends and one that reads.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use super::{Listeners, lines};

/// Serves on a default multi-thread runtime; pinned to one core that is one worker.
///
/// # Errors
/// When the runtime or the listeners fail.
pub fn serve(listeners: Listeners) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        listeners.announce()?;
        // The one thing that is not a default: without it the kernel holds small frames back.
        let subscribers = TcpListener::from_std(listeners.subscribers)?.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let publisher = TcpListener::from_std(listeners.publisher)?;
        let channels = Channels::default();
        let router = Router::new()
            .route("/ws", get(upgrade))
            .with_state(channels.clone());
        let receiving = tokio::spawn(lines::receive(publisher, move |line| {
            if let Some((channel, payload)) = lines::split_text(&line) {
                // Nobody subscribed is no failure.
                let _ = channels.sender(channel).send(Utf8Bytes::from(payload));
            }
            std::future::ready(())
        }));
        axum::serve(subscribers, router).await?;
        receiving.await.map_err(io::Error::other)?
    })
}

#[derive(Debug, Clone, Default)]
struct Channels(Arc<Mutex<HashMap<String, broadcast::Sender<Utf8Bytes>>>>);

impl Channels {
    fn sender(&self, channel: &str) -> broadcast::Sender<Utf8Bytes> {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = channels.get(channel) {
            return sender.clone();
        }
        let sender = broadcast::Sender::new(CHANNEL_CAPACITY);
        channels.insert(channel.to_owned(), sender.clone());
        sender
    }
}

async fn upgrade(
    State(channels): State<Channels>,
    Query(query): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let channel = query.get("channel").map_or("", String::as_str);
    let messages = channels.sender(channel).subscribe();
    upgrade.on_upgrade(|socket| connection(socket, messages))
}

async fn connection(socket: WebSocket, mut messages: broadcast::Receiver<Utf8Bytes>) {
    let (mut sink, mut stream) = socket.split();
    let mut sending = tokio::spawn(async move {
        while let Ok(message) = messages.recv().await {
            if sink.send(Message::Text(message)).await.is_err() {
                break;
            }
        }
    });
    let mut reading = tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    tokio::select! {
        _ = &mut sending => reading.abort(),
        _ = &mut reading => sending.abort(),
    }
}

/// 128: no receiver falls behind by more than the window, and a channel with one subscriber stays small.
const CHANNEL_CAPACITY: usize = 128;
