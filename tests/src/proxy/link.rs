//! What both proxies do: take connections, and pass on what runs through one of them.

use std::io;

use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::conditions::{self, Conditions, Line};

/// Hands over every connection until it is told to stop.
pub(super) async fn accept(
    listener: TcpListener,
    stop: CancellationToken,
    mut take: impl FnMut(TcpStream),
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((near, _)) = accepted {
            take(near);
        }
    }
}

/// Ends a connection as nobody does who means to: the other side learns no more than that this one is gone.
pub(super) fn reset(stream: &TcpStream) {
    // It is closed, one way or the other.
    let _ = stream.set_zero_linger();
}

/// Passes on what `up` and `down` read and send until both directions have ended. Where it is cut, or one of them fails, both
/// connections are reset.
pub(super) async fn run<Up, Down>(
    [near, far]: [TcpStream; 2],
    cut: &CancellationToken,
    conditions: &watch::Sender<Conditions>,
    [up_seed, down_seed]: [u64; 2],
    up: impl FnOnce(OwnedReadHalf, Line) -> Up,
    down: impl FnOnce(OwnedReadHalf, Line) -> Down,
) where
    Up: Future<Output = io::Result<()>>,
    Down: Future<Output = io::Result<()>>,
{
    // Failing to switch delays off only makes a test slower.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, mut near_write) = near.into_split();
    let (far_read, mut far_write) = far.into_split();
    let (up_line, up_pieces) = conditions::line(conditions.subscribe(), up_seed);
    let (down_line, down_pieces) = conditions::line(conditions.subscribe(), down_seed);
    let ended = {
        let (up, down) = (up(near_read, up_line), down(far_read, down_line));
        let up_out = conditions::write(up_pieces, conditions.subscribe(), &mut far_write);
        let down_out = conditions::write(down_pieces, conditions.subscribe(), &mut near_write);
        tokio::select! {
            () = cut.cancelled() => None,
            ended = async { tokio::try_join!(up, down, up_out, down_out) } => ended.ok(),
        }
    };
    if ended.is_none() {
        for half in [near_write, far_write] {
            reset(half.as_ref());
            // Dropped, it would say goodbye first.
            half.forget();
        }
    }
}
