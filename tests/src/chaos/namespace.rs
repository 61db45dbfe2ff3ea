//! Two network namespaces with a link that can be cut: a partition as real networks make them.
//!
//! ```text
//!  this machine ── 10.231.1.0/24 ── left:  the first half of the nodes, the first master, one sentinel
//!       └───────── 10.231.2.0/24 ── right: the other nodes, two replicas, two sentinels
//!                  left ── 10.231.3.0/24 ── right, which is what is cut
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use tokio::sync::{Mutex, MutexGuard};

use super::store::Store;
use crate::redis::{Place, RedisConfig, Sentinel};

/// Two network namespaces with a link that can be cut. Removed when this is dropped.
#[derive(Debug)]
pub struct Split {
    left: String,
    right: String,
    /// There is one set of addresses: rows take turns.
    _turn: MutexGuard<'static, ()>,
}

/// Whether this machine lets us make network namespaces, or why not.
///
/// # Errors
/// A sentence about what is missing.
pub fn is_possible() -> Result<(), String> {
    let name = format!("fanfare-look-{}", std::process::id());
    let made = ip(&["netns", "add", &name]);
    if !made {
        return Err("network namespaces need root and the program ip".to_owned());
    }
    let veth = format!("ffl{}", std::process::id() % 100_000);
    let has_veth = ip(&[
        "link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &name,
    ]);
    let _ = ip(&["link", "del", &veth]);
    let has_route = ip(&["-n", &name, "route", "add", "blackhole", "10.231.9.9/32"]);
    let _ = ip(&["netns", "del", &name]);
    match (has_veth, has_route) {
        (true, true) => Ok(()),
        _ => {
            Err("this machine's network namespaces have no veth or no blackhole routes".to_owned())
        }
    }
}

impl Split {
    /// Makes the namespaces and starts a master on the left, two replicas on the right, and three sentinels.
    ///
    /// # Panics
    /// When the machine does not let us.
    pub async fn set(config: RedisConfig) -> (Self, Store) {
        static TURN: Mutex<()> = Mutex::const_new(());
        let split = Self {
            _turn: TURN.lock().await,
            left: format!("ffl-{}", std::process::id()),
            right: format!("ffr-{}", std::process::id()),
        };
        split.make();
        let left = Place {
            namespace: Some((split.left.clone(), LEFT)),
        };
        let right = Place {
            namespace: Some((split.right.clone(), RIGHT)),
        };
        let servers = [left.clone(), right.clone(), right.clone()];
        let sentinels = [left, right.clone(), right];
        let group = Sentinel::start_in(&servers, &sentinels, &config).await;
        (split, Store::Sentinel(group))
    }

    /// Where a node runs, and its address there as this machine sees it: even ones left, odd ones right.
    #[must_use]
    pub fn place(&self, node: usize) -> (String, IpAddr) {
        match node % 2 {
            0 => (self.left.clone(), LEFT),
            _ => (self.right.clone(), RIGHT),
        }
    }

    /// Cuts the link: what is sent disappears.
    pub fn cut(&self) {
        assert!(ip(&[
            "-n",
            &self.left,
            "route",
            "add",
            "blackhole",
            "10.231.2.2/32",
            "metric",
            "1"
        ]));
        assert!(ip(&[
            "-n",
            &self.right,
            "route",
            "add",
            "blackhole",
            "10.231.1.2/32",
            "metric",
            "1"
        ]));
    }

    /// Mends the link.
    pub fn mend(&self) {
        let _ = ip(&[
            "-n",
            &self.left,
            "route",
            "del",
            "blackhole",
            "10.231.2.2/32",
            "metric",
            "1",
        ]);
        let _ = ip(&[
            "-n",
            &self.right,
            "route",
            "del",
            "blackhole",
            "10.231.1.2/32",
            "metric",
            "1",
        ]);
    }

    fn make(&self) {
        let (left, right) = (&self.left, &self.right);
        let id = std::process::id() % 100_000;
        let outer = [format!("ffa{id}"), format!("ffb{id}")];
        let done = |words: &[&str]| assert!(ip(words), "ip {}", words.join(" "));
        for (name, outer, here, there) in [
            (left, &outer[0], "10.231.1.1/24", "10.231.1.2/24"),
            (right, &outer[1], "10.231.2.1/24", "10.231.2.2/24"),
        ] {
            done(&["netns", "add", name]);
            done(&["-n", name, "link", "set", "lo", "up"]);
            done(&[
                "link", "add", outer, "type", "veth", "peer", "name", "outer", "netns", name,
            ]);
            done(&["addr", "add", here, "dev", outer]);
            done(&["link", "set", outer, "up"]);
            done(&["-n", name, "addr", "add", there, "dev", "outer"]);
            done(&["-n", name, "link", "set", "outer", "up"]);
        }
        done(&[
            "-n", left, "link", "add", "inner", "type", "veth", "peer", "name", "inner", "netns",
            right,
        ]);
        for (name, own, other, via) in [
            (left, "10.231.3.1/24", "10.231.2.2/32", "10.231.3.2"),
            (right, "10.231.3.2/24", "10.231.1.2/32", "10.231.3.1"),
        ] {
            done(&["-n", name, "addr", "add", own, "dev", "inner"]);
            done(&["-n", name, "link", "set", "inner", "up"]);
            // With the outer address as the source, answers come back the same way, and are cut with it.
            let source = if name == left {
                "10.231.1.2"
            } else {
                "10.231.2.2"
            };
            done(&[
                "-n", name, "route", "add", other, "via", via, "src", source, "metric", "10",
            ]);
        }
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        for name in [&self.left, &self.right] {
            // The links go with the namespaces.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(words: &[&str]) -> bool {
    let outcome = Command::new("ip")
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    outcome.is_ok_and(|status| status.success())
}

/// The left namespace's address, as this machine and the right one see it.
const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 231, 1, 2));
/// The right namespace's address, as this machine and the left one see it.
const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 231, 2, 2));
