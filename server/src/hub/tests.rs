//! The hub over real sockets: what a subscriber reads is what counts.

use std::sync::Mutex;
use std::time::Duration;

use fanfare_protocol::{Epoch, EventName, Position, RawJson, SocketId, Tag};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::delivery::{History, Publication};
use crate::dialect::Dialect;

const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    hub: Arc<Hub>,
    interest: Arc<Mutex<Vec<(String, bool)>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    next_socket: std::cell::Cell<u128>,
}

/// One subscriber: its outbox here, its end of the socket there.
struct Peer {
    outbox: Arc<Outbox>,
    stream: TcpStream,
    read: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let interest: Arc<Mutex<Vec<_>>> = Arc::default();
        let record = Arc::clone(&interest);
        let on_interest: OnInterest = Arc::new(move |channel: &ChannelName, wanted| {
            record.lock().unwrap().push((channel.to_string(), wanted));
        });
        let hub = Hub::start(1, &on_interest, &tasks, &stop);
        Self {
            hub,
            interest,
            tasks,
            stop,
            next_socket: std::cell::Cell::new(1),
        }
    }

    async fn peer(&self, dialect: Dialect, bytes_max: usize) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (near, _) = listener.accept().await.unwrap();
        // The first readiness arrives with the first turn of the I/O driver.
        near.writable().await.unwrap();
        let socket = SocketId::from_bits(self.next_socket.replace(self.next_socket.get() + 1));
        Peer {
            outbox: Arc::new(Outbox::new(socket, dialect, bytes_max, Stream::Tcp(near))),
            stream,
            read: Vec::new(),
        }
    }

    async fn join(&self, peer: &Peer, slow_reader: SlowReader) -> Membership {
        self.hub
            .join(channel(), Arc::clone(&peer.outbox), slow_reader)
            .await
            .unwrap()
    }

    async fn subscribe(&self, peer: &mut Peer) -> Membership {
        let membership = self.join(peer, SlowReader::Close).await;
        assert_eq!(membership.activate(live(None)).await, Activated::Live);
        assert_eq!(peer.next().await["type"], "subscription_succeeded");
        membership
    }

    fn deliver(&self, offsets: impl IntoIterator<Item = u64>) {
        for offset in offsets {
            self.hub.enqueue(delivery(1, offset));
        }
    }

    /// Waits until everything delivered so far is encoded.
    async fn swept(&self) {
        let swept = async {
            while self.hub.waiting_bytes() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, swept).await.expect("the owner sweeps");
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait())
            .await
            .expect("the owner ends when told");
    }
}

impl Peer {
    /// The next frame's JSON; what waits in the outbox is flushed as the driver would.
    async fn next(&mut self) -> Value {
        let text = timeout(PATIENCE, self.next_text())
            .await
            .expect("a frame arrives");
        serde_json::from_str(&text).unwrap()
    }

    async fn next_text(&mut self) -> String {
        loop {
            if let Some(text) = self.split_frame() {
                return text;
            }
            let mut buffer = vec![0; 64 << 10];
            tokio::select! {
                count = self.stream.read(&mut buffer) => {
                    let count = count.unwrap();
                    assert!(count > 0, "the stream ended");
                    self.read.extend_from_slice(&buffer[..count]);
                }
                _ = self.outbox.ready(Interest::WRITABLE), if !self.outbox.is_empty() => { self.outbox.flush().unwrap(); }
                () = self.outbox.woken() => { self.outbox.flush().unwrap(); }
            }
        }
    }

    fn split_frame(&mut self) -> Option<String> {
        let (start, length) = match self.read.get(1)? {
            126 => (
                4,
                usize::from(u16::from_be_bytes(self.read.get(2..4)?.try_into().ok()?)),
            ),
            127 => (
                10,
                u64::from_be_bytes(self.read.get(2..10)?.try_into().ok()?) as usize,
            ),
            short => (2, usize::from(*short)),
        };
        let text = String::from_utf8(self.read.get(start..start + length)?.to_vec()).unwrap();
        self.read.drain(..start + length);
        Some(text)
    }

    /// The offsets of the next events, whatever frames they come in.
    async fn offsets(&mut self, count: usize) -> Vec<u64> {
        let mut offsets = Vec::new();
        while offsets.len() < count {
            match self.next().await {
                Value::Array(batch) => {
                    offsets.extend(batch.iter().map(|event| event["offset"].as_u64().unwrap()))
                }
                event => offsets.push(
                    event["offset"]
                        .as_u64()
                        .unwrap_or_else(|| panic!("{event}")),
                ),
            }
        }
        offsets
    }
}

fn channel() -> ChannelName {
    ChannelName::new("c").unwrap()
}

fn tag(offset: u64) -> Tag {
    Tag(if offset == 0 { 0 } else { offset + 100 })
}

fn at(epoch: u64, offset: u64) -> Position {
    Position {
        epoch: Epoch(epoch),
        offset,
        tag: tag(offset),
    }
}

fn publication(data: &str) -> Publication {
    Publication::new(
        channel(),
        EventName::new("e").unwrap(),
        RawJson::encode(data).unwrap(),
    )
}

fn delivery(epoch: u64, offset: u64) -> Delivery {
    Delivery::new(
        publication("x"),
        Some(at(epoch, offset)),
        Some(tag(offset - 1)),
    )
}

fn live(history: Option<History>) -> Activation {
    Activation {
        request: Some(1),
        wish: Wish::Live,
        history,
        presence: None,
        member: None,
        is_last_try: false,
        bytes_max: 1 << 20,
    }
}

fn top(offset: u64) -> Option<History> {
    Some(History {
        top: at(1, offset),
        entries: Vec::new(),
    })
}

#[tokio::test]
async fn what_arrives_while_joining_follows_the_reply_in_order() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let membership = bench.join(&peer, SlowReader::Close).await;
    bench.deliver(1..=3);
    assert_eq!(membership.activate(live(top(2))).await, Activated::Live);
    bench.deliver(4..=5);
    let reply = peer.next().await;
    assert_eq!(
        (&reply["type"], &reply["position"]["offset"]),
        (&json!("subscription_succeeded"), &json!(2))
    );
    assert_eq!(peer.offsets(3).await, [3, 4, 5]);
    bench.end().await;
}

#[tokio::test]
async fn what_the_history_already_told_is_not_told_again() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let membership = bench.join(&peer, SlowReader::Close).await;
    // The history was ahead of the deliveries, as it is when they travel over a network.
    assert_eq!(membership.activate(live(top(3))).await, Activated::Live);
    bench.deliver(1..=4);
    peer.next().await;
    assert_eq!(peer.offsets(1).await, [4]);
    bench.end().await;
}

#[tokio::test]
async fn a_notice_is_told_in_its_place_among_the_deliveries() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let _membership = bench.subscribe(&mut peer).await;
    bench.deliver(1..=2);
    let reason = "lost on the way";
    bench.hub.notify(channel(), Notice::Gap { reason });
    bench.deliver(3..=3);
    assert_eq!(peer.offsets(2).await, [1, 2]);
    let gap = peer.next().await;
    assert_eq!(
        (&gap["type"], &gap["reason"]),
        (&json!("gap"), &json!(reason))
    );
    assert_eq!(peer.offsets(1).await, [3]);
    bench.end().await;
}

#[tokio::test]
async fn after_a_reset_the_channel_goes_on_from_its_position() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let _membership = bench.subscribe(&mut peer).await;
    bench.deliver(1..=5);
    let (position, reason) = (at(1, 2), "rewritten");
    bench
        .hub
        .notify(channel(), Notice::Reset { position, reason });
    // The same offset again is another message now, and nobody has had it.
    bench.deliver(3..=3);
    assert_eq!(peer.offsets(5).await, [1, 2, 3, 4, 5]);
    let reset = peer.next().await;
    assert_eq!(
        (&reset["type"], &reset["position"]["offset"]),
        (&json!("reset"), &json!(2))
    );
    assert_eq!(peer.offsets(1).await, [3]);
    bench.end().await;
}

#[tokio::test]
async fn a_reset_of_another_epoch_is_told_once() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let _membership = bench.subscribe(&mut peer).await;
    bench.deliver(1..=1);
    let (position, reason) = (at(2, 7), "another history");
    bench
        .hub
        .notify(channel(), Notice::Reset { position, reason });
    bench.hub.enqueue(delivery(2, 8));
    assert_eq!(peer.offsets(1).await, [1]);
    let reset = peer.next().await;
    assert_eq!(
        (&reset["type"], &reset["position"]["epoch"]),
        (&json!("reset"), &json!("2"))
    );
    let next = peer.next().await;
    assert_eq!((&next["offset"], &next["epoch"]), (&json!(8), &json!("2")));
    bench.end().await;
}

#[tokio::test]
async fn who_is_joining_during_a_reset_reads_the_history_again() {
    let bench = Bench::new();
    let peer = bench.peer(Dialect::Native, 1 << 20).await;
    let membership = bench.join(&peer, SlowReader::Close).await;
    let (position, reason) = (at(2, 0), "another history");
    bench
        .hub
        .notify(channel(), Notice::Reset { position, reason });
    bench.hub.enqueue(delivery(2, 1));
    bench.swept().await;
    assert_eq!(membership.activate(live(top(5))).await, Activated::Hole);
    bench.end().await;
}

#[tokio::test]
async fn a_hole_between_history_and_buffer_asks_for_another_read() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let membership = bench.join(&peer, SlowReader::Close).await;
    bench.deliver(4..=5);
    assert_eq!(membership.activate(live(top(2))).await, Activated::Hole);
    assert_eq!(membership.activate(live(top(4))).await, Activated::Live);
    assert_eq!(peer.next().await["position"]["offset"], 4);
    assert_eq!(peer.offsets(1).await, [5]);
    bench.end().await;
}

#[tokio::test]
async fn a_buffer_that_overflows_is_settled_at_the_channels_own_position() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let membership = bench.join(&peer, SlowReader::Close).await;
    bench.deliver(1..=400);
    bench.swept().await;
    let activation = Activation {
        is_last_try: true,
        ..live(top(0))
    };
    assert_eq!(membership.activate(activation).await, Activated::Live);
    let reply = peer.next().await;
    assert_eq!(
        (&reply["position"]["offset"], &reply["recovered"]),
        (&json!(400), &json!(false))
    );
    bench.deliver([401]);
    assert_eq!(peer.offsets(1).await, [401]);
    bench.end().await;
}

#[tokio::test]
async fn the_batch_dialect_gets_what_waited_as_one_array() {
    let bench = Bench::new();
    let mut batch = bench.peer(Dialect::NativeBatch, 1 << 20).await;
    let mut plain = bench.peer(Dialect::Native, 1 << 20).await;
    let _memberships = (
        bench.subscribe(&mut batch).await,
        bench.subscribe(&mut plain).await,
    );
    bench.deliver(1..=3);
    let frame = batch.next().await;
    assert_eq!(frame.as_array().map(Vec::len), Some(3), "{frame}");
    assert_eq!(plain.offsets(3).await, [1, 2, 3]);
    bench.deliver([4]);
    assert_eq!(
        batch.next().await["offset"],
        4,
        "one message alone is an object"
    );
    bench.end().await;
}

#[tokio::test]
async fn an_excluded_connection_is_told_that_the_position_moved() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let mut other = bench.peer(Dialect::Native, 1 << 20).await;
    let _memberships = (
        bench.subscribe(&mut peer).await,
        bench.subscribe(&mut other).await,
    );
    let mut excluding = delivery(1, 2);
    excluding.except = Some(peer.outbox.socket());
    bench.deliver([1]);
    bench.hub.enqueue(excluding);
    bench.deliver([3]);
    let kinds: Vec<_> = [peer.next().await, peer.next().await, peer.next().await]
        .map(|frame| frame["type"].clone())
        .into();
    assert_eq!(kinds, ["event", "skipped", "event"]);
    assert_eq!(other.offsets(3).await, [1, 2, 3]);
    bench.end().await;
}

#[tokio::test]
async fn without_positions_an_exclusion_is_simply_silence() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let _membership = bench.subscribe(&mut peer).await;
    let excluding = publication("not you").except(peer.outbox.socket());
    bench.hub.enqueue(Delivery::new(excluding, None, None));
    bench
        .hub
        .enqueue(Delivery::new(publication("you"), None, None));
    assert_eq!(peer.next().await["data"], "you");
    bench.end().await;
}

#[tokio::test]
async fn a_replaced_history_is_announced_before_its_first_message() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let _membership = bench.subscribe(&mut peer).await;
    bench.deliver(1..=2);
    bench.hub.enqueue(delivery(9, 1));
    bench.hub.enqueue(delivery(9, 2));
    assert_eq!(peer.offsets(2).await, [1, 2]);
    let reset = peer.next().await;
    assert_eq!(
        (&reset["type"], &reset["position"]["epoch"]),
        (&json!("reset"), &json!("9"))
    );
    let (first, second) = (peer.next().await, peer.next().await);
    assert_eq!(
        (&first["epoch"], &first["offset"]),
        (&json!("9"), &json!(1))
    );
    assert_eq!(
        (&second["epoch"], &second["offset"]),
        (&Value::Null, &json!(2))
    );
    bench.end().await;
}

#[tokio::test]
async fn a_lost_delivery_shows_as_a_jump_that_the_subscriber_recovers() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let _membership = bench.subscribe(&mut peer).await;
    bench.deliver([1, 2, 5]);
    assert_eq!(peer.offsets(3).await, [1, 2, 5]);
    bench.deliver([5, 6]);
    assert_eq!(peer.offsets(1).await, [6], "a repetition is dropped");
    bench.end().await;
}

#[tokio::test]
async fn a_slow_reader_is_marked_and_nobody_waits_for_it() {
    let bench = Bench::new();
    let mut slow = bench.peer(Dialect::Native, 64 << 10).await;
    let mut good = bench.peer(Dialect::Native, 64 << 20).await;
    let _memberships = (
        bench.subscribe(&mut slow).await,
        bench.subscribe(&mut good).await,
    );
    let large = "x".repeat(512 << 10);
    for _ in 0..40 {
        bench
            .hub
            .enqueue(Delivery::new(publication(&large), None, None));
    }
    for _ in 0..40 {
        assert_eq!(
            good.next().await["data"].as_str().map(str::len),
            Some(large.len())
        );
    }
    assert!(slow.outbox.is_slow());
    assert_eq!(
        slow.outbox.offer(&bytes::Bytes::from_static(b"more")),
        Offer::Closed
    );
    bench.end().await;
}

#[tokio::test]
async fn a_channel_that_drops_tells_the_slow_reader_once_it_has_caught_up() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 64 << 10).await;
    let membership = bench.join(&peer, SlowReader::Drop).await;
    assert_eq!(membership.activate(live(None)).await, Activated::Live);
    peer.next().await;
    let large = "x".repeat(512 << 10);
    for _ in 0..40 {
        bench
            .hub
            .enqueue(Delivery::new(publication(&large), None, None));
    }
    bench.swept().await;
    assert!(!peer.outbox.is_slow());
    let mut received = 0;
    loop {
        let frame = peer.next().await;
        match frame["type"].as_str() {
            Some("event") => received += 1,
            other => break assert_eq!(other, Some("gap")),
        }
    }
    assert!((1..40).contains(&received), "{received}");
    bench
        .hub
        .enqueue(Delivery::new(publication("after"), None, None));
    assert_eq!(peer.next().await["data"], "after");
    bench.end().await;
}

#[tokio::test]
async fn nothing_of_a_channel_follows_its_farewell() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let membership = bench.subscribe(&mut peer).await;
    bench.deliver(1..=5);
    membership.leave_with(&ServerMessage::Pong { timestamp: 7 });
    bench.deliver(6..=9);
    let mut heard = 0;
    let farewell = loop {
        let frame = peer.next().await;
        if frame["type"] != "event" {
            break frame;
        }
        heard += 1;
    };
    assert_eq!(farewell["timestamp"], 7);
    assert!(heard >= 5, "what was delivered before comes before");
    bench.swept().await;
    // A fence: whatever else was sent would have come before it.
    peer.outbox.offer(&prepared::message(
        Dialect::Native,
        &ServerMessage::Pong { timestamp: 8 },
    ));
    assert_eq!(peer.next().await["timestamp"], 8);
    bench.end().await;
}

#[tokio::test]
async fn interest_follows_the_first_and_the_last_membership() {
    let bench = Bench::new();
    let (mut one, mut two) = (
        bench.peer(Dialect::Native, 1 << 20).await,
        bench.peer(Dialect::Native, 1 << 20).await,
    );
    let first = bench.subscribe(&mut one).await;
    let second = bench.subscribe(&mut two).await;
    assert_eq!(bench.hub.subscriber_count(&channel()).await, 2);
    drop(first);
    assert_eq!(bench.hub.channels().await, [(channel(), 1)]);
    drop(second);
    assert_eq!(bench.hub.channels().await, []);
    let interest = bench.interest.lock().unwrap().clone();
    assert_eq!(interest, [("c".to_owned(), true), ("c".to_owned(), false)]);
    bench.end().await;
}

#[tokio::test]
async fn publishers_wait_while_a_shard_is_full() {
    let bench = Bench::new();
    let large = "x".repeat(1 << 20);
    // The owner of this single-threaded runtime does not run before this test awaits.
    for _ in 0..9 {
        bench
            .hub
            .enqueue(Delivery::new(publication(&large), None, None));
    }
    let channel = channel();
    let hub = Arc::clone(&bench.hub);
    let mut admitted = std::pin::pin!(hub.admit(&channel));
    assert!(futures_util::poll!(admitted.as_mut()).is_pending());
    timeout(PATIENCE, admitted)
        .await
        .expect("the owner makes room");
    bench.end().await;
}

#[tokio::test]
async fn an_overloaded_shard_drops_and_says_so() {
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 256 << 20).await;
    let _membership = bench.subscribe(&mut peer).await;
    let large = "x".repeat(1 << 20);
    for _ in 0..70 {
        bench
            .hub
            .enqueue(Delivery::new(publication(&large), None, None));
    }
    let first = peer.next().await;
    assert_eq!(first["type"], "gap");
    assert_eq!(peer.next().await["type"], "event");
    bench.end().await;
}

#[tokio::test]
async fn a_loss_during_a_sweep_is_told_after_it() {
    let name = ChannelName::new("c").unwrap();
    let bench = Bench::new();
    let mut peer = bench.peer(Dialect::Native, 1 << 20).await;
    let mut channel = channel::Channel::new(name.clone(), SlowReader::Close);
    channel.join(1, Arc::clone(&peer.outbox));
    assert_eq!(channel.activate(1, live(None)), Activated::Live);
    assert_eq!(peer.next().await["type"], "subscription_succeeded");
    let before = Delivery::new(publication("before"), None, None);
    channel.push(channel::Waiting::Delivery(before));
    let mut sweep = sweep::Sweep::start(&name, &mut channel).unwrap();
    channel.announce_gap("the server was overloaded");
    sweep.step(usize::MAX);
    sweep.finish(&mut channel);
    channel.announce_pending();
    assert_eq!(peer.next().await["data"], "before");
    assert_eq!(peer.next().await["type"], "gap");
    bench.end().await;
}
