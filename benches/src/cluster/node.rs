//! One of our nodes in a process of its own: on Redis, or alone on the memory engine.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare_server::engine::Engine;
use fanfare_server::engine::redis::RedisOptions;
use fanfare_server::{ChannelRule, ChannelRules, Handle, Server};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::child::ServerProcess;
use crate::dialect::Dialect;
use crate::servers::{Listeners, lines};

/// Starts a node on a core; without a Redis it has an engine of its own.
///
/// # Errors
/// As [`ServerProcess::start`].
pub fn start(program: &Path, redis_url: Option<&str>, core: usize) -> io::Result<ServerProcess> {
    let cpu = core.to_string();
    let mut arguments = vec!["serve", "--cpu", &cpu];
    if let Some(url) = redis_url {
        arguments.extend(["--redis-url", url]);
    }
    ServerProcess::run(program, &arguments, Dialect::Fanfare)
}

/// Serves until the process is killed: channels with history, and lines of `<channel> <payload>` published in order per channel.
///
/// # Errors
/// When the runtime, the engine, the server or the listeners fail.
pub fn serve(redis_url: Option<&str>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let engine = match redis_url {
            Some(url) => Engine::redis(url.parse::<RedisOptions>().map_err(io::Error::other)?),
            None => Engine::memory(),
        };
        let kept = ChannelRule::default().with_history(100, Duration::from_secs(300));
        let server = Server::builder()
            .engine(engine)
            .channel_rules(ChannelRules::new().with("", kept))
            .build()
            .await
            .map_err(io::Error::other)?;
        let listeners = Listeners::bind()?;
        listeners.announce()?;
        let subscribers = TcpListener::from_std(listeners.subscribers)?;
        let publisher = TcpListener::from_std(listeners.publisher)?;
        let queues = Queues::new(server.handle());
        let receiving = tokio::spawn(lines::receive(publisher, move |line| {
            let queues = queues.clone();
            async move { queues.push(&line).await }
        }));
        server.serve(subscribers, std::future::pending()).await?;
        receiving.await.map_err(io::Error::other)?
    })
}

/// A queue and a task per channel: publishes of one channel follow each other, those of several overlap.
#[derive(Clone)]
struct Queues {
    handle: Handle,
    channels: Arc<Mutex<HashMap<String, mpsc::Sender<String>>>>,
}

impl Queues {
    fn new(handle: Handle) -> Self {
        Self {
            handle,
            channels: Arc::default(),
        }
    }

    async fn push(&self, line: &str) {
        let Some((channel, payload)) = lines::split_text(line) else {
            return;
        };
        // The task ends only with its queue.
        let _ = self.queue(channel).send(payload.to_owned()).await;
    }

    fn queue(&self, channel: &str) -> mpsc::Sender<String> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = channels.entry(channel.to_owned()).or_insert_with(|| {
            let (queue, waiting) = mpsc::channel(WAITING_MAX);
            tokio::spawn(publish(self.handle.clone(), channel.to_owned(), waiting));
            queue
        });
        queue.clone()
    }
}

async fn publish(handle: Handle, channel: String, mut waiting: mpsc::Receiver<String>) {
    while let Some(payload) = waiting.recv().await {
        // A message that is not accepted is missed by every subscriber, and counted there.
        if let Err(error) = handle.broadcast(channel.as_str(), "tick", &payload).await {
            eprintln!("not published: {error}");
        }
    }
}

/// 64: the load never has more than one message of a channel under way.
const WAITING_MAX: usize = 64;
