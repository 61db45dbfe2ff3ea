//! Random commands and messages, with every field at its limits.
//!
//! Every strategy is boxed: one inside the other they are too large for a test's stack.

use fanfare_protocol::position::OFFSET_MAX;
use fanfare_protocol::{
    ChannelName, Command, Connected, ConnectionLimits, Disconnect, Epoch, ErrorMessage, Event,
    EventName, Gap, IdempotencyKey, Member, Position, Presence, RawJson, Reply, Request, Reset,
    ServerMessage, Skipped, SocketId, Subscribe, SubscriptionError, SubscriptionSucceeded, Tag,
    Unsubscribed, UserId,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

/// Text of any characters, control characters and quotes more often than chance has it.
pub(crate) fn any_text() -> BoxedStrategy<String> {
    let character = prop_oneof![
        4 => any::<char>(),
        1 => proptest::char::range('\0', '\u{9f}'),
        1 => proptest::sample::select(vec!['"', '\\', '/', '\u{2028}', '\u{10ffff}', '\u{feff}']),
    ];
    vec(character, 0..24).prop_map(String::from_iter).boxed()
}

/// Whole numbers that every side can count with, often the smallest and the largest.
fn number() -> BoxedStrategy<u64> {
    prop_oneof![
        1 => Just(0),
        1 => Just(OFFSET_MAX),
        1 => (0..=64u32).prop_map(|bits| (1u64.checked_shl(bits).unwrap_or(0)).saturating_sub(1).min(OFFSET_MAX)),
        2 => 0..=OFFSET_MAX,
    ].boxed()
}

fn hexadecimal() -> BoxedStrategy<u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..=255u64, any::<u64>()].boxed()
}

/// JSON of any kind, compact or spread over lines.
pub(crate) fn payload() -> BoxedStrategy<RawJson> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<i32>().prop_map(|eighths| serde_json::Value::from(f64::from(eighths) / 8.0)),
        any_text().prop_map(serde_json::Value::from),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            vec((any_text(), inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    });
    (value, any::<bool>())
        .prop_map(|(value, is_spread)| {
            RawJson::trusted(if is_spread {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            })
        })
        .boxed()
}

pub(crate) fn channel() -> BoxedStrategy<ChannelName> {
    "[A-Za-z0-9_=@,.;:-]{1,200}"
        .prop_map(|text| ChannelName::new(&text).unwrap())
        .boxed()
}

fn event_name() -> BoxedStrategy<EventName> {
    "[ -~]{1,200}"
        .prop_map(|text| EventName::new(&text).unwrap())
        .boxed()
}

fn key() -> BoxedStrategy<IdempotencyKey> {
    "[ -~]{1,128}"
        .prop_map(|text| IdempotencyKey::new(&text).unwrap())
        .boxed()
}

pub(crate) fn user_id() -> BoxedStrategy<UserId> {
    prop_oneof!["[a-z0-9|=@.-]{1,60}", "\\PC{1,12}"]
        .prop_filter_map("no user id", |text: String| UserId::new(&text).ok())
        .boxed()
}

fn position() -> BoxedStrategy<Position> {
    (hexadecimal(), number(), hexadecimal())
        .prop_map(|(epoch, offset, tag)| Position {
            epoch: Epoch(epoch),
            offset,
            tag: Tag(tag),
        })
        .boxed()
}

fn subscribe() -> BoxedStrategy<Subscribe> {
    let signed = (of(any_text()), of(any_text()), of(payload()), of(payload()));
    let start = (of(position()), of(any::<u32>()));
    (channel(), signed, start)
        .prop_map(
            |(channel, (auth, channel_data, data, info), (since, rewind))| Subscribe {
                channel,
                auth,
                channel_data,
                data,
                info,
                since,
                rewind,
            },
        )
        .boxed()
}

fn command() -> BoxedStrategy<Command> {
    prop_oneof![
        any_text().prop_map(|token| Command::Authenticate { token }),
        subscribe().prop_map(Command::Subscribe),
        vec(subscribe(), 1..4).prop_map(Command::SubscribeAll),
        channel().prop_map(|channel| Command::Unsubscribe { channel }),
        (channel(), event_name(), payload(), of(key())).prop_map(|(channel, event, data, key)| {
            Command::Publish {
                channel,
                event,
                data,
                key,
            }
        }),
        (event_name(), payload(), of(key())).prop_map(|(event, data, key)| Command::Emit {
            event,
            data,
            key
        }),
        channel().prop_map(|channel| Command::Presence { channel }),
        (channel(), payload())
            .prop_map(|(channel, info)| Command::PresenceUpdate { channel, info }),
        (channel(), of(position()), of(any::<u32>())).prop_map(|(channel, since, limit)| {
            Command::History {
                channel,
                since,
                limit,
            }
        }),
        Just(Command::Ping),
        Just(Command::Disconnect),
    ]
    .boxed()
}

pub(crate) fn request() -> BoxedStrategy<Request> {
    (of(number()), command())
        .prop_map(|(id, command)| Request { id, command })
        .boxed()
}

pub(crate) fn event() -> BoxedStrategy<Event> {
    let place = (of(number()), of(hexadecimal()), of(hexadecimal()));
    let origin = (of(user_id()), of(any_text()));
    (channel(), event_name(), payload(), place, origin)
        .prop_map(
            |(channel, event, data, (offset, tag, epoch), (user_id, event_id))| Event {
                channel,
                event,
                data,
                offset,
                tag: tag.map(Tag),
                epoch: epoch.map(Epoch),
                user_id,
                event_id,
            },
        )
        .boxed()
}

/// Events of one channel, as lists hold them.
fn events_of(channel: ChannelName) -> BoxedStrategy<Vec<Event>> {
    vec(event(), 0..4)
        .prop_map(move |events| {
            let of_channel = |event| Event {
                channel: channel.clone(),
                ..event
            };
            events.into_iter().map(of_channel).collect()
        })
        .boxed()
}

fn presence() -> BoxedStrategy<Presence> {
    let member = (user_id(), payload()).prop_map(|(id, info)| Member { id, info });
    (number(), vec(member, 0..4))
        .prop_map(|(count, members)| Presence { count, members })
        .boxed()
}

fn reply() -> BoxedStrategy<Reply> {
    let identity = (of(user_id()), of(number()), of(any_text()));
    let content = (of(presence()), of(channel().prop_flat_map(events_of)));
    (number(), identity, of(position()), content)
        .prop_map(
            |(id, (user_id, expires_at, event_id), position, (presence, events))| Reply {
                id,
                user_id,
                expires_at,
                position,
                event_id,
                presence,
                events,
            },
        )
        .boxed()
}

fn subscription_succeeded() -> BoxedStrategy<SubscriptionSucceeded> {
    let start = channel().prop_flat_map(|channel| (Just(channel.clone()), events_of(channel)));
    (
        of(number()),
        start,
        of(position()),
        any::<bool>(),
        of(presence()),
        of(user_id()),
    )
        .prop_map(
            |(id, (channel, events), position, recovered, presence, user_id)| {
                SubscriptionSucceeded {
                    id,
                    channel,
                    position,
                    recovered,
                    events,
                    presence,
                    user_id,
                }
            },
        )
        .boxed()
}

fn connected() -> BoxedStrategy<Connected> {
    let numbers = (any::<u32>(), number(), number(), number());
    (any::<u128>(), of(user_id()), numbers, of(limits()))
        .prop_map(
            |(
                socket_id,
                user_id,
                (protocol, ping_interval, max_payload_size, server_time),
                limits,
            )| {
                Connected {
                    socket_id: SocketId::from_bits(socket_id),
                    user_id,
                    protocol,
                    ping_interval,
                    max_payload_size,
                    server_time,
                    limits,
                }
            },
        )
        .boxed()
}

fn limits() -> BoxedStrategy<ConnectionLimits> {
    let required = (number(), number(), number(), number());
    (required, of(number()), of(number()), of(number()))
        .prop_map(
            |(
                (channels_max, commands_per_second, commands_burst, message_bytes_max),
                bytes_per_second,
                bytes_burst,
                idempotency_window,
            )| ConnectionLimits {
                channels_max,
                commands_per_second,
                commands_burst,
                message_bytes_max,
                bytes_per_second,
                bytes_burst,
                idempotency_window,
            },
        )
        .boxed()
}

fn refusals() -> BoxedStrategy<ServerMessage> {
    prop_oneof![
        (
            of(number()),
            any::<u16>(),
            any_text(),
            any::<bool>(),
            of(number())
        )
            .prop_map(
                |(id, code, error, retry, retry_after)| ServerMessage::Error(ErrorMessage {
                    id,
                    code,
                    error,
                    retry,
                    retry_after,
                })
            ),
        (
            of(number()),
            channel(),
            any::<u16>(),
            any_text(),
            any::<bool>(),
            of(number())
        )
            .prop_map(|(id, channel, code, error, retry, retry_after)| {
                ServerMessage::SubscriptionError(SubscriptionError {
                    id,
                    channel,
                    code,
                    error,
                    retry,
                    retry_after,
                })
            }),
        (of(number()), channel(), any::<u16>(), any_text()).prop_map(
            |(id, channel, code, reason)| ServerMessage::Unsubscribed(Unsubscribed {
                id,
                channel,
                code,
                reason,
            })
        ),
        (any::<u16>(), any_text(), any::<bool>(), number()).prop_map(
            |(code, reason, reconnect, after)| ServerMessage::Disconnect(Disconnect {
                code,
                reason,
                reconnect,
                after,
            })
        ),
    ]
    .boxed()
}

fn breaks() -> BoxedStrategy<ServerMessage> {
    prop_oneof![
        (channel(), number(), hexadecimal(), of(hexadecimal())).prop_map(
            |(channel, offset, tag, epoch)| ServerMessage::Skipped(Skipped {
                channel,
                offset,
                tag: Tag(tag),
                epoch: epoch.map(Epoch),
            })
        ),
        (channel(), of(number()), of(number()), any_text()).prop_map(
            |(channel, from, to, reason)| ServerMessage::Gap(Gap {
                channel,
                from,
                to,
                reason,
            })
        ),
        (channel(), position(), any_text()).prop_map(|(channel, position, reason)| {
            ServerMessage::Reset(Reset {
                channel,
                position,
                reason,
            })
        }),
    ]
    .boxed()
}

pub(crate) fn message() -> BoxedStrategy<ServerMessage> {
    prop_oneof![
        1 => connected().prop_map(ServerMessage::Connected),
        2 => reply().prop_map(ServerMessage::Ok),
        2 => subscription_succeeded().prop_map(ServerMessage::SubscriptionSucceeded),
        2 => event().prop_map(ServerMessage::Event),
        3 => refusals(),
        2 => breaks(),
        1 => number().prop_map(|timestamp| ServerMessage::Pong { timestamp }),
    ]
    .boxed()
}
