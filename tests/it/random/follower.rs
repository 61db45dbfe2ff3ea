//! A client of a few lines: it keeps its place on every channel, comes back after every loss, and writes down what it sees.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare_server::protocol::{ChannelName, Position};
use fanfare_tests::checker::{Observation, PublishId, Recorder};
use fanfare_tests::socket::{Door, Socket};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What a follower is told to do.
#[derive(Debug, Clone)]
pub(super) enum Order {
    /// Lose the connection.
    Vanish,
    /// Close the connection.
    Close,
    /// Leave a channel and come back to it.
    Leave(ChannelName),
    /// Publish over the connection; unless its outcome is known, once more on the next one with the same key. Only where the server
    /// knows the user is that harmless.
    Publish(ChannelName, String),
}

/// A follower from outside.
pub(super) struct Follower {
    pub(super) name: String,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) shown: Arc<Mutex<Shown>>,
    task: JoinHandle<()>,
}

/// What others may know of a follower.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Its connection's id.
    pub(super) socket: String,
    /// What it saw last, by channel.
    pub(super) last: HashMap<ChannelName, String>,
    /// The channels that it is subscribed to now.
    pub(super) subscribed: usize,
}

struct Life {
    name: String,
    door: Door,
    channels: Vec<ChannelName>,
    recorder: Recorder,
    orders: mpsc::Receiver<Order>,
    shown: Arc<Mutex<Shown>>,
    places: HashMap<ChannelName, Place>,
    published: u64,
    unanswered: Option<Unanswered>,
}

/// Where it is on a channel.
#[derive(Debug, Default)]
struct Place {
    position: Option<Position>,
    is_subscribed: bool,
}

/// A publication whose outcome is not known.
struct Unanswered {
    request: u64,
    id: PublishId,
    channel: ChannelName,
    payload: String,
    is_repeated: bool,
}

/// How a connection ended.
enum End {
    Lost,
    Told,
}

impl Follower {
    pub(super) fn start(
        name: &str,
        door: Door,
        channels: &[ChannelName],
        recorder: &Recorder,
    ) -> Self {
        let (orders, inbox) = mpsc::channel(64);
        let shown = Arc::<Mutex<Shown>>::default();
        let life = Life {
            name: name.to_owned(),
            door,
            channels: channels.to_vec(),
            recorder: recorder.clone(),
            orders: inbox,
            shown: Arc::clone(&shown),
            places: HashMap::new(),
            published: 0,
            unanswered: None,
        };
        Self {
            name: name.to_owned(),
            orders,
            shown,
            task: tokio::spawn(life.run()),
        }
    }

    pub(super) fn socket(&self) -> String {
        self.shown.lock().unwrap().socket.clone()
    }

    pub(super) fn is_subscribed_to(&self, channels: usize) -> bool {
        self.shown.lock().unwrap().subscribed == channels
    }

    pub(super) fn has_seen(&self, channel: &ChannelName, payload: &str) -> bool {
        let shown = self.shown.lock().unwrap();
        shown.last.get(channel).is_some_and(|last| last == payload)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Life {
    async fn run(mut self) {
        let mut retry = tokio::time::interval(Duration::from_millis(1));
        loop {
            retry.tick().await;
            let Ok(mut socket) = self.door.attempt().await else {
                continue;
            };
            let Some(connected) = socket.next().await else {
                continue;
            };
            let id = connected["socket_id"].as_str().unwrap();
            id.clone_into(&mut self.shown.lock().unwrap().socket);
            for channel in self.channels.clone() {
                self.subscribe(&mut socket, &channel).await;
            }
            let end = self.follow(&mut socket).await;
            for channel in self.channels.clone() {
                self.left(&channel);
            }
            if matches!(end, End::Told) {
                socket.vanish();
            }
        }
    }

    /// Takes what comes and does what it is told until the connection ends.
    async fn follow(&mut self, socket: &mut Socket) -> End {
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(message) => self.take(socket, &message).await,
                    None => return End::Lost,
                },
                Some(order) = self.orders.recv() => match order {
                    Order::Vanish => return End::Told,
                    Order::Close => socket.send(json!({ "type": "disconnect" })).await,
                    Order::Leave(channel) => {
                        socket.send(json!({ "type": "unsubscribe", "channel": channel.as_str() })).await;
                    }
                    Order::Publish(channel, payload) => self.publish(socket, channel, payload).await,
                },
            }
        }
    }

    async fn subscribe(&mut self, socket: &mut Socket, channel: &ChannelName) {
        let mut command = json!({ "type": "subscribe", "channel": channel.as_str() });
        if let Some(position) = self.place(channel).position {
            command["since"] = serde_json::to_value(position).unwrap();
        }
        socket.send(command).await;
    }

    async fn publish(&mut self, socket: &mut Socket, channel: ChannelName, payload: String) {
        if self.unanswered.is_some() || !self.place(&channel).is_subscribed {
            return;
        }
        self.published += 1;
        let unanswered = Unanswered {
            request: self.published,
            id: self.recorder.call(&channel, &payload, None),
            channel,
            payload,
            is_repeated: false,
        };
        self.say(socket, &unanswered).await;
        self.unanswered = Some(unanswered);
    }

    async fn say(&self, socket: &mut Socket, unanswered: &Unanswered) {
        let Unanswered {
            request,
            channel,
            payload,
            ..
        } = unanswered;
        let key = format!("{}-{request}", self.name);
        socket
            .send(json!({
                "type": "publish", "id": request, "channel": channel.as_str(), "event": "n",
                "data": payload, "key": key,
            }))
            .await;
    }

    async fn take(&mut self, socket: &mut Socket, message: &Value) {
        match message["type"].as_str().unwrap() {
            "subscription_succeeded" if message["channel"] == format!("user:{}", self.name) => {}
            "subscription_succeeded" => self.subscribed(socket, message).await,
            "event" => self.event(&channel(message), message),
            "skipped" => {
                let channel = channel(message);
                if let Some(position) = self.step(&channel, message) {
                    self.saw(&channel, Observation::Skipped { position });
                }
            }
            "reset" => {
                let channel = channel(message);
                let at: Position = serde_json::from_value(message["position"].clone()).unwrap();
                self.place(&channel).position = Some(at);
                self.saw(&channel, Observation::Reset { at });
            }
            "gap" => self.saw(&channel(message), Observation::Gap { at: None }),
            "unsubscribed" => {
                let channel = channel(message);
                self.left(&channel);
                self.subscribe(socket, &channel).await;
            }
            "subscription_error" => {
                // Not now: the server is about to go.
                assert_eq!(message["code"], 4315, "{message}");
            }
            "ok" | "error" => self.answered(message),
            "disconnect" => {}
            other => panic!("{other}"),
        }
    }

    async fn subscribed(&mut self, socket: &mut Socket, message: &Value) {
        let channel = channel(message);
        let position: Option<Position> =
            serde_json::from_value(message["position"].clone()).unwrap();
        self.place(&channel).is_subscribed = true;
        self.shown.lock().unwrap().subscribed += 1;
        if message["recovered"] == true {
            self.saw(&channel, Observation::Resumed);
            for event in message["events"].as_array().unwrap_or(&Vec::new()) {
                self.event(&channel, event);
            }
            assert_eq!(self.place(&channel).position, position, "{message}");
        } else {
            assert!(message["events"].is_null(), "{message}");
            self.saw(&channel, Observation::Joined { at: position });
        }
        self.place(&channel).position = position;
        if let Some(mut unanswered) = self
            .unanswered
            .take_if(|waiting| waiting.channel == channel)
        {
            // Only where a history knows the key is a repetition harmless.
            if position.is_some() {
                self.recorder.repeat(unanswered.id);
                unanswered.is_repeated = true;
                self.say(socket, &unanswered).await;
                self.unanswered = Some(unanswered);
            }
        }
    }

    fn event(&mut self, channel: &ChannelName, event: &Value) {
        let position = self.step(channel, event);
        let payload = event["data"].as_str().unwrap().to_owned();
        let mut shown = self.shown.lock().unwrap();
        shown.last.insert(channel.clone(), payload.clone());
        drop(shown);
        self.saw(channel, Observation::Message { position, payload });
    }

    /// The position of an event: what it says, and what it leaves out because it did not change.
    fn step(&mut self, channel: &ChannelName, event: &Value) -> Option<Position> {
        let place = self.place(channel);
        let offset = event["offset"].as_u64()?;
        let epoch = match &event["epoch"] {
            Value::Null => place.position.unwrap().epoch,
            epoch => serde_json::from_value(epoch.clone()).unwrap(),
        };
        let tag = serde_json::from_value(event["tag"].clone()).unwrap();
        place.position = Some(Position { epoch, offset, tag });
        place.position
    }

    fn answered(&mut self, message: &Value) {
        let Some(unanswered) = self
            .unanswered
            .take_if(|waiting| message["id"] == waiting.request)
        else {
            return;
        };
        if message["type"] == "ok" {
            let position = serde_json::from_value(message["position"].clone()).unwrap();
            self.recorder.accepted(unanswered.id, position);
        } else if !unanswered.is_repeated && message["code"] != 4316 {
            self.recorder.refused(unanswered.id);
        }
    }

    fn left(&mut self, channel: &ChannelName) {
        if std::mem::take(&mut self.place(channel).is_subscribed) {
            self.shown.lock().unwrap().subscribed -= 1;
            self.saw(channel, Observation::Left);
        }
    }

    fn saw(&self, channel: &ChannelName, what: Observation) {
        self.recorder.saw(&self.name, channel, what);
    }

    fn place(&mut self, channel: &ChannelName) -> &mut Place {
        self.places.entry(channel.clone()).or_default()
    }
}

fn channel(message: &Value) -> ChannelName {
    message["channel"].as_str().unwrap().parse().unwrap()
}
