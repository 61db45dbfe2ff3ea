//! One WebSocket: frames wait here until the peer takes them, and reading goes on meanwhile.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use fanfare_protocol::{Code, SUBPROTOCOL, SUBPROTOCOL_BATCH};
use futures_util::{Sink, SinkExt, StreamExt};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// An open WebSocket and the frames it has not taken yet.
pub(super) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    outbox: VecDeque<Message>,
    needs_flush: bool,
}

/// What the peer did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Text(Utf8Bytes),
    /// A binary frame, which this protocol has no use for.
    Binary,
    Closed {
        code: u16,
        reason: String,
    },
}

/// The handshake of every connection.
pub(super) fn request(url: &str, headers: &HeaderMap) -> Result<Request<()>, tungstenite::Error> {
    let mut request = url.into_client_request()?;
    request.headers_mut().extend(headers.clone());
    let offered = HeaderValue::try_from(format!("{SUBPROTOCOL_BATCH}, {SUBPROTOCOL}"));
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, offered.map_err(http::Error::from)?);
    Ok(request)
}

impl Socket {
    /// Opens a connection.
    ///
    /// # Errors
    /// As a close code and a reason: 4003 when the server answered 401 or 403, else 1006.
    pub(super) async fn open(
        request: Request<()>,
        frame_bytes_max: usize,
    ) -> Result<Self, (u16, String)> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(frame_bytes_max))
            .max_frame_size(Some(frame_bytes_max));
        match connect_async_with_config(request, Some(config), true).await {
            Ok((stream, _)) => Ok(Self {
                stream,
                outbox: VecDeque::new(),
                needs_flush: false,
            }),
            Err(error) => Err(refusal(&error)),
        }
    }

    pub(super) fn queue(&mut self, text: String) {
        self.outbox.push_back(Message::text(text));
    }

    /// Writes what can be written and reads one message. Nothing is lost when the caller stops polling.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        for _ in 0..CONTROL_FRAMES_AT_ONCE {
            if let Err(error) = self.poll_write(cx) {
                return Poll::Ready(broken(&error));
            }
            match self.stream.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(Message::Text(text)))) => {
                    return Poll::Ready(Received::Text(text));
                }
                Poll::Ready(Some(Ok(Message::Binary(_)))) => return Poll::Ready(Received::Binary),
                Poll::Ready(Some(Ok(Message::Close(frame)))) => return Poll::Ready(closed(frame)),
                // The answer to a ping is written by the next flush.
                Poll::Ready(Some(Ok(_))) => self.needs_flush = true,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(broken(&error)),
                Poll::Ready(None) => return Poll::Ready(closed(None)),
            }
        }
        // More of them may be there: other tasks first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Says goodbye: what is queued, then the close code; a peer that does not read gets [`CLOSE_WAIT`].
    pub(super) async fn close(mut self, code: u16, reason: &'static str) {
        let goodbye = async {
            for message in std::mem::take(&mut self.outbox) {
                self.stream.feed(message).await?;
            }
            let frame = CloseFrame {
                code: CloseCode::from(code),
                reason: Utf8Bytes::from_static(reason),
            };
            self.stream.close(Some(frame)).await?;
            while let Some(message) = self.stream.next().await {
                message?;
                // One read may bring tens of thousands of frames, and the deadline is looked at between polls.
                tokio::task::coop::consume_budget().await;
            }
            Ok::<_, tungstenite::Error>(())
        };
        // The connection ends either way, and nobody waits for it.
        let _ = tokio::time::timeout(CLOSE_WAIT, goodbye).await;
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), tungstenite::Error> {
        let mut stream = std::pin::Pin::new(&mut self.stream);
        while !self.outbox.is_empty() {
            match stream.as_mut().poll_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Ok(()),
            }
            if let Some(message) = self.outbox.pop_front() {
                stream.as_mut().start_send(message)?;
                self.needs_flush = true;
            }
        }
        if self.needs_flush
            && let Poll::Ready(flushed) = stream.as_mut().poll_flush(cx)
        {
            flushed?;
            self.needs_flush = false;
        }
        Ok(())
    }
}

fn closed(frame: Option<CloseFrame>) -> Received {
    let (code, reason) = match frame {
        Some(frame) => (frame.code.into(), frame.reason.as_str().to_owned()),
        None => (ABNORMAL, String::new()),
    };
    Received::Closed { code, reason }
}

fn broken(error: &tungstenite::Error) -> Received {
    Received::Closed {
        code: ABNORMAL,
        reason: error.to_string(),
    }
}

fn refusal(error: &tungstenite::Error) -> (u16, String) {
    let code = match error {
        tungstenite::Error::Http(response)
            if matches!(
                response.status(),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
            ) =>
        {
            Code::CREDENTIALS_REFUSED.number()
        }
        _ => ABNORMAL,
    };
    (code, error.to_string())
}

/// RFC 6455 7.1.5: no close frame was received.
const ABNORMAL: u16 = 1006;

/// 32: pings and pongs that one turn takes.
const CONTROL_FRAMES_AT_ONCE: usize = 32;

/// 2 s: long enough for a round trip to anywhere.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
