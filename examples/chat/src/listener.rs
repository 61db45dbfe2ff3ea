//! The port: the one that was asked for, or the usual one, or any.

use std::io;
use std::net::Ipv4Addr;

use tokio::net::TcpListener;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Somebody else listens there.
    #[error("port {port} is taken: choose another one with --port")]
    Taken {
        /// The port that was asked for.
        port: u16,
    },
    /// The system said no.
    #[error("cannot listen on port {port}")]
    Refused {
        /// The port.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Listens on this machine. A port that was asked for is that port or an error; the usual one gives way to a free one.
pub(crate) async fn bind(wanted: Option<u16>) -> Result<TcpListener, BindError> {
    match (wanted, listen(wanted.unwrap_or(USUAL_PORT)).await) {
        (None, Err(BindError::Taken { .. })) => listen(0).await,
        (_, outcome) => outcome,
    }
}

async fn listen(port: u16) -> Result<TcpListener, BindError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken { port },
        _ => BindError::Refused { port, source },
    })
}

const USUAL_PORT: u16 = 8000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_was_asked_for_is_that_port_or_an_error() {
        let first = bind(Some(0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let error = bind(Some(port)).await.unwrap_err();
        let text = format!("port {port} is taken: choose another one with --port");
        assert_eq!(error.to_string(), text);
    }

    #[tokio::test]
    async fn without_a_wish_a_taken_port_is_avoided() {
        // Whoever has the usual port, this test or another program, a second listener gets a different one.
        let first = bind(None).await.unwrap();
        let second = bind(None).await.unwrap();
        assert_ne!(first.local_addr().unwrap(), second.local_addr().unwrap());
        assert_ne!(second.local_addr().unwrap().port(), USUAL_PORT);
    }
}
