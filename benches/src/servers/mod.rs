//! Who is measured. Each server runs in a process of its own and tells on its standard output where it listens.

pub mod axum;
pub mod fanfare;
pub mod limit;
pub(crate) mod lines;

use std::fmt;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use clap::ValueEnum;
use fanfare_server::AcceptLimits;

use crate::dialect::Dialect;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum ServerKind {
    /// The physical limit: a bare epoll loop, one `send` per delivery.
    Limit,
    /// The physical limit with coalescing: the frames of one read in one `send`.
    LimitJoined,
    /// The same with our server's frames: as many bytes as it sends.
    LimitEnvelope,
    /// Our server.
    Fanfare,
    /// Our server, to subscribers that take several messages in one frame.
    FanfareBatch,
    /// Our server with buffers of the kernel's own sizes: what bounding them costs. Only where it is asked for.
    FanfareUnbounded,
    /// axum's `ws` and tokio's broadcast channel, defaults.
    Axum,
}

impl ServerKind {
    /// Every row, in the order of the table and of a turn.
    pub const ALL: [Self; 7] = [
        Self::Limit,
        Self::LimitJoined,
        Self::LimitEnvelope,
        Self::Fanfare,
        Self::FanfareBatch,
        Self::FanfareUnbounded,
        Self::Axum,
    ];

    /// Whether it is measured when nothing is said about who is.
    #[must_use]
    pub fn is_usual(self) -> bool {
        self != Self::FanfareUnbounded
    }

    /// What its subscribers speak.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Limit | Self::LimitJoined | Self::Axum => Dialect::Bare,
            Self::LimitEnvelope => Dialect::BareInEnvelope,
            Self::Fanfare | Self::FanfareUnbounded => Dialect::Fanfare,
            Self::FanfareBatch => Dialect::FanfareBatch,
        }
    }

    /// Its name in tables.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Limit => "limit 0a: bare epoll, one `send` per delivery",
            Self::LimitJoined => "limit 0b: bare epoll, frames of one read joined",
            Self::LimitEnvelope => "limit 0c: as 0b, with the frames of `fanfare.v1`",
            Self::Fanfare => "Fanfare, `fanfare.v1`",
            Self::FanfareBatch => "Fanfare, `fanfare.v1.batch`",
            Self::FanfareUnbounded => "Fanfare, `fanfare.v1`, buffers of the kernel's own sizes",
            Self::Axum => "axum `ws` + tokio broadcast, defaults",
        }
    }

    /// Serves until the process is killed.
    ///
    /// # Errors
    /// When it cannot listen, or its loop fails.
    pub fn serve(self) -> io::Result<()> {
        let listeners = Listeners::bind()?;
        match self {
            Self::Limit => limit::serve(listeners, limit::Sends::Single),
            Self::LimitJoined => limit::serve(listeners, limit::Sends::Joined),
            Self::LimitEnvelope => limit::serve(listeners, limit::Sends::JoinedInEnvelope),
            Self::Fanfare | Self::FanfareBatch => {
                fanfare::serve(listeners, AcceptLimits::default())
            }
            Self::FanfareUnbounded => {
                let mut limits = AcceptLimits::default();
                limits.send_buffer_bytes = None;
                limits.receive_buffer_bytes = None;
                limits.unsent_bytes_max = None;
                fanfare::serve(listeners, limits)
            }
            Self::Axum => axum::serve(listeners),
        }
    }
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// The two sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    /// For WebSocket subscribers.
    pub subscribers: TcpListener,
    /// For the publisher and its lines.
    pub publisher: TcpListener,
}

impl Listeners {
    /// Listens on two free loopback ports.
    ///
    /// # Errors
    /// When there are none.
    pub fn bind() -> io::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listeners = Self {
            subscribers: TcpListener::bind(any)?,
            publisher: TcpListener::bind(any)?,
        };
        // The standard library asks for a backlog of 128; a second call raises it.
        rustix::net::listen(&listeners.subscribers, BACKLOG)?;
        listeners.subscribers.set_nonblocking(true)?;
        listeners.publisher.set_nonblocking(true)?;
        Ok(listeners)
    }

    /// Tells the parent process where to connect.
    ///
    /// # Errors
    /// When nobody listens to that.
    pub fn announce(&self) -> io::Result<()> {
        let (subscribers, publisher) =
            (self.subscribers.local_addr()?, self.publisher.local_addr()?);
        let mut out = io::stdout().lock();
        writeln!(out, "{subscribers} {publisher}")?;
        out.flush()
    }
}

/// 1,024, which is what tokio asks for.
const BACKLOG: i32 = 1_024;
