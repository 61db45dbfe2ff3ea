//! What can be wrong with an engine, planted to see whether the suite notices.

use std::collections::HashMap;

use fanfare_protocol::{
    ChannelName, Epoch, EventName, IdempotencyKey, Member, Position, RawJson, SocketId, Tag,
};

use crate::delivery::{Delivery, Members, Published};

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident),* $(,)?) => {
        /// What goes wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum Fault {
            $($(#[doc = $doc])+ $name),*
        }

        impl Fault {
            /// All that can go wrong.
            pub(super) const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

faults! {
    /// Every channel's third delivery is lost.
    DropOne,
    /// Every channel's second delivery comes twice.
    RepeatOne,
    /// Every channel's second delivery comes before its first.
    SwapTwo,
    /// The second delivery has the first one's offset.
    ReuseOffset,
    /// The second delivery names another message before it.
    BreakChain,
    /// The second delivery is of another epoch.
    SwitchEpoch,
    /// A delivery reaches another channel as well.
    CrossChannels,
    /// Nobody is left out any more.
    ForgetExcept,
    /// The sender is not named.
    ForgetUser,
    /// The bus event is not named.
    ForgetEventId,
    /// Deliveries of live-only channels carry a position.
    InventPosition,
    /// Publishers of live-only channels are told a position.
    AnswerPosition,
    /// Nothing is delivered of a channel that was unwanted once.
    StayDeaf,
    /// `interested` fails.
    RefuseInterest,
    /// Closing does nothing.
    StayOpen,
    /// Keys mean nothing.
    IgnoreKey,
    /// Keys mean nothing on live-only channels.
    IgnoreKeyWithoutPosition,
    /// A key is known on every channel.
    ShareKeys,
    /// A repetition is answered like a first publication.
    HideRepetition,
    /// A repetition is answered with the newest position.
    AnswerNewest,
    /// A key is never forgotten.
    KeepKeys,
    /// The history lacks its newest message.
    LagHistory,
    /// The history begins one message later.
    SkipFirst,
    /// The history comes newest first.
    ReverseHistory,
    /// Limits mean nothing.
    IgnoreLimit,
    /// One message more is kept.
    KeepOneMore,
    /// Messages never go.
    KeepForever,
    /// An empty history has no memory of its position.
    LosePosition,
    /// Forgetting does nothing.
    IgnoreForget,
    /// Forgetting takes the members along.
    ForgetMembers,
    /// A connection that leaves stays.
    ForgetLeave,
    /// A connection that was lost stays.
    ForgetLoss,
    /// A lost connection is gone at once.
    NoGrace,
    /// Who says goodbye is kept for the grace period.
    GraceForAll,
    /// A loss reported twice counts from the second time.
    RestartGrace,
    /// Who comes back within the grace period is announced.
    AnnounceReturn,
    /// Every connection is announced.
    AnnounceAll,
    /// The first connection that leaves takes the user's others along.
    LeaveTakesAll,
    /// Joining twice takes leaving twice.
    CountJoins,
    /// Leaving takes somebody out even when it was not here.
    LeaveTakesAnyone,
    /// Removed users are said to have left.
    SwapReasons,
    /// Later infos are ignored.
    FirstInfoWins,
    /// A changed info is not told.
    HideUpdates,
    /// An update is answered and not made.
    IgnoreUpdate,
    /// A repeated update shows its connection again.
    RepeatShows,
    /// An update finds everybody.
    UpdateFindsAll,
    /// An update brings lost connections back.
    UpdateRevives,
    /// What a connection showed stays when it has gone.
    InfoOutlives,
    /// When the shown connection goes, the oldest is shown.
    OldestIsNext,
    /// A refresh knows everybody.
    RefreshKnowsAll,
    /// A refresh knows nobody.
    RefreshKnowsNobody,
    /// A refresh brings lost connections back.
    RefreshRevives,
    /// A snapshot is one state old.
    StaleMembers,
    /// A snapshot's position is one message ahead.
    EarlyPosition,
    /// A snapshot counts one too many.
    Miscount,
}

/// What a faulty engine remembers in order to go wrong.
#[derive(Default)]
pub(super) struct State {
    pub(super) delivered: HashMap<ChannelName, usize>,
    pub(super) held_back: HashMap<ChannelName, Delivery>,
    pub(super) last: HashMap<ChannelName, Position>,
    pub(super) unwanted: Vec<ChannelName>,
    pub(super) keys: HashMap<(Option<ChannelName>, IdempotencyKey), Published>,
    pub(super) joined: Vec<(ChannelName, SocketId, Member)>,
    pub(super) lost: Vec<(ChannelName, SocketId)>,
    pub(super) snapshots: HashMap<ChannelName, Members>,
}

impl State {
    /// What is delivered instead of `delivery`.
    pub(super) fn spoil(&mut self, fault: Fault, mut delivery: Delivery) -> Vec<Delivery> {
        let channel = delivery.channel.clone();
        let count = self.delivered.entry(channel.clone()).or_default();
        *count += 1;
        let count = *count;
        let before = self.last.get(&channel).copied();
        if let Some(position) = delivery.position {
            self.last.insert(channel.clone(), position);
        }
        match (fault, count) {
            (Fault::DropOne, 3) => return Vec::new(),
            (Fault::RepeatOne, 2) => return vec![delivery.clone(), delivery],
            (Fault::SwapTwo, 1) => {
                self.held_back.insert(channel, delivery);
                return Vec::new();
            }
            (Fault::SwapTwo, 2) => {
                let first = self.held_back.remove(&channel);
                return std::iter::once(delivery).chain(first).collect();
            }
            (Fault::ReuseOffset, 2) => {
                if let (Some(position), Some(before)) = (&mut delivery.position, before) {
                    position.offset = before.offset;
                }
            }
            (Fault::BreakChain, 2) => delivery.previous = Some(Tag(1)),
            (Fault::SwitchEpoch, 2) => {
                if let Some(position) = &mut delivery.position {
                    position.epoch = Epoch(1);
                }
            }
            (Fault::CrossChannels, _) => {
                let mut others = self.delivered.keys().filter(|other| **other != channel);
                if let Some(other) = others.next() {
                    let mut stray = delivery.clone();
                    stray.channel = other.clone();
                    return vec![delivery, stray];
                }
            }
            (Fault::ForgetExcept, _) => delivery.except = None,
            (Fault::ForgetUser, _) => delivery.user = None,
            (Fault::ForgetEventId, _) => delivery.event_id = None,
            (Fault::InventPosition, _) if delivery.position.is_none() => {
                delivery.position = Some(Position::start(Epoch(1)));
            }
            (Fault::StayDeaf, _) if self.unwanted.contains(&channel) => return Vec::new(),
            (Fault::HideUpdates, _) if delivery.event.as_str() == EventName::MEMBER_UPDATED => {
                delivery.event = EventName::new("hidden").unwrap();
            }
            (Fault::SwapReasons, _) if delivery.event.is_reserved() => {
                let data = delivery.data.as_str().replace("removed", "left");
                delivery.data = RawJson::trusted(data);
            }
            _ => {}
        }
        vec![delivery]
    }
}
