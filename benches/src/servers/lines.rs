//! What a publisher writes: lines of `<channel> <payload>`.

use std::io;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;

/// Channel and payload of a line without its end.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', line)?;
    Some((&line[..space], &line[space + 1..]))
}

/// Accepts one publisher after the other and hands on each message.
pub(super) async fn receive(
    listener: TcpListener,
    mut publish: impl AsyncFnMut(&str, &str),
) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = lines.next_line().await? {
            if let Some((channel, payload)) = line.split_once(' ') {
                publish(channel, payload).await;
            }
        }
    }
}
