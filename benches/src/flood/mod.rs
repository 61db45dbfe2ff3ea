//! The other benchmark of one connection: what it can do to the others by sending without end.

pub mod peer;
pub mod report;
pub mod server;
pub mod witness;

use std::fmt;

use clap::ValueEnum;

/// What a peer sends without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Flood {
    /// Nothing: what the figures are without a flood.
    None,
    /// Empty pings; the pongs are read.
    Pings,
    /// Empty pongs.
    Pongs,
    /// Empty fragments of one message after the other.
    Fragments,
    /// Text messages of two bytes; what is answered is read.
    Texts,
    /// HTTP requests without waiting for the answers, which are read.
    Requests,
    /// HTTP requests for a large answer, of which the beginning is read.
    HalfRead,
}

impl Flood {
    /// How the report calls it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pings => "pings, pongs read",
            Self::Pongs => "pongs",
            Self::Fragments => "empty fragments",
            Self::Texts => "texts of two bytes",
            Self::Requests => "pipelined requests",
            Self::HalfRead => "answers half read",
        }
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}
