//! The rooms, their channels, and who may enter.

use std::time::Duration;

use fanfare_server::auth::{Caller, Denied, Grant};
use fanfare_server::protocol::{ChannelName, EventName};
use fanfare_server::{ChannelRule, ChannelRules};
use serde::{Deserialize, Serialize};

/// The channel of the numbered messages that come once a second.
pub(crate) const TICKER: &str = "ticker";
/// The only event that pages publish themselves.
pub(crate) const TYPING: &str = "typing";

/// What somebody works on; each team has a room of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Team {
    /// They draw.
    Design,
    /// They build.
    Engineering,
}

/// A place to talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Its id, in paths and channel names.
    pub(crate) id: &'static str,
    /// Its name on the page.
    pub(crate) title: &'static str,
    /// What it is for.
    pub(crate) about: &'static str,
    /// The one team that may enter; everybody when there is none.
    pub(crate) team: Option<Team>,
}

/// All rooms, in the order of the page.
pub(crate) const ROOMS: [Room; 5] = [
    Room {
        id: "lobby",
        title: "Lobby",
        about: "Say hello. Everybody ends up here.",
        team: None,
    },
    Room {
        id: "launch",
        title: "Launch day",
        about: "Countdowns, green lights and crossed fingers.",
        team: None,
    },
    Room {
        id: "coffee",
        title: "Coffee corner",
        about: "Nothing about work.",
        team: None,
    },
    Room {
        id: "design",
        title: "Design",
        about: "Only the design team can read this.",
        team: Some(Team::Design),
    },
    Room {
        id: "engineering",
        title: "Engineering",
        about: "Only the engineering team can read this.",
        team: Some(Team::Engineering),
    },
];

impl Room {
    /// The room with this id.
    pub(crate) fn of(id: &str) -> Option<&'static Self> {
        ROOMS.iter().find(|room| room.id == id)
    }

    /// The channel of its messages. Rooms for everybody show who is there, rooms of a team are private.
    pub(crate) fn channel(&self) -> String {
        match self.team {
            None => format!("{OPEN_PREFIX}{}", self.id),
            Some(_) => format!("{TEAM_PREFIX}{}", self.id),
        }
    }

    /// The channel where pages say that somebody is typing: live only, so that nothing of it is kept or recovered.
    pub(crate) fn typing_channel(&self) -> String {
        format!("{TYPING_PREFIX}{}", self.id)
    }

    /// Whether a member of a team may enter.
    pub(crate) fn admits(&self, team: Team) -> bool {
        self.team.is_none_or(|only| only == team)
    }

    fn of_channel(channel: &str) -> Option<&'static Self> {
        ROOMS
            .iter()
            .find(|room| room.channel() == channel || room.typing_channel() == channel)
    }
}

/// What only this application knows about a connection's user; it never leaves the server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The user's team.
    pub(crate) team: Team,
}

/// What channels keep: enough for a page that was away to catch up, and nothing of who was typing.
pub(crate) fn rules() -> ChannelRules {
    let hour = Duration::from_secs(3_600);
    let messages = ChannelRule::default().with_history(500, hour);
    let typing = ChannelRule::default().with_client_publish();
    ChannelRules::new()
        .with(OPEN_PREFIX, messages.clone())
        .with(TEAM_PREFIX, messages.clone())
        .with(TYPING_PREFIX, typing)
        .with("user:", ChannelRule::default().with_history(50, hour))
        .with(TICKER, messages)
}

/// Who may subscribe: everybody who is signed in to open rooms and the ticker, a team to its room, nobody to anything else.
pub(crate) fn may_subscribe(caller: &Caller, channel: &ChannelName) -> Result<Grant, Denied> {
    caller.user()?;
    if channel.as_str() == TICKER {
        return Ok(Grant::default());
    }
    let room = Room::of_channel(channel.as_str());
    let room = room.ok_or_else(|| Denied::refused("there is no such room"))?;
    if room.admits(team_of(caller)?) {
        Ok(Grant::default())
    } else {
        let reason = format!("{} is for its team alone", room.title);
        Err(Denied::refused(reason))
    }
}

/// What pages may publish where the rule of a channel lets them.
pub(crate) fn may_publish(caller: &Caller, event: &EventName) -> Result<(), Denied> {
    caller.user()?;
    if event.as_str() == TYPING {
        Ok(())
    } else {
        Err(Denied::refused("messages go through the HTTP API"))
    }
}

fn team_of(caller: &Caller) -> Result<Team, Denied> {
    let claims = caller
        .identity
        .as_ref()
        .and_then(|identity| identity.claims.as_ref())
        .and_then(|claims| serde_json::from_str::<Claims>(claims.as_str()).ok());
    claims
        .map(|claims| claims.team)
        .ok_or_else(|| Denied::refused("nobody knows your team"))
}

const OPEN_PREFIX: &str = "presence-room.";
const TEAM_PREFIX: &str = "private-team.";
const TYPING_PREFIX: &str = "private-typing.";

#[cfg(test)]
mod tests {
    use fanfare_server::auth::Identity;
    use fanfare_server::protocol::{RawJson, SocketId, UserId};

    use super::*;

    fn caller(team: Option<Team>) -> Caller {
        let identity = team.map(|team| {
            let claims = RawJson::encode(&Claims { team }).unwrap();
            Identity::new(UserId::new("ann").unwrap()).with_claims(claims)
        });
        Caller::new(SocketId::from_bits(1), identity)
    }

    #[test]
    fn teams_keep_to_their_rooms() {
        let (design, engineering) = (Some(Team::Design), Some(Team::Engineering));
        let rows = [
            (design, "presence-room.lobby", true),
            (engineering, "presence-room.lobby", true),
            (None, "presence-room.lobby", false),
            (design, "ticker", true),
            (None, "ticker", false),
            (design, "private-team.design", true),
            (engineering, "private-team.design", false),
            (engineering, "private-team.engineering", true),
            (design, "private-typing.design", true),
            (engineering, "private-typing.design", false),
            // A room is its own channel: an open one cannot be entered by the name of another kind.
            (design, "private-team.lobby", false),
            (engineering, "presence-room.design", false),
            (design, "presence-room.", false),
            (design, "anything", false),
        ];
        for (team, channel, expect) in rows {
            let name = ChannelName::new(channel).unwrap();
            let answer = may_subscribe(&caller(team), &name);
            assert_eq!(answer.is_ok(), expect, "{team:?} {channel}: {answer:?}");
        }
    }

    #[test]
    fn pages_publish_that_somebody_types_and_nothing_else() {
        let event = |name| EventName::new(name).unwrap();
        let ann = caller(Some(Team::Design));
        assert_eq!(may_publish(&ann, &event("typing")), Ok(()));
        assert!(may_publish(&ann, &event("message")).is_err());
        assert!(may_publish(&caller(None), &event("typing")).is_err());

        let channels = rules();
        for room in ROOMS {
            let rule = |name: String| channels.of(&ChannelName::new(&name).unwrap()).clone();
            assert!(rule(room.typing_channel()).client_publish);
            assert_eq!(rule(room.typing_channel()).history_size, 0);
            assert!(!rule(room.channel()).client_publish);
            assert!(rule(room.channel()).history_size > 0);
        }
    }
}
