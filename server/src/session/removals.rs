//! From which channels the application has removed a connection: what permitted the subscription then does not do so again.

use fanfare_protocol::ChannelName;

/// The channels that the application has removed a connection from, and when.
#[derive(Debug, Default)]
pub(super) struct Removals {
    latest: Vec<(ChannelName, u64)>,
    /// When the latest removal was that is forgotten; it stands for every channel.
    forgotten_ms: Option<u64>,
}

impl Removals {
    pub(super) fn note(&mut self, channel: &ChannelName, unix_ms: u64) {
        self.lift(channel);
        if self.latest.len() == REMOVALS_MAX {
            let (_, oldest_ms) = self.latest.remove(0);
            self.forgotten_ms = Some(oldest_ms);
        }
        self.latest.push((channel.clone(), unix_ms));
    }

    /// The application has let the connection in again.
    pub(super) fn lift(&mut self, channel: &ChannelName) {
        self.latest.retain(|(removed, _)| removed != channel);
    }

    /// The time, in milliseconds since the Unix epoch, up to which a permission for a channel may have been made before the
    /// connection was removed from it.
    pub(super) fn voided_until(&self, channel: &ChannelName) -> Option<u64> {
        let removed = self.latest.iter().find(|(removed, _)| removed == channel);
        removed.map(|&(_, at)| at).or(self.forgotten_ms)
    }
}

/// 1,024: as many channels as some connections have.
const REMOVALS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    #[test]
    fn the_latest_removal_counts_until_it_is_lifted() {
        let mut removals = Removals::default();
        assert_eq!(removals.voided_until(&channel("private-a")), None);
        removals.note(&channel("private-a"), 5);
        removals.note(&channel("private-a"), 7);
        assert_eq!(removals.voided_until(&channel("private-a")), Some(7));
        assert_eq!(removals.voided_until(&channel("private-b")), None);
        removals.lift(&channel("private-a"));
        assert_eq!(removals.voided_until(&channel("private-a")), None);
    }

    #[test]
    fn forgotten_removals_stand_for_every_channel() {
        let mut removals = Removals::default();
        for number in 0..=REMOVALS_MAX as u64 {
            removals.note(&channel(&format!("private-{number}")), number);
        }
        assert_eq!(removals.latest.len(), REMOVALS_MAX);
        assert_eq!(removals.voided_until(&channel("private-0")), Some(0));
        assert_eq!(removals.voided_until(&channel("other")), Some(0));
        assert_eq!(removals.voided_until(&channel("private-9")), Some(9));
    }
}
