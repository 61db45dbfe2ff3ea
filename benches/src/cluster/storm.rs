//! A reconnect storm: everybody is cut at once and comes back where they were. What does Redis have to read for that?
//!
//! With one node they come back to it, and it has followed their channels all along. With several they were all on the first
//! and come back to the others, which have never heard of these channels.

use std::io;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::latency::Setting;
use super::node;
use crate::dialect::channel_name;
use crate::frame::{self, TEXT};
use crate::generator::{Subscribed, Target, subscribe_with};
use crate::payload;
use crate::redis_server::RedisServer;

/// What came out.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// How many clients were cut and came back.
    pub clients: usize,
    /// How many channels they share.
    pub channels: u64,
    /// How many nodes they came back to.
    pub nodes: usize,
    /// Whether these nodes followed the channels before.
    pub is_warm: bool,
    /// How many came back with everything they had missed.
    pub recovered: usize,
    /// How many scripts Redis ran meanwhile: the reads of histories, and what nodes ask now and then anyway.
    pub reads: u64,
    /// From the first dial to the last confirmation.
    pub elapsed: Duration,
}

impl Measured {
    /// Reads of Redis per channel and node.
    #[must_use]
    pub fn reads_per_channel(&self) -> f64 {
        self.reads as f64 / (self.channels * self.nodes as u64) as f64
    }
}

/// Cuts everybody, publishes while they are away, and lets all of them come back.
///
/// # Errors
/// When a process does not start, or a client is not let in again.
pub fn measure(setting: &Setting<'_>) -> io::Result<Measured> {
    let redis = RedisServer::start(setting.core, setting.own_core)?;
    let url = redis.url();
    let nodes: io::Result<Vec<_>> = (0..setting.nodes)
        .map(|_| node::start(setting.program, Some(&url), setting.core))
        .collect();
    let nodes = nodes?;
    let targets: Vec<Target> = nodes.iter().map(|node| *node.target()).collect();
    let is_warm = targets.len() == 1;
    let back_to = if is_warm { &targets[..] } else { &targets[1..] };
    let publish = |count: usize| -> io::Result<()> {
        let mut publisher = TcpStream::connect(targets[0].publisher)?;
        for channel in 0..CHANNELS {
            for _ in 0..count {
                let mut line = channel_name(channel).into_bytes();
                line.push(b' ');
                payload::push(&mut line, 0);
                line.push(b'\n');
                publisher.write_all(&line)?;
            }
        }
        Ok(())
    };
    let chunks = CLIENTS.div_ceil(PER_STEP);
    let numbers = |chunk: usize| -> Vec<u64> {
        let from = chunk * PER_STEP;
        (from..CLIENTS.min(from + PER_STEP))
            .map(|client| client as u64 % CHANNELS)
            .collect()
    };
    publish(MISSED)?;
    appended(&redis, CHANNELS * MISSED as u64)?;
    let mut positions = Vec::with_capacity(CLIENTS);
    let mut clients: Vec<Subscribed> = Vec::with_capacity(CLIENTS);
    for chunk in 0..chunks {
        let channels = numbers(chunk);
        let subscribe = |index: usize| command(channels[index], None);
        for (connection, reply) in subscribe_with(&targets[0], &channels, subscribe)? {
            positions.push(position(&reply)?);
            clients.push(connection);
        }
    }
    drop(clients);
    publish(MISSED)?;
    appended(&redis, CHANNELS * 2 * MISSED as u64)?;
    let reads_before = redis.scripts()?;
    let start = Instant::now();
    let mut recovered = 0;
    let mut back = Vec::with_capacity(CLIENTS);
    for chunk in 0..chunks {
        let channels = numbers(chunk);
        let since = &positions[chunk * PER_STEP..];
        let subscribe = |index: usize| command(channels[index], Some(&since[index]));
        let target = &back_to[chunk % back_to.len()];
        for (connection, reply) in subscribe_with(target, &channels, subscribe)? {
            let reply = String::from_utf8_lossy(&reply);
            let missed = reply.matches(r#""data":""#).count();
            recovered += usize::from(reply.contains(r#""recovered":true"#) && missed == MISSED);
            back.push(connection);
        }
    }
    let elapsed = start.elapsed();
    Ok(Measured {
        clients: CLIENTS,
        channels: CHANNELS,
        nodes: back_to.len(),
        is_warm,
        recovered,
        reads: redis.scripts()? - reads_before,
        elapsed,
    })
}

/// Waits until Redis has appended so many messages.
fn appended(redis: &RedisServer, messages: u64) -> io::Result<()> {
    let until = Instant::now() + APPEND_LIMIT;
    while redis.calls("xadd")? < messages {
        if Instant::now() >= until {
            return Err(io::Error::other("the messages were not all accepted"));
        }
        crate::machine::wait(LOOK_EVERY);
    }
    Ok(())
}

fn command(channel: u64, since: Option<&str>) -> Vec<u8> {
    let channel = channel_name(channel);
    let since = since.map_or_else(String::new, |since| format!(r#","since":{since}"#));
    let command = format!(r#"{{"type":"subscribe","channel":"{channel}"{since}}}"#);
    frame::masked(TEXT, command.as_bytes())
}

/// The position in a confirmation, as it stands there.
fn position(reply: &[u8]) -> io::Result<String> {
    let text = String::from_utf8_lossy(reply);
    let found = text.split_once(r#""position":"#).and_then(|(_, rest)| {
        let end = rest.find('}')?;
        Some(rest[..=end].to_owned())
    });
    found.ok_or_else(|| io::Error::other("a confirmation without a position"))
}

/// 5,000 clients on 100 channels.
const CLIENTS: usize = 5_000;
const CHANNELS: u64 = 100;
/// What was there before and what everybody misses, per channel.
const MISSED: usize = 5;
const APPEND_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// 250: below the backlog of every listener.
const PER_STEP: usize = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_copied_from_a_confirmation() {
        let reply = br#"{"type":"subscription_succeeded","position":{"epoch":"a","offset":3,"tag":"b"},"recovered":false}"#;
        assert_eq!(
            position(reply).unwrap(),
            r#"{"epoch":"a","offset":3,"tag":"b"}"#
        );
        assert!(position(b"{}").is_err());
    }
}
