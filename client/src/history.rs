//! Pages of a channel's history.

use alloc::vec::Vec;
use fanfare_protocol::{Position, Reply};

use crate::event::Message;

/// Past messages of a channel, oldest first: all that was asked for, or one page of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct History<P> {
    /// The messages, each with its position.
    pub messages: Vec<Message<P>>,
    /// Where the channel stood then: after them, unless there is more.
    pub position: Option<Position>,
    /// There is more after these: where to go on, as the next `since`. `None` when they reach up to `position`.
    pub next: Option<Position>,
}

impl<P> History<P> {
    /// What a reply to `history` says; `None` where it is the reply to something else.
    #[must_use]
    pub fn of(reply: Reply<P>) -> Option<Self> {
        let position = reply.position;
        // The first is of the epoch that the reply ends in, unless it says another.
        let mut epoch = position.map(|position| position.epoch);
        let messages = reply.events?.into_iter().map(|event| {
            epoch = event.epoch.or(epoch);
            let place = epoch.zip(event.offset);
            Message {
                channel: event.channel,
                event: event.event,
                data: event.data,
                position: place.map(|(epoch, offset)| Position {
                    epoch,
                    offset,
                    tag: event.tag.unwrap_or_default(),
                }),
                user_id: event.user_id,
                event_id: event.event_id,
                recovered: true,
            }
        });
        let messages: Vec<_> = messages.collect();
        let last = messages.last().and_then(|message| message.position);
        let next = last.zip(position).filter(|(last, position)| {
            last.epoch == position.epoch && last.offset < position.offset
        });
        Some(Self {
            messages,
            position,
            next: next.map(|(last, _)| last),
        })
    }
}

#[cfg(test)]
mod tests {
    use fanfare_protocol::json::decode_messages;
    use fanfare_protocol::{RawJson, Reply, ServerMessage};

    use super::History;

    fn reply(text: &str) -> Reply<RawJson> {
        match decode_messages(text).remove(0) {
            Ok(ServerMessage::Ok(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn offsets(history: &History<RawJson>) -> Vec<u64> {
        let positions = history.messages.iter().map(|message| message.position);
        positions.map(|position| position.unwrap().offset).collect()
    }

    #[test]
    fn an_answer_that_was_cut_says_where_to_go_on() {
        let history = History::of(reply(
            r#"{"type":"ok","id":1,"channel":"c","events":[
                {"event":"e","data":1,"offset":3,"tag":"a3"},{"event":"e","data":2,"offset":4,"tag":"a4"}
            ],"position":{"epoch":"5f3a","offset":9,"tag":"a9"}}"#,
        ))
        .unwrap();
        assert_eq!(offsets(&history), [3, 4]);
        let next = history.next.unwrap();
        assert_eq!(Some(next), history.messages[1].position);
        assert_eq!(next.epoch, history.position.unwrap().epoch);
        assert_eq!((next.offset, next.tag), (4, "a4".parse().unwrap()));
    }

    #[test]
    fn the_last_page_and_an_empty_one_end_it() {
        for text in [
            r#"{"type":"ok","id":1,"channel":"c","events":[{"event":"e","data":1,"offset":9,"tag":"a9"}],"position":{"epoch":"5f3a","offset":9,"tag":"a9"}}"#,
            r#"{"type":"ok","id":1,"events":[],"position":{"epoch":"5f3a","offset":9,"tag":"a9"}}"#,
        ] {
            assert_eq!(History::of(reply(text)).unwrap().next, None);
        }
        assert_eq!(History::of(reply(r#"{"type":"ok","id":1}"#)), None);
    }
}
