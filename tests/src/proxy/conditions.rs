//! What a line does to bytes without losing any: late, in slices, slowly.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How bad a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Every piece is late by a random time up to this.
    pub latency_max: Duration,
    /// The most bytes that are written at once; no limit when absent.
    pub slice_bytes: Option<usize>,
    /// The most bytes in a second; no limit when absent.
    pub bytes_per_second: Option<u32>,
}

/// A piece on its way, and when it arrives.
pub(super) struct Piece {
    due: Instant,
    bytes: Vec<u8>,
}

/// The sending end of a line.
pub(super) struct Line {
    pieces: mpsc::Sender<Piece>,
    conditions: watch::Receiver<Conditions>,
    random: fastrand::Rng,
    last_due: Instant,
}

/// A line and the pieces that come out of it.
pub(super) fn line(
    conditions: watch::Receiver<Conditions>,
    seed: u64,
) -> (Line, mpsc::Receiver<Piece>) {
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    let line = Line {
        pieces,
        conditions,
        random: fastrand::Rng::with_seed(seed),
        last_due: Instant::now(),
    };
    (line, received)
}

impl Line {
    /// Sends bytes on their way; waits while the line is full.
    pub(super) async fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let latency_max = self.conditions.borrow().latency_max;
        if latency_max.is_zero() {
            // A line that is not late holds nothing back: a reader that is slow is felt at once.
            let room = self.pieces.reserve_many(PIECES_MAX - 1).await;
            drop(room.map_err(|_| io::ErrorKind::BrokenPipe)?);
        }
        let latency = latency_max.mul_f64(self.random.f64());
        // TCP does not reorder: nothing overtakes.
        self.last_due = self.last_due.max(Instant::now() + latency);
        let piece = Piece {
            due: self.last_due,
            bytes,
        };
        let sent = self.pieces.send(piece).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Writes what comes out of a line until it ends.
pub(super) async fn write(
    mut pieces: mpsc::Receiver<Piece>,
    conditions: watch::Receiver<Conditions>,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(Piece { due, bytes }) = pieces.recv().await {
        tokio::time::sleep_until(due).await;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let now = *conditions.borrow();
            let length = now.slice_bytes.unwrap_or(rest.len()).clamp(1, rest.len());
            let (slice, later) = rest.split_at(length);
            to.write_all(slice).await?;
            rest = later;
            if now.slice_bytes.is_some() {
                // Otherwise the slices would be put together again.
                to.flush().await?;
                tokio::task::yield_now().await;
            }
            if let Some(rate) = now.bytes_per_second {
                let taken = f64::from(u32::try_from(length).unwrap_or(u32::MAX));
                let pause = Duration::from_secs_f64(taken / f64::from(rate.max(1)));
                tokio::time::sleep(pause).await;
            }
        }
    }
    to.shutdown().await
}

/// 64: a line that is late holds this many pieces, then the sender waits.
const PIECES_MAX: usize = 64;
