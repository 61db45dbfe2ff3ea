//! What a publisher writes: lines of `<channel> <payload>`.

use std::io;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;

/// Channel and payload of a line without its end.
pub(crate) fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', line)?;
    Some((&line[..space], &line[space + 1..]))
}

/// As [`split`], of text.
pub(crate) fn split_text(line: &str) -> Option<(&str, &str)> {
    line.split_once(' ')
}

/// Accepts one publisher after the other and hands on each line.
///
/// Belongs into a task: on the thread that started the runtime, every message would cost a switch to a worker.
pub(crate) async fn receive<P: Future<Output = ()>>(
    listener: TcpListener,
    publish: impl Fn(String) -> P,
) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = lines.next_line().await? {
            publish(line).await;
        }
    }
}
