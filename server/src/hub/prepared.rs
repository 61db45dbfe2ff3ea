//! Deliveries as bytes: encoded at most once per dialect in use, joined into one buffer that serves every subscriber.

use bytes::{Bytes, BytesMut};
use fanfare_protocol::{Epoch, Event, ServerMessage, Skipped, SocketId};

use crate::delivery::Delivery;
use crate::dialect::Dialect;
use crate::frame;

/// A run of deliveries of one channel, ready to be written.
#[derive(Debug)]
pub(crate) struct Prepared {
    deliveries: Vec<Delivery>,
    /// The epoch told with the first delivery, where it is new to the subscribers.
    new_epoch: Option<Epoch>,
    joined: [Option<Bytes>; Dialect::COUNT],
    has_exception: bool,
}

impl Prepared {
    /// Encodes a run for the dialects in use.
    pub(crate) fn new(
        deliveries: Vec<Delivery>,
        new_epoch: Option<Epoch>,
        in_use: [bool; Dialect::COUNT],
    ) -> Self {
        let has_exception = deliveries.iter().any(|delivery| delivery.except.is_some());
        let mut prepared = Self {
            deliveries,
            new_epoch,
            joined: [const { None }; Dialect::COUNT],
            has_exception,
        };
        for dialect in Dialect::ALL {
            if in_use[dialect.index()] {
                prepared.joined[dialect.index()] = Some(prepared.join(dialect, None, 0));
            }
        }
        prepared
    }

    /// The buffer for a subscriber to whom nothing special applies.
    pub(crate) fn joined(&self, dialect: Dialect) -> Option<&Bytes> {
        self.joined[dialect.index()].as_ref()
    }

    /// Whether some connection is left out of some delivery.
    pub(crate) fn has_exception(&self) -> bool {
        self.has_exception
    }

    /// Whether this connection is left out of some delivery.
    pub(crate) fn excludes(&self, socket: SocketId) -> bool {
        self.has_exception
            && self
                .deliveries
                .iter()
                .any(|delivery| delivery.except == Some(socket))
    }

    /// The offset of the first delivery, on channels with positions.
    pub(crate) fn first_offset(&self) -> Option<u64> {
        self.deliveries
            .first()?
            .position
            .map(|position| position.offset)
    }

    /// A buffer of one subscriber's own: without what it has had already (offsets up to `from`), and with `skipped` in place
    /// of what it must not get.
    pub(crate) fn join(&self, dialect: Dialect, socket: Option<SocketId>, from: u64) -> Bytes {
        let mut out = Joiner::new(dialect);
        for (at, delivery) in self.deliveries.iter().enumerate() {
            if delivery
                .position
                .is_some_and(|position| position.offset <= from)
            {
                continue;
            }
            let epoch = if at == 0 { self.new_epoch } else { None };
            out.push(delivery, epoch, socket);
        }
        out.finish()
    }
}

/// Collects messages of one subscriber into frames.
#[derive(Debug)]
pub(crate) struct Joiner {
    dialect: Dialect,
    frames: BytesMut,
    text: String,
    count: usize,
}

impl Joiner {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            frames: BytesMut::new(),
            text: String::new(),
            count: 0,
        }
    }

    /// Adds one delivery, or what stands for it where `socket` is left out of it.
    pub(crate) fn push(
        &mut self,
        delivery: &Delivery,
        epoch: Option<Epoch>,
        socket: Option<SocketId>,
    ) {
        if delivery.except.is_some() && delivery.except == socket {
            if let Some(position) = delivery.position {
                let skipped = Skipped {
                    channel: delivery.channel.clone(),
                    offset: position.offset,
                    tag: position.tag,
                    epoch,
                };
                self.push_message(&ServerMessage::Skipped(skipped));
            }
            return;
        }
        let event = Event {
            epoch,
            ..delivery.to_event()
        };
        if self.dialect == Dialect::NativeBatch {
            self.separate();
            self.dialect.encode_event(&event, &mut self.text);
        } else {
            self.text.clear();
            self.dialect.encode_event(&event, &mut self.text);
            if self.text.is_empty() {
                return;
            }
            frame::put_text(&self.text, &mut self.frames);
        }
        self.count += 1;
    }

    /// Adds any other message.
    pub(crate) fn push_message(&mut self, message: &ServerMessage) {
        for text in self.dialect.encode(message) {
            if self.dialect == Dialect::NativeBatch {
                self.separate();
                self.text.push_str(&text);
            } else {
                frame::put_text(&text, &mut self.frames);
            }
            self.count += 1;
        }
    }

    /// The frames: in the batch form one, elsewhere one per message.
    pub(crate) fn finish(mut self) -> Bytes {
        if self.dialect == Dialect::NativeBatch {
            match self.count {
                0 => {}
                // The text starts with the bracket of an array that turned out to have one message.
                1 => frame::put_text(&self.text[1..], &mut self.frames),
                _ => {
                    self.text.push(']');
                    frame::put_text(&self.text, &mut self.frames);
                }
            }
        }
        self.frames.freeze()
    }

    fn separate(&mut self) {
        self.text.push(if self.count == 0 { '[' } else { ',' });
    }
}

/// One message as the frames of a dialect; empty where the dialect has no word for it.
pub(crate) fn message(dialect: Dialect, message: &ServerMessage) -> Bytes {
    let mut out = Joiner::new(dialect);
    out.push_message(message);
    out.finish()
}
