//! The load: one process, one loop, many subscribers and one publisher.
//!
//! Every delivery is checked against what was published. The publisher is the same for every server, a TCP connection with a
//! line per message, so that what is compared is the way from a publish inside the server to its subscribers.

mod handshake;
mod ledger;
mod pace;
mod publisher;
mod subscriber;

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::dialect::channel_name;

pub use handshake::{Subscribed, Target, close_all, subscribe_all, subscribe_with};
pub use ledger::Ledger;
pub use pace::Pace;
use publisher::Publisher;
use subscriber::Subscriber;

/// Subscribers and a publisher that are connected to one server.
pub struct Generator {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
    ledger: Ledger,
    channel_names: Vec<String>,
}

impl Generator {
    /// Connects `receivers` subscribers, spread evenly over `channels`, and waits until each one is subscribed.
    ///
    /// # Errors
    /// When a connection cannot be made or subscribed.
    pub fn connect(target: &Target, receivers: usize, channels: u64) -> io::Result<Self> {
        Self::connect_to_nodes(std::slice::from_ref(target), receivers, channels)
    }

    /// As [`Generator::connect`], with the subscribers spread evenly over several nodes; the first one is published to.
    ///
    /// # Errors
    /// As [`Generator::connect`], and without a node.
    pub fn connect_to_nodes(nodes: &[Target], receivers: usize, channels: u64) -> io::Result<Self> {
        let first = nodes.first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut generator = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_PER_TURN),
            buffer: vec![0; READ_BYTES],
            publisher: Publisher::connect(first.publisher)?,
            subscribers: Vec::with_capacity(receivers),
            ledger: Ledger::new(receivers, channels),
            channel_names: (0..channels).map(channel_name).collect(),
        };
        let numbers: Vec<u64> = (0..receivers as u64)
            .map(|receiver| receiver % channels)
            .collect();
        // A receiver's channel and its node must not go together: whole rounds over the channels go to one node each.
        let mut at = 0;
        while at < numbers.len() {
            let round = at / channels as usize;
            let end_of_round = (round + 1) * channels as usize;
            let end = numbers
                .len()
                .min(end_of_round)
                .min(at + CONNECTIONS_PER_STEP);
            let node = &nodes[round % nodes.len()];
            for connection in subscribe_all(node, &numbers[at..end])? {
                generator.add(Subscriber::new(connection, node.dialect)?)?;
            }
            at = end;
        }
        Ok(generator)
    }

    /// Publishes at the given pace and reads what arrives, until the given time.
    ///
    /// It never sleeps: waking a sleeping reader is a cost that the kernel would book on the server's side, a quarter of a
    /// delivery's, and the more of it the slower a server is. With subscribers on other machines no server has it.
    ///
    /// # Errors
    /// When the loop itself fails. A subscriber that is cut off is none: what it misses is counted as lost.
    pub fn drive(&mut self, pace: &mut Pace, until: Instant) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            while let Some(scheduled) = pace.next_due(now, self.ledger.under_way()) {
                let (channel, payload) = self.ledger.publish(scheduled);
                let name = &self.channel_names[channel as usize];
                self.publisher.push(name, payload);
            }
            self.publisher.flush()?;
            self.turn(Duration::ZERO)?;
        }
    }

    /// Reads until everything published has arrived, or until `limit` is over; then until the line is quiet.
    ///
    /// # Errors
    /// As [`Generator::drive`].
    pub fn drain(&mut self, limit: Duration) -> io::Result<()> {
        let until = Instant::now() + limit;
        while self.ledger.under_way() > 0 && Instant::now() < until {
            self.publisher.flush()?;
            self.turn(QUIET)?;
        }
        // What comes now is a repetition, or late: the accounts want to know.
        while self.turn(QUIET)? > 0 && Instant::now() < until {}
        Ok(())
    }

    /// Publishes nothing for a while; answers what the server asks.
    ///
    /// # Errors
    /// As [`Generator::drive`].
    pub fn rest(&mut self, duration: Duration) -> io::Result<()> {
        let until = Instant::now() + duration;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.turn(left.max(Duration::from_millis(1)))?;
        }
        Ok(())
    }

    /// The accounts.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// How many bytes all subscribers have read since they were subscribed.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.subscribers.iter().map(Subscriber::bytes_read).sum()
    }

    fn add(&mut self, subscriber: Subscriber) -> io::Result<()> {
        let index = epoll::EventData::new_u64(self.subscribers.len() as u64);
        epoll::add(&self.epoll, &subscriber, index, epoll::EventFlags::IN)?;
        self.subscribers.push(subscriber);
        Ok(())
    }

    /// Waits for at most `timeout` and reads what has arrived; how many subscribers it read.
    fn turn(&mut self, timeout: Duration) -> io::Result<usize> {
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &self.events {
            let receiver = event.data.u64() as usize;
            let subscriber = &mut self.subscribers[receiver];
            let ledger = &mut self.ledger;
            let is_open = subscriber.read(&mut self.buffer, |payload, now| {
                ledger.deliver(receiver, payload, now);
            });
            if !is_open {
                epoll::delete(&self.epoll, &*subscriber)?;
            }
        }
        Ok(self.events.len())
    }
}

/// 1,024: one turn reads as many subscribers as one system call can name without growing.
const EVENTS_PER_TURN: usize = 1_024;
/// 64 KiB: a read takes everything a joined write brings.
const READ_BYTES: usize = 64 * 1024;
/// 256: below the backlog of every listener.
const CONNECTIONS_PER_STEP: usize = 256;
/// Longer than any server takes for one sweep over its subscribers.
const QUIET: Duration = Duration::from_millis(50);
