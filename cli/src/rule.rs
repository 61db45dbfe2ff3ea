//! Channel rules as text: `orders=history:100,ttl:5m,publish,rewind:50`.

use std::str::FromStr;
use std::time::Duration;

use fanfare_server::protocol::ChannelName;
use fanfare_server::{ChannelRule, SlowReader};

use crate::{duration, size};

/// A rule for the channels of one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The prefix; an empty one matches every channel.
    pub(crate) prefix: String,
    /// The history, and the rights of clients.
    pub(crate) rule: ChannelRule,
    /// Whether every user may subscribe, without a channel token.
    pub(crate) is_open: bool,
}

/// The words of a rule, not yet checked against each other.
#[derive(Default)]
struct Words {
    history: Option<u32>,
    ttl: Option<Duration>,
    rewind: Option<u32>,
    presence: Option<bool>,
    presence_update: bool,
    publish: bool,
    publish_rate: Option<u32>,
    open: bool,
    drop: bool,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = |detail: &str| format!("the rule {text:?} {detail}");
        // A prefix may contain an equals sign, words cannot.
        let (prefix, words) = text
            .rsplit_once('=')
            .ok_or_else(|| error("must look like PREFIX=history:100,ttl:5m,publish"))?;
        if !prefix.is_empty() && ChannelName::new(&format!("{prefix}a")).is_err() {
            return Err(error("has a prefix that no channel name can begin with"));
        }
        let words = Words::parse(words).map_err(|detail| error(&detail))?;
        let rule = words.rule().map_err(|detail| error(&detail))?;
        Ok(Self {
            prefix: prefix.to_owned(),
            rule,
            is_open: words.open,
        })
    }
}

impl Words {
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = Self::default();
        let mut seen = Vec::new();
        for word in text.split(',').map(str::trim) {
            let (name, value) = match word.split_once(':') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            if seen.contains(&name) {
                return Err(format!("has {name:?} twice"));
            }
            seen.push(name);
            words.set(name, value)?;
        }
        Ok(words)
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        match (name, value) {
            ("history", Some(value)) => self.history = Some(count(name, value)?),
            ("rewind", Some(value)) => self.rewind = Some(count(name, value)?),
            ("ttl", Some(value)) => self.ttl = Some(duration::parse(value)?),
            ("presence", None) => self.presence = Some(true),
            ("presence", Some("off")) => self.presence = Some(false),
            ("presence-update", None) => self.presence_update = true,
            ("publish", None) => self.publish = true,
            ("publish-rate", Some(value)) => self.publish_rate = Some(size::parse(value)?),
            ("open", None) => self.open = true,
            ("slow", Some("drop")) => self.drop = true,
            ("slow", Some("close")) => self.drop = false,
            ("history" | "rewind" | "ttl" | "slow" | "publish-rate", None) => {
                return Err(format!("needs a value for {name:?}"));
            }
            ("presence" | "presence-update" | "publish" | "open" | "slow", Some(value)) => {
                return Err(format!(
                    "has a value for {name:?} that is not allowed: {value:?}"
                ));
            }
            _ => {
                let known = "history:N, ttl:DURATION, rewind:N, publish, publish-rate:SIZE, presence, presence:off, presence-update, open, slow:drop";
                return Err(format!(
                    "has the unknown word {name:?}; known words are {known}"
                ));
            }
        }
        Ok(())
    }

    fn rule(&self) -> Result<ChannelRule, String> {
        let mut rule = ChannelRule::default();
        match (self.history, self.ttl) {
            (Some(size), ttl) => {
                let ttl = ttl.unwrap_or(rule.history_ttl);
                if ttl.is_zero() {
                    return Err("needs a ttl above 0s".to_owned());
                }
                rule = rule.with_history(size, ttl);
            }
            (None, Some(_)) => return Err("has a ttl but no history".to_owned()),
            (None, None) => {}
        }
        if let Some(rewind) = self.rewind {
            if self.history.is_none_or(|size| rewind > size) {
                return Err("needs a rewind of at most its history".to_owned());
            }
            rule = rule.with_rewind(rewind);
        }
        if let Some(presence) = self.presence {
            rule = rule.with_presence(presence);
        }
        if self.presence_update {
            rule = rule.with_presence_update();
        }
        if self.publish {
            rule = rule.with_client_publish();
        }
        if let Some(bytes) = self.publish_rate {
            if !self.publish {
                return Err("has a publish-rate but does not let clients publish".to_owned());
            }
            rule = rule.with_client_bytes_per_second(bytes);
        }
        if self.drop {
            rule = rule.with_slow_reader(SlowReader::Drop);
        }
        Ok(rule)
    }
}

/// Returns the first rule that never applies, with the rule before it that matches all its channels.
pub(crate) fn hidden(rules: &[Rule]) -> Option<(&Rule, &Rule)> {
    let mut pairs = rules.iter().enumerate().flat_map(|(at, later)| {
        let earlier = rules[..at].iter();
        earlier.map(move |earlier| (later, earlier))
    });
    pairs.find(|(later, earlier)| later.prefix.starts_with(&earlier.prefix))
}

fn count(name: &str, value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(count @ 1..=HISTORY_SIZE_MAX) => Ok(count),
        _ => Err(format!(
            "needs a number from 1 to {HISTORY_SIZE_MAX} for {name:?}, not {value:?}"
        )),
    }
}

/// 1,000: the longest history of a channel.
const HISTORY_SIZE_MAX: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_make_a_rule() {
        let rule: Rule = "orders=history:100,ttl:5m,publish,rewind:50"
            .parse()
            .unwrap();
        assert_eq!(rule.prefix, "orders");
        assert!(!rule.is_open);
        let expected = ChannelRule::default()
            .with_history(100, Duration::from_secs(300))
            .with_client_publish()
            .with_rewind(50);
        assert_eq!(rule.rule, expected);

        let rule: Rule = "presence-lobby.=open, slow:drop".parse().unwrap();
        assert!(rule.is_open);
        assert_eq!(rule.rule.slow_reader, SlowReader::Drop);

        let rule: Rule = "chat=publish,publish-rate:1MiB".parse().unwrap();
        assert_eq!(rule.rule.client_bytes_per_second, 1 << 20);

        let rule: Rule = "presence-=presence-update".parse().unwrap();
        assert_eq!(rule.rule, ChannelRule::default().with_presence_update());

        let all: Rule = "=history:10".parse().unwrap();
        assert_eq!(all.prefix, "");
        let odd: Rule = "a=b=presence:off".parse().unwrap();
        assert_eq!(
            (odd.prefix.as_str(), odd.rule.presence),
            ("a=b", Some(false))
        );
    }

    #[test]
    fn every_mistake_has_a_sentence() {
        #[track_caller]
        fn check(text: &str, sentence: &str) {
            let error = text.parse::<Rule>().unwrap_err();
            assert_eq!(error, format!("the rule {text:?} {sentence}"));
        }
        check("orders", "must look like PREFIX=history:100,ttl:5m,publish");
        check(
            "a b=publish",
            "has a prefix that no channel name can begin with",
        );
        check("a=history", r#"needs a value for "history""#);
        check("a=publish,publish", r#"has "publish" twice"#);
        check(
            "a=publish:yes",
            r#"has a value for "publish" that is not allowed: "yes""#,
        );
        check(
            "presence-=presence-update:off",
            r#"has a value for "presence-update" that is not allowed: "off""#,
        );
        check(
            "a=history:1001",
            r#"needs a number from 1 to 1000 for "history", not "1001""#,
        );
        check(
            "a=history:1,ttl:5",
            r#""5" is not a duration such as 250ms, 30s, 5m or 2h"#,
        );
        check(
            "a=publish-rate:1MiB",
            "has a publish-rate but does not let clients publish",
        );
        check(
            "a=publish,publish-rate:1MB",
            r#""1MB" is not a size such as 4096, 32KiB or 1MiB"#,
        );
        check("a=ttl:5m", "has a ttl but no history");
        check("a=history:5,ttl:0s", "needs a ttl above 0s");
        check(
            "a=history:5,rewind:6",
            "needs a rewind of at most its history",
        );
        check(
            "a=slow:ly",
            r#"has a value for "slow" that is not allowed: "ly""#,
        );
        let unknown = "a=histroy:5".parse::<Rule>().unwrap_err();
        assert!(
            unknown.contains(r#"has the unknown word "histroy""#),
            "{unknown}"
        );
    }

    #[test]
    fn a_rule_that_never_applies_is_found() {
        let rules = |texts: &[&str]| -> Vec<Rule> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert_eq!(
            hidden(&rules(&["orders.vip=publish", "orders=publish"])),
            None
        );
        let list = rules(&["orders=publish", "orders.vip=publish"]);
        assert_eq!(hidden(&list), Some((&list[1], &list[0])));
    }
}
