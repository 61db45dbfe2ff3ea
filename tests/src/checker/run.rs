//! One client on one channel, followed from its first observation to its last.

use std::collections::{HashMap, HashSet};

use fanfare_protocol::{ChannelName, Link, Position};

use super::Published;
use super::history::{History, Moment, Observation, Observed, Outcome, Publish};
use super::violation::{Violation, Wrong};

/// One client on one channel.
pub(super) struct Run<'a> {
    history: &'a History,
    client: &'a str,
    channel: &'a ChannelName,
    published: &'a Published<'a>,
    /// What the store no longer knows, by payload.
    forgotten: &'a HashSet<&'a str>,
    /// How often it was told to start anew.
    lives: u32,
    /// Where the client stands, where that is known.
    cursor: Option<Position>,
    is_subscribed: bool,
    /// Since when it is owed everything: it joined then, or was told of a loss.
    owed_since: Option<Moment>,
    /// The message seen so far that was attempted last.
    newest: Option<&'a Publish>,
    /// What came, in which epoch and which life.
    seen: HashMap<&'a str, (Option<Position>, u32)>,
    /// What is wrong.
    pub(super) violations: Vec<Violation>,
    /// Every message with a position.
    pub(super) messages: Vec<(Position, &'a str)>,
    /// The positions that a client still subscribed builds on.
    pub(super) kept: Vec<Position>,
}

impl<'a> Run<'a> {
    /// Follows a client's log to its end.
    pub(super) fn follow(
        history: &'a History,
        (client, channel): (&'a str, &'a ChannelName),
        log: &'a [Observed],
        published: &'a Published<'a>,
        forgotten: &'a HashSet<&'a str>,
    ) -> Self {
        let mut run = Self {
            history,
            client,
            channel,
            published,
            forgotten,
            lives: 0,
            cursor: None,
            is_subscribed: false,
            owed_since: None,
            newest: None,
            seen: HashMap::new(),
            violations: Vec::new(),
            messages: Vec::new(),
            kept: Vec::new(),
        };
        for observed in log {
            run.observe(observed);
        }
        // What follows the last message that came is owed only to who stayed.
        let until = if run.is_subscribed {
            Moment::MAX
        } else {
            run.kept.clear();
            run.newest.map_or(0, |newest| newest.called)
        };
        run.settle(until);
        run
    }

    fn observe(&mut self, observed: &'a Observed) {
        match &observed.what {
            Observation::Joined { at } => {
                // Of what it was owed before, later messages show what should have come.
                self.settle(self.newest.map_or(0, |newest| newest.called));
                self.kept.clear();
                self.start(observed.at, *at);
                self.is_subscribed = true;
            }
            Observation::Resumed => self.is_subscribed = true,
            Observation::Left => self.is_subscribed = false,
            Observation::Gap { at } => self.start(observed.at, *at),
            Observation::Reset { at } => {
                self.kept.clear();
                self.start(observed.at, Some(*at));
            }
            Observation::Skipped { position } => self.step(*position),
            Observation::Message { position, payload } => {
                self.message(*position, payload, observed.at);
            }
        }
    }

    /// The client goes on from elsewhere and knows it: what was lost before is excused.
    fn start(&mut self, at: Moment, cursor: Option<Position>) {
        self.lives += 1;
        self.owed_since = Some(at);
        self.cursor = cursor;
        self.kept
            .extend(cursor.filter(|position| position.offset > 0));
    }

    fn message(&mut self, position: Option<Position>, payload: &'a str, at: Moment) {
        let text = || payload.to_owned();
        if !self.is_subscribed {
            self.accuse(Wrong::Uninvited { payload: text() });
        }
        let publish = self.published.get(payload).copied();
        match publish {
            Some(publish) if publish.called < at && publish.outcome != Outcome::Refused => {
                if publish.except.as_deref() == Some(self.client) {
                    self.accuse(Wrong::NotExcluded { payload: text() });
                }
                self.come(publish, position);
            }
            _ => self.accuse(Wrong::Phantom { payload: text() }),
        }
        if let Some(position) = position {
            self.step(position);
            self.messages.push((position, payload));
        }
    }

    /// A message comes: for the first time, and after those accepted before it was attempted.
    fn come(&mut self, publish: &'a Publish, position: Option<Position>) {
        let payload = publish.payload.as_str();
        let seen = (position, self.lives);
        if let Some((first, life)) = self.seen.insert(payload, seen) {
            // A store that lost a message together with its key takes a repetition for new: in a new epoch, or, where it lost
            // only its end, at another place of the same.
            let epoch = |position: Option<Position>| position.map(|position| position.epoch);
            let is_same_life =
                life == self.lives || first.map(|at| at.tag) == position.map(|at| at.tag);
            if publish.attempts == 1 || (epoch(first) == epoch(position) && is_same_life) {
                let payload = payload.to_owned();
                self.accuse(Wrong::Twice { payload });
            }
            return;
        }
        match self.newest {
            Some(newest) if newest.called > publish.called => {
                if let Outcome::Accepted { returned, .. } = publish.outcome
                    && returned < newest.called
                    // Of two servers that both accept, each has an order of its own.
                    && !self.history.is_in_a_split(publish)
                {
                    self.accuse(Wrong::Overtaken {
                        late: payload.to_owned(),
                        before: newest.payload.clone(),
                    });
                }
            }
            _ => self.newest = Some(publish),
        }
    }

    /// The position moves on by one.
    fn step(&mut self, got: Position) {
        if let Some(after) = self.cursor {
            match after.link(got, None) {
                Link::Next => {}
                Link::Gap { .. } => self.accuse(Wrong::SilentGap { after, got }),
                Link::Duplicate | Link::Diverged => self.accuse(Wrong::OutOfOrder { after, got }),
            }
        }
        self.cursor = Some(got);
        self.kept.push(got);
    }

    /// Everything has come that was attempted since it is owed and accepted before `until`.
    fn settle(&mut self, until: Moment) {
        let Some(since) = self.owed_since else {
            return;
        };
        let mut missing: Vec<&Publish> = self
            .published
            .values()
            .copied()
            .filter(|publish| {
                let is_accepted = matches!(publish.outcome, Outcome::Accepted { returned, .. } if returned < until);
                is_accepted
                    && publish.called > since
                    && publish.except.as_deref() != Some(self.client)
                    && !self.seen.contains_key(publish.payload.as_str())
                    && !self.forgotten.contains(publish.payload.as_str())
            })
            .collect();
        missing.sort_by_key(|publish| publish.called);
        for publish in missing {
            let payload = publish.payload.clone();
            self.accuse(Wrong::Missing { payload });
        }
    }

    fn accuse(&mut self, wrong: Wrong) {
        self.violations.push(Violation {
            client: Some(self.client.to_owned()),
            channel: Some(self.channel.clone()),
            wrong,
        });
    }
}
