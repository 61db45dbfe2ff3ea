//! Dialects: the wire formats spoken on a connection. A closed list, because we own all of them.

use fanfare_protocol::json::{self, DecodeError};
use fanfare_protocol::{
    Event, Request, SUBPROTOCOL, SUBPROTOCOL_APP_EVENTS, SUBPROTOCOL_BATCH, ServerMessage,
    app_events,
};

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    /// `fanfare.v1`: one message per frame.
    Native,
    /// `fanfare.v1.batch`: a frame may be an array of messages.
    NativeBatch,
    /// `app-events.v1`.
    AppEvents,
}

impl Dialect {
    /// How many there are.
    pub(crate) const COUNT: usize = 3;

    /// Every dialect, in index order.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Native, Self::NativeBatch, Self::AppEvents];

    /// Its place in [`Dialect::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Its WebSocket subprotocol.
    pub(crate) const fn subprotocol(self) -> &'static str {
        match self {
            Self::Native => SUBPROTOCOL,
            Self::NativeBatch => SUBPROTOCOL_BATCH,
            Self::AppEvents => SUBPROTOCOL_APP_EVENTS,
        }
    }

    /// The dialect of a list of offered subprotocols: the first one we speak. Batch wins over plain, whatever the order,
    /// because it is the same dialect with fewer frames.
    ///
    /// Answers `None` when something is offered and nothing of it is spoken here.
    pub(crate) fn negotiate<'a>(offered: impl Iterator<Item = &'a str>) -> Option<Negotiated> {
        let mut chosen: Option<Self> = None;
        let mut is_anything_offered = false;
        for name in offered {
            is_anything_offered = true;
            let spoken = Self::ALL
                .into_iter()
                .find(|dialect| dialect.subprotocol() == name);
            chosen = match (chosen, spoken) {
                (None, spoken) => spoken,
                (Some(Self::Native), Some(Self::NativeBatch)) => Some(Self::NativeBatch),
                (chosen, _) => chosen,
            };
        }
        match chosen {
            Some(dialect) => Some(Negotiated {
                dialect,
                is_named: true,
            }),
            None if is_anything_offered => None,
            None => Some(Negotiated {
                dialect: Self::Native,
                is_named: false,
            }),
        }
    }

    /// Reads one command.
    pub(crate) fn decode(self, text: &str) -> Result<Request, DecodeError> {
        match self {
            Self::Native | Self::NativeBatch => json::decode_request(text),
            Self::AppEvents => app_events::decode_request(text),
        }
    }

    /// Writes one message: no text where the dialect has no word for it, several where it has no list.
    pub(crate) fn encode(self, message: &ServerMessage) -> Vec<String> {
        match self {
            Self::Native | Self::NativeBatch => vec![json::encode_message(message)],
            Self::AppEvents => app_events::encode_message(message),
        }
    }

    /// Appends one event, or nothing where the dialect does not show it.
    pub(crate) fn encode_event(self, event: &Event, out: &mut String) {
        match self {
            Self::Native | Self::NativeBatch => json::encode_event(event, out),
            Self::AppEvents => app_events::encode_event(event, out),
        }
    }
}

/// The outcome of a negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// What will be spoken.
    pub(crate) dialect: Dialect,
    /// Whether the client named it, so that the answer must too.
    pub(crate) is_named: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(offered: &[&str], expect: Option<(Dialect, bool)>) {
        let negotiated = Dialect::negotiate(offered.iter().copied());
        assert_eq!(
            negotiated.map(|found| (found.dialect, found.is_named)),
            expect,
            "{offered:?}"
        );
    }

    #[test]
    fn the_first_spoken_dialect_wins_and_batch_beats_plain() {
        check(&[], Some((Dialect::Native, false)));
        check(&["fanfare.v1"], Some((Dialect::Native, true)));
        check(
            &["fanfare.v1", "fanfare.v1.batch"],
            Some((Dialect::NativeBatch, true)),
        );
        check(
            &["fanfare.v1.batch", "fanfare.v1"],
            Some((Dialect::NativeBatch, true)),
        );
        check(
            &["app-events.v1", "fanfare.v1"],
            Some((Dialect::AppEvents, true)),
        );
        check(&["chat", "fanfare.v1"], Some((Dialect::Native, true)));
        check(&["chat"], None);
    }
}
