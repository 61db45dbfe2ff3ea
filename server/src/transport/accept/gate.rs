//! Who still gets in: how many connections there are, in all and per address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections against two caps.
pub(super) struct Gate {
    connections_max: usize,
    per_address_max: Option<usize>,
    exempts_private: bool,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    per_address: HashMap<IpAddr, usize>,
}

/// Which cap is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("the server has as many connections as it may")]
    Server,
    #[error("this address has as many connections as it may")]
    Address,
}

impl Gate {
    pub(super) fn new(
        connections_max: usize,
        per_address_max: Option<usize>,
        exempts_private: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            connections_max,
            per_address_max,
            exempts_private,
            counts: Mutex::default(),
        })
    }

    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionPermit, Full> {
        let peer = peer.to_canonical();
        let address_max = self.per_address_max.filter(|_| !self.exempts(peer));
        let mut counts = self.counts();
        if counts.all >= self.connections_max {
            return Err(Full::Server);
        }
        let address = address_max.map(|_| network(peer));
        if let (Some(max), Some(address)) = (address_max, address) {
            let count = counts.per_address.get(&address).copied().unwrap_or(0);
            if count >= max {
                return Err(Full::Address);
            }
            counts.per_address.insert(address, count + 1);
        }
        counts.all += 1;
        drop(counts);
        Ok(ConnectionPermit {
            gate: Arc::clone(self),
            address,
        })
    }

    /// Whether an address is let off what holds for each of them.
    pub(super) fn exempts(&self, peer: IpAddr) -> bool {
        self.exempts_private && is_private(peer.to_canonical())
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to be connected, given back when dropped; it has to live as long as the socket.
#[must_use]
pub(crate) struct ConnectionPermit {
    gate: Arc<Gate>,
    address: Option<IpAddr>,
}

impl ConnectionPermit {
    /// The address that the connection of a request counts for: for IPv6 its /64 network. None where addresses are not counted.
    pub(crate) fn address_of(extensions: &http::Extensions) -> Option<IpAddr> {
        extensions.get::<Arc<Self>>()?.address
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.gate.counts();
        counts.all -= 1;
        let Some(address) = self.address else {
            return;
        };
        if let Some(count) = counts.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.per_address.remove(&address);
            }
        }
    }
}

impl std::fmt::Debug for ConnectionPermit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectionPermit")
    }
}

/// What counts as one address: for IPv6 the /64 network, which one subscriber has to itself.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Whether only the same machine or network can have this address (RFC 1918, RFC 4193, link-local).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_private() || address.is_link_local()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_permit_counts_until_it_is_dropped() {
        let gate = Gate::new(3, Some(2), true);
        let (a, b) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = gate.admit(a).unwrap();
        let second = gate.admit(a).unwrap();
        assert_eq!(gate.admit(a).unwrap_err(), Full::Address);
        let third = gate.admit(b).unwrap();
        assert_eq!(gate.admit(b).unwrap_err(), Full::Server);
        drop(first);
        let again = gate.admit(a).unwrap();
        assert_eq!(gate.admit(address("192.0.2.3")).unwrap_err(), Full::Server);
        drop((second, third, again));
        assert_eq!(gate.counts().all, 0);
        assert!(gate.counts().per_address.is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let rows = [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ];
        for (peer, counted) in rows {
            assert_eq!(network(address(peer)), address(counted), "{peer}");
        }
        let gate = Gate::new(9, Some(1), true);
        let _mapped = gate.admit(address("::ffff:192.0.2.1")).unwrap();
        assert_eq!(gate.admit(address("192.0.2.1")).unwrap_err(), Full::Address);
    }

    #[test]
    fn private_addresses_are_let_off_on_request() {
        let private = [
            "127.0.0.1",
            "127.8.8.8",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ];
        for peer in private {
            let gate = Gate::new(9, Some(1), true);
            let _held = gate.admit(address(peer)).unwrap();
            assert!(gate.admit(address(peer)).is_ok(), "{peer}");
            let strict = Gate::new(9, Some(1), false);
            let _held = strict.admit(address(peer)).unwrap();
            assert_eq!(
                strict.admit(address(peer)).unwrap_err(),
                Full::Address,
                "{peer}"
            );
        }
        for peer in [
            "8.8.8.8",
            "172.32.0.1",
            "100.64.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            let gate = Gate::new(9, Some(1), true);
            let _held = gate.admit(address(peer)).unwrap();
            assert_eq!(
                gate.admit(address(peer)).unwrap_err(),
                Full::Address,
                "{peer}"
            );
        }
    }

    #[test]
    fn an_uncapped_gate_counts_the_whole_only() {
        let gate = Gate::new(2, None, false);
        let permits = [
            gate.admit(address("192.0.2.1")),
            gate.admit(address("192.0.2.1")),
        ];
        assert!(permits.iter().all(Result::is_ok));
        assert_eq!(gate.admit(address("192.0.2.1")).unwrap_err(), Full::Server);
    }
}
