//! The server's frame layer behind an echo, for Autobahn's fuzzing client: `cargo xtask autobahn` starts it.
//!
//! What a session makes of frames is left out, limits included: the suite sends messages of 16 MiB in thousands of fragments.

use std::io;

use fanfare_server::frames::{self, Frames, Received};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // The client ends many connections in the middle: that is what it is for.
            let _ = echo(stream).await;
        });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut frames = Frames::new(BYTES_MAX, u32::MAX);
    frames.push(&shake_hands(&mut stream).await?);
    let mut buffer = vec![0; 64 << 10];
    loop {
        loop {
            let answer = match frames.receive() {
                Ok(None) => break,
                Ok(Some(Received::Part)) => continue,
                Ok(Some(Received::Text(text))) => frames::text(&text),
                Ok(Some(Received::Binary(bytes))) => frames::binary(&bytes),
                Ok(Some(Received::Ping(payload))) => frames::pong(&payload),
                Ok(Some(Received::Close(code))) => return end(stream, &frames::close(code)).await,
                Err(close) => return end(stream, &close).await,
            };
            stream.write_all(&answer).await?;
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => frames.push(&buffer[..count]),
        }
    }
}

/// Writes the last frame, and lets the peer read it before the connection ends.
async fn end(mut stream: TcpStream, close: &[u8]) -> io::Result<()> {
    stream.write_all(close).await?;
    stream.shutdown().await?;
    while stream.read(&mut [0; 4_096]).await? > 0 {}
    Ok(())
}

/// Answers the handshake; returns what came behind it.
async fn shake_hands(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let early = head.split_off(end);
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then(|| value.trim())
    });
    let key = key.ok_or_else(|| io::Error::other("the handshake has no key"))?;
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(early)
}

/// 64 MiB: four times the largest message of the suite.
const BYTES_MAX: usize = 64 << 20;
