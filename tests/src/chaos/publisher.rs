//! Publishing, and writing down what became of it.

#![expect(clippy::unwrap_used, reason = "names are made here and fit")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_client::ClientError;
use fanfare_client::native::NativeClient;
use fanfare_protocol::{ChannelName, EventName, IdempotencyKey, Position, RawJson};
use fanfare_server::engine::EngineError;
use fanfare_server::{Publication, PublishError, Publisher};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::checker::Recorder;

/// Who publishes.
#[derive(Clone)]
pub enum Voice {
    /// The application, through a handle that does nothing else.
    Application(Publisher),
    /// A client over its connection, to the channels that it is subscribed to.
    Client(NativeClient, Vec<ChannelName>),
}

/// What became of an attempt.
enum Became {
    Accepted(Option<Position>),
    Refused,
    Unknown,
}

/// Publishes at a steady pace until it is told to stop.
pub struct Publishers {
    stop: CancellationToken,
    pace: JoinHandle<()>,
    under_way: TaskTracker,
    /// What could not be published, by what was said about it.
    pub errors: Arc<AtomicU64>,
}

/// What publishers need.
#[derive(Clone)]
pub struct Desk {
    /// Everybody who can publish, taken in turn.
    pub voices: Arc<Vec<Voice>>,
    /// Where to.
    pub channels: Arc<Vec<ChannelName>>,
    /// Where it is written down.
    pub recorder: Recorder,
    /// Numbers the payloads.
    pub next: Arc<AtomicU64>,
    /// What every payload begins with.
    pub mark: &'static str,
}

impl Publishers {
    /// Starts.
    #[must_use]
    pub fn start(desk: Desk, per_second: u32, seed: u64) -> Self {
        let stop = CancellationToken::new();
        let under_way = TaskTracker::new();
        let errors = Arc::<AtomicU64>::default();
        let pace = tokio::spawn(pace(
            desk,
            per_second,
            seed,
            stop.clone(),
            under_way.clone(),
            Arc::clone(&errors),
        ));
        Self {
            stop,
            pace,
            under_way,
            errors,
        }
    }

    /// Stops, and waits for what is under way.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.pace.await;
        self.under_way.close();
        let _ = tokio::time::timeout(LAST_ONES, self.under_way.wait()).await;
    }
}

async fn pace(
    desk: Desk,
    per_second: u32,
    seed: u64,
    stop: CancellationToken,
    under_way: TaskTracker,
    errors: Arc<AtomicU64>,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    // While the store is away publications pile up: beyond this the pace slows down.
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let (desk, errors) = (desk.clone(), Arc::clone(&errors));
        let voice = desk.voices[random.usize(..desk.voices.len())].clone();
        let channels = match &voice {
            Voice::Application(_) => desk.channels.as_slice(),
            Voice::Client(_, channels) => channels,
        };
        let channel = channels[random.usize(..channels.len())].clone();
        under_way.spawn(async move {
            let _permit = permit;
            if desk.publish(&voice, &channel).await.is_none() {
                errors.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

impl Desk {
    /// Publishes one message and repeats it with the same key while its outcome is unknown; its payload once it is accepted.
    pub async fn publish(&self, voice: &Voice, channel: &ChannelName) -> Option<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let payload = format!("{}{number}", self.mark);
        let key = IdempotencyKey::new(&format!("{}{number}", self.mark)).unwrap();
        let id = self.recorder.call(channel, &payload, None);
        // Engines and clients repeat by themselves what they can repeat safely.
        self.recorder.repeat(id);
        for attempt in 0..ATTEMPTS_MAX {
            match voice.say(channel, &payload, key.clone()).await {
                Became::Accepted(position) => {
                    self.recorder.accepted(id, position);
                    return Some(payload);
                }
                Became::Refused if attempt == 0 => {
                    self.recorder.refused(id);
                    return None;
                }
                // That a repetition was refused says nothing about the attempts before it.
                Became::Refused | Became::Unknown => self.recorder.repeat(id),
            }
        }
        None
    }
}

impl Voice {
    async fn say(&self, channel: &ChannelName, payload: &str, key: IdempotencyKey) -> Became {
        let event: EventName = "said".parse().unwrap();
        let data = RawJson::encode(&payload).unwrap();
        match self {
            Self::Application(publisher) => {
                let publication = Publication::new(channel.clone(), event, data).with_key(key);
                match publisher.publish(publication).await {
                    Ok(published) => Became::Accepted(published.position),
                    Err(PublishError::Engine { error, .. }) => match error {
                        EngineError::LevelNotReached { position, .. } => Became::Accepted(position),
                        EngineError::Unknown { .. } => Became::Unknown,
                        _ => Became::Refused,
                    },
                    Err(_) => Became::Refused,
                }
            }
            Self::Client(client, _) => {
                let said = client.publish_with_key(channel, &event, data, Some(key));
                match said.await {
                    Ok(position) => Became::Accepted(position),
                    Err(ClientError::UnknownOutcome | ClientError::Aborted) => Became::Unknown,
                    Err(_) => Became::Refused,
                }
            }
        }
    }
}

/// 3: whoever publishes gives up some time.
const ATTEMPTS_MAX: usize = 3;
/// 256: two seconds of the whole load.
const UNDER_WAY_MAX: usize = 256;
/// 40 s: a client's request lives for 30 s.
const LAST_ONES: Duration = Duration::from_secs(40);
