//! Publishes one event from a command line, through the Redis of `REDIS_URL` that the servers share:
//!
//! `REDIS_URL=redis://127.0.0.1 cargo run -p job -- orders order.created '{"id":7}'`

use std::error::Error;
use std::time::Duration;

use clap::Parser;
use fanfare_server::engine::Engine;
use fanfare_server::{ChannelRule, ChannelRules, Publisher};

/// Publishes one event.
#[derive(Parser)]
struct Arguments {
    channel: String,
    event: String,
    /// The payload, as JSON.
    data: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments {
        channel,
        event,
        data,
    } = Arguments::parse();
    let data: serde_json::Value = serde_json::from_str(&data)?;
    // The rules are those of the servers: what a channel keeps is decided where something is published.
    let kept = ChannelRule::default().with_history(100, Duration::from_secs(300));
    let rules = ChannelRules::new().with("orders", kept);
    let events = Publisher::connect(Engine::from_env()?)
        .await?
        .with_rules(rules);
    let published = events
        .broadcast(channel.as_str(), event.as_str(), &data)
        .await?;
    match published.position {
        Some(position) => println!("published as number {}", position.offset),
        None => println!("published"),
    }
    events.close().await?;
    Ok(())
}
