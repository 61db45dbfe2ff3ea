//! What comes out of the machine, with its names and as text.

use alloc::string::String;
use alloc::vec::Vec;

use fanfare_protocol::json::encode_request;
use fanfare_protocol::{ChannelName, Command, Position, Presence, Request, Subscribe};

use crate::client::Client;
use crate::error::ClientError;
use crate::event::{ChannelState, ChannelStatus, ConnectionStatus, Event, Gap, Message, Reset};
use crate::io::{Output, Payload};
use crate::machine::output::{self, News, Status};
use crate::members::Members;
use crate::wire::{Change, Wire};

impl<P: Payload> Client<P> {
    pub(crate) fn told(&mut self, output: output::Output<Wire<P>>) -> Output<P> {
        use output::Output as Told;
        match output {
            Told::Open { attempt } => Output::Open { attempt },
            Told::Close(goodbye) => Output::Close {
                code: goodbye.code(),
                reason: goodbye.text(),
            },
            Told::Send { id, command } => self.send(id, command),
            Told::NeedToken(reason) => Output::NeedToken { reason },
            Told::NeedChannelAuth {
                channel,
                socket: socket_id,
                reason,
            } => Output::NeedChannelAuth {
                channel,
                socket_id,
                reason,
            },
            Told::CancelChannelAuth(channel) => Output::CancelChannelAuth { channel },
            Told::Tell(news) => Output::Event(self.event(news)),
        }
    }

    fn event(&mut self, news: News<Wire<P>>) -> Event<P> {
        match news {
            News::Status(status) => {
                self.status = self.after(status);
                Event::Connection(self.status.clone())
            }
            News::Channel {
                channel,
                state,
                previous,
                recovered,
                error,
            } => {
                if matches!(state, ChannelState::Closed | ChannelState::Failed) {
                    self.members.retain(|(name, _)| *name != channel);
                }
                Event::Channel(ChannelStatus {
                    channel,
                    state,
                    previous,
                    recovered,
                    error,
                })
            }
            News::Message {
                channel,
                content,
                position,
                recovered,
            } => Event::Message(Message {
                channel,
                event: content.event,
                data: content.data,
                position,
                user_id: content.user_id,
                event_id: content.event_id,
                recovered,
            }),
            News::Sync {
                channel,
                members,
                since,
            } => self.synced(channel, members, since),
            News::Change {
                channel,
                change,
                position,
                recovered,
            } => self.changed(channel, change, position, recovered),
            News::Gap { channel, hole } => Event::Gap(Gap {
                channel,
                from: hole.from,
                to: hole.to,
                reason: hole.reason,
                position: hole.position,
            }),
            News::Reset {
                channel,
                position,
                reason,
            } => Event::Reset(Reset {
                channel,
                position,
                reason,
            }),
            News::Done { request, result } => Event::RequestDone { request, result },
            News::Error(error) => Event::Error(error),
        }
    }

    /// One frame, or the first of several where a list is too long for one.
    fn send(&mut self, id: Option<u64>, command: output::Command<Wire<P>>) -> Output<P> {
        let command = command_of(command);
        let text = encode(id, command.clone());
        let bytes_max = self.machine.frame_bytes_max().unwrap_or(u64::MAX);
        let bytes_max = bytes_max.min(LIST_BYTES_MAX);
        match command {
            Command::SubscribeAll(list) if text.len() as u64 > bytes_max => {
                self.frames = split(id, list, bytes_max);
                Output::Send(self.frames.pop().unwrap_or(text))
            }
            _ => Output::Send(text),
        }
    }

    fn after(&self, status: Status<Wire<P>>) -> ConnectionStatus {
        let (code, reason) = match &status.error {
            Some(ClientError::Transport { code, reason }) => (Some(*code), Some(reason.clone())),
            _ => (None, None),
        };
        ConnectionStatus {
            state: status.state,
            previous: self.status.state,
            attempt: status.attempt,
            retry_at: status.retry_at,
            socket_id: status.socket,
            resumed: status.resumed,
            error: status.error,
            code,
            reason,
        }
    }

    fn synced(
        &mut self,
        channel: ChannelName,
        presence: Presence<P>,
        since: Vec<Change<P>>,
    ) -> Event<P> {
        let members = self.members_of(&channel);
        members.replace(presence);
        for change in since {
            members.change(change);
        }
        let (count, list) = (members.count(), members.list().to_vec());
        if members.is_incomplete() {
            self.machine.members_incomplete(&channel, count);
        }
        Event::Sync {
            count,
            members: list,
            channel,
        }
    }

    fn changed(
        &mut self,
        channel: ChannelName,
        change: Change<P>,
        position: Option<Position>,
        recovered: bool,
    ) -> Event<P> {
        let members = self.members_of(&channel);
        let info = members.change(change.clone());
        if members.is_incomplete() {
            let count = members.count();
            self.machine.members_incomplete(&channel, count);
        }
        match change {
            Change::Added(member) => Event::Joined {
                channel,
                member,
                position,
                recovered,
            },
            Change::Updated(member) => Event::Updated {
                channel,
                member,
                position,
                recovered,
            },
            Change::Removed(id, reason) => Event::Left {
                channel,
                id,
                info,
                reason,
                position,
                recovered,
            },
        }
    }

    fn members_of(&mut self, channel: &ChannelName) -> &mut Members<P> {
        let found = self.members.iter().position(|(name, _)| name == channel);
        let at = found.unwrap_or(self.members.len());
        if found.is_none() {
            self.members.push((channel.clone(), Members::new()));
        }
        &mut self.members[at].1
    }
}

fn command_of<P: Payload>(command: output::Command<Wire<P>>) -> Command {
    use output::Command as Told;
    match command {
        Told::Authenticate { token } => Command::Authenticate { token },
        Told::Subscribe(wanted) => {
            let mut list: Vec<Subscribe> = wanted.into_iter().map(subscribe).collect();
            match list.pop() {
                Some(only) if list.is_empty() => Command::Subscribe(only),
                last => {
                    list.extend(last);
                    Command::SubscribeAll(list)
                }
            }
        }
        Told::Unsubscribe { channel } => Command::Unsubscribe { channel },
        Told::Presence { channel } => Command::Presence { channel },
        Told::Ping => Command::Ping,
        Told::Asked(command) => command,
    }
}

fn subscribe<P: Payload>(wanted: output::Wanted<Wire<P>>) -> Subscribe {
    Subscribe {
        channel: wanted.channel,
        auth: wanted.auth,
        channel_data: wanted.channel_data,
        data: wanted.hint,
        info: wanted.info,
        since: wanted.since,
        rewind: wanted.rewind,
    }
}

/// The frames of a list, none larger than `bytes_max` unless it is of one channel; the first to go is the last.
fn split(id: Option<u64>, mut list: Vec<Subscribe>, bytes_max: u64) -> Vec<String> {
    let mut frames = Vec::new();
    let half = list.split_off(list.len() / 2);
    for list in [half, list] {
        let text = encode(id, Command::SubscribeAll(list.clone()));
        if list.len() > 1 && text.len() as u64 > bytes_max {
            frames.extend(split(id, list, bytes_max));
        } else if !list.is_empty() {
            frames.push(text);
        }
    }
    frames
}

pub(crate) fn encode(id: Option<u64>, command: Command) -> String {
    encode_request(&Request { id, command })
}

/// 16 KiB: what a server takes before it has seen credentials, which may be while they are on their way.
const LIST_BYTES_MAX: u64 = 16 << 10;
