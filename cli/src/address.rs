//! Addresses to listen on as text: `0.0.0.0:8000`, `localhost:8000`, `8000`.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _};

/// Parses `127.0.0.1:8000`, `[::1]:8000`, a port alone (on 127.0.0.1), or a name and a port.
///
/// # Errors
/// A sentence with the expected form.
pub(crate) fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(port) = text.trim_start_matches(':').parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let expected = "expected an address and a port such as 0.0.0.0:8000, or a port alone";
    if !text.contains(':') {
        return Err(expected.to_owned());
    }
    let found = text.to_socket_addrs();
    let found: Vec<SocketAddr> = found
        .map_err(|error| format!("{expected}: {error}"))?
        .collect();
    // A name such as localhost may resolve to IPv6 and IPv4; more clients reach IPv4.
    let first = found.iter().find(|address| address.is_ipv4());
    first
        .or_else(|| found.first())
        .copied()
        .ok_or_else(|| format!("{expected}: the name has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(parse(text).unwrap().to_string(), expected, "{text}");
    }

    #[test]
    fn addresses_ports_and_names() {
        check("0.0.0.0:8000", "0.0.0.0:8000");
        check("[::1]:8000", "[::1]:8000");
        check("8000", "127.0.0.1:8000");
        check(":8000", "127.0.0.1:8000");
        check("localhost:8000", "127.0.0.1:8000");
    }

    #[test]
    fn errors_name_the_form() {
        for text in ["", "localhost", "70000", "localhost:http!", "127.0.0.1"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("such as 0.0.0.0:8000"), "{text}: {error}");
        }
    }
}
