//! A world: one server after another behind a bad network, a few clients, and a fate that comes from a seed.

use fanfare_server::protocol::ChannelName;
use fanfare_tests::checker::{History, Recorder};
use fanfare_tests::eventually;
use fanfare_tests::proxy::Proxy;
use fanfare_tests::socket::{Door, Socket};
use std::time::Duration;

use super::follower::{self, Follower};
use super::incarnation::{self, Incarnation};

/// A world.
pub(super) struct World {
    random: fastrand::Rng,
    recorder: Recorder,
    proxy: Proxy,
    server: Incarnation,
    /// Somebody at the server's door, past the network: the measure of time.
    metronome: Socket,
    followers: Vec<Follower>,
    /// Who is left out of some messages. It does not come back when its server ends.
    sender: Follower,
    channels: Vec<ChannelName>,
    published: u64,
    lives: u64,
}

impl World {
    pub(super) async fn new(seed: u64) -> Self {
        let recorder = Recorder::default();
        let server = Incarnation::start(&recorder).await;
        let proxy = Proxy::start(server.address()).await.unwrap();
        let channels: Vec<ChannelName> = ["h-a", "h-b", "l-a"]
            .map(|name| name.parse().unwrap())
            .into();
        let followers = ["ann", "ben", "cat", "dan"].iter().enumerate();
        let followers = followers.map(|(number, name)| {
            let door = match number % 2 {
                0 => Door::at(proxy.address()),
                _ => Door::at(proxy.address()).subprotocols("fanfare.v1.batch"),
            };
            let door = door.bearer(&format!("user:{name}"));
            Follower::start(name, door, &channels, &recorder)
        });
        let followers = followers.collect();
        let mut world = Self {
            random: fastrand::Rng::with_seed(seed),
            metronome: Socket::connect(server.address()).await,
            sender: Follower::start("sender-0", Door::at(server.address()), &channels, &recorder),
            recorder,
            proxy,
            server,
            followers,
            channels,
            published: 0,
            lives: 0,
        };
        world.is_calm().await;
        world
    }

    /// Lets so many things happen, then waits until everything has come to rest.
    pub(super) async fn live(mut self, steps: usize) -> History {
        for _ in 0..steps {
            self.step().await;
            for _ in 0..self.random.usize(..6) {
                self.metronome.is_quiet().await;
            }
        }
        self.proxy.stall(false);
        self.rest().await;
        self.recorder.history()
    }

    async fn step(&mut self) {
        match self.random.u8(..100) {
            0..60 => self.publish().await,
            60..70 => {
                let one = self.random.usize(..self.followers.len());
                self.proxy.cut(&[self.followers[one].socket()]);
            }
            70..73 => {
                self.proxy.cut_all();
            }
            73..87 => self.order().await,
            87..92 => {
                let is_stalled = self.random.bool();
                self.proxy.stall(is_stalled);
            }
            92..95 => {
                let channel = self.channel();
                self.server.clear_history(&channel).await;
            }
            _ => self.restart().await,
        }
    }

    async fn publish(&mut self) {
        for _ in 0..self.random.usize(1..8) {
            let channel = self.channel();
            let payload = self.payload();
            let except = match self.random.u8(..8) {
                0 => Some((
                    self.sender.socket().parse().unwrap(),
                    self.sender.name.clone(),
                )),
                _ => None,
            };
            let publisher = self.random.usize(..8);
            let order = incarnation::Order {
                channel,
                payload,
                except,
            };
            self.server.publish(publisher, order).await;
        }
    }

    /// Tells one of the followers to do something.
    async fn order(&mut self) {
        let order = match self.random.u8(..6) {
            0 => follower::Order::Vanish,
            1 => follower::Order::Close,
            2 => follower::Order::Leave(self.channel()),
            _ => follower::Order::Publish(self.channel(), self.payload()),
        };
        let one = self.random.usize(..self.followers.len());
        let followers = &self.followers[one];
        // A follower that is busy coming back does it later, or never.
        let _ = followers.orders.try_send(order);
    }

    /// Ends the server, one way or the other, and starts another one with an empty memory.
    async fn restart(&mut self) {
        self.proxy.stall(false);
        let next = Incarnation::start(&self.recorder).await;
        self.proxy.retarget(next.address());
        self.metronome = Socket::connect(next.address()).await;
        self.lives += 1;
        let last = std::mem::replace(&mut self.server, next);
        if self.random.bool() {
            last.kill().await;
        } else {
            last.stop().await;
        }
        let sender = &self.sender;
        eventually("the sender to notice", async || sender.is_subscribed_to(0)).await;
        let name = format!("sender-{}", self.lives);
        let door = Door::at(self.server.address());
        self.sender = Follower::start(&name, door, &self.channels, &self.recorder);
        self.is_calm().await;
    }

    /// Waits until the sender is in: from then on there is somebody to be left out.
    async fn is_calm(&mut self) {
        let (sender, all) = (&self.sender, self.channels.len());
        eventually("the sender to be in", async || sender.is_subscribed_to(all)).await;
    }

    /// Waits until everybody is back and has seen the last message on every channel.
    async fn rest(&mut self) {
        for _ in 0..ATTEMPTS {
            let everybody = self.followers.len() + 1;
            let (server, channels) = (&self.server, &self.channels);
            eventually("everybody to be back", async || {
                for channel in channels {
                    if server.subscriber_count(channel).await != everybody {
                        return false;
                    }
                }
                true
            })
            .await;
            let mut last = Vec::new();
            for channel in self.channels.clone() {
                let payload = self.payload();
                last.push((channel.clone(), payload.clone()));
                let order = incarnation::Order {
                    channel,
                    payload,
                    except: None,
                };
                self.server.publish(0, order).await;
            }
            let seen = eventually("the last messages", async || {
                let everybody = self.followers.iter().chain([&self.sender]);
                everybody
                    .flat_map(|follower| last.iter().map(move |last| (follower, last)))
                    .all(|(follower, (channel, payload))| follower.has_seen(channel, payload))
            });
            // Somebody may just have lost its connection again: then these were not the last ones.
            if tokio::time::timeout(Duration::from_secs(2), seen)
                .await
                .is_ok()
            {
                return;
            }
        }
        panic!("no rest");
    }

    fn channel(&mut self) -> ChannelName {
        let at = self.random.usize(..self.channels.len());
        self.channels[at].clone()
    }

    fn payload(&mut self) -> String {
        self.published += 1;
        format!("message-{}", self.published)
    }
}

/// 5: after the first one hardly anything is left to happen.
const ATTEMPTS: usize = 5;
