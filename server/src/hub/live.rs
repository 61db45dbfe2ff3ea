//! The live subscribers of a channel: a row that sweeps walk along, and a way to find one of them when it leaves.

use std::collections::HashMap;
use std::sync::Arc;

use super::op::SubscriberId;
use super::outbox::Outbox;

/// A live subscriber. Small: the sweep walks over thousands of them.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) id: SubscriberId,
    /// Offsets up to here it has had; deliveries that are still on their way repeat some of them.
    pub(super) from: u64,
    /// It was too slow for a channel that drops in such a case, and has not caught up.
    pub(super) is_dropping: bool,
    pub(super) outbox: Arc<Outbox>,
}

/// The live subscribers of a channel, in no order.
///
/// A sweep borrows the row while it lasts; nobody joins or leaves meanwhile.
#[derive(Debug, Default)]
pub(super) struct Live {
    row: Vec<Subscriber>,
    /// Where in the row each one stands, from the first departure on that would have to search for long. Small channels, and
    /// those that nobody leaves, do without.
    places: Option<HashMap<SubscriberId, usize>>,
}

impl Live {
    /// Adds a subscriber.
    pub(super) fn push(&mut self, subscriber: Subscriber) {
        if let Some(places) = &mut self.places {
            places.insert(subscriber.id, self.row.len());
        }
        self.row.push(subscriber);
    }

    /// Takes a subscriber out, in the same time however many there are. Must not be called while the row is lent.
    pub(super) fn remove(&mut self, id: SubscriberId) -> Option<Subscriber> {
        let at = self.place(id)?;
        let gone = self.row.swap_remove(at);
        let moved = self.row.get(at).map(|moved| moved.id);
        if let Some(places) = &mut self.places {
            places.remove(&id);
            if let Some(moved) = moved {
                places.insert(moved, at);
            }
        }
        if self.row.is_empty() {
            *self = Self::default();
        }
        Some(gone)
    }

    /// Every subscriber.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscriber> {
        self.row.iter()
    }

    /// Every subscriber, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Subscriber> {
        self.row.iter_mut()
    }

    /// Lends the row to a sweep.
    pub(super) fn lend(&mut self) -> Vec<Subscriber> {
        std::mem::take(&mut self.row)
    }

    /// Takes the row back: the same subscribers in the same places.
    pub(super) fn take_back(&mut self, row: Vec<Subscriber>) {
        self.row = row;
    }

    fn place(&mut self, id: SubscriberId) -> Option<usize> {
        if self.places.is_none() && self.row.len() <= SEARCHED_MAX {
            return self.row.iter().position(|subscriber| subscriber.id == id);
        }
        let row = &self.row;
        let places = self.places.get_or_insert_with(|| {
            let ids = row.iter().map(|subscriber| subscriber.id);
            ids.zip(0..).collect()
        });
        places.get(&id).copied()
    }
}

/// 64: a row that is searched as fast as a map finds its place.
const SEARCHED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use fanfare_protocol::SocketId;
    use fastrand::Rng;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::outbox::Stream;
    use super::*;
    use crate::dialect::Dialect;

    async fn outbox() -> Arc<Outbox> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap());
        let stream = stream.await.unwrap();
        let socket = SocketId::from_bits(1);
        Arc::new(Outbox::new(socket, Dialect::Native, 1, Stream::Tcp(stream)))
    }

    fn ids(live: &Live) -> Vec<SubscriberId> {
        let mut ids: Vec<SubscriberId> = live.iter().map(|subscriber| subscriber.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Random comings and goings in small and in large channels, with sweeps in between.
    #[tokio::test]
    async fn who_left_is_gone_and_everybody_else_is_there() {
        let outbox = outbox().await;
        for seed in 0..20 {
            let mut rng = Rng::with_seed(seed);
            let (mut live, mut model) = (Live::default(), Vec::new());
            let most = [3, SEARCHED_MAX + 1, 400][rng.usize(..3)];
            for id in 0..2_000 {
                if model.len() < most && rng.u8(..4) > 0 {
                    live.push(Subscriber {
                        id,
                        from: id,
                        is_dropping: false,
                        outbox: Arc::clone(&outbox),
                    });
                    model.push(id);
                } else if !model.is_empty() {
                    let gone = model.swap_remove(rng.usize(..model.len()));
                    let removed = live.remove(gone).map(|subscriber| subscriber.from);
                    assert_eq!(removed, Some(gone));
                    assert!(live.remove(gone).is_none(), "it left once");
                }
                if rng.u8(..8) == 0 {
                    let row = live.lend();
                    live.take_back(row);
                }
                if id % 32 == 0 {
                    let mut expected = model.clone();
                    expected.sort_unstable();
                    assert_eq!(ids(&live), expected, "seed {seed}");
                }
            }
            for id in model {
                assert!(live.remove(id).is_some());
            }
            assert!(
                live.places.is_none() && live.row.capacity() == 0,
                "nothing is kept"
            );
        }
    }
}
