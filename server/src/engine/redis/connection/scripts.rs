//! The scripts that run inside Redis, each with the digest that it is called by.

use std::fmt;

/// The scripts of an engine.
///
/// Not constants, because the tests of the scripts plant faults in them.
#[derive(Debug, Clone)]
pub(crate) struct Scripts {
    /// Publishes on a channel with positions.
    pub(crate) publish: ScriptText,
    /// Publishes on a channel without positions.
    pub(crate) publish_live: ScriptText,
    /// Reads a history and the position of its channel.
    pub(crate) read: ScriptText,
    /// Clears a history.
    pub(crate) clear_history: ScriptText,
    /// Adds a connection to a presence channel.
    pub(crate) presence_join: ScriptText,
    /// Replaces the info of a connection in a presence channel.
    pub(crate) presence_update: ScriptText,
    /// Removes a connection from a presence channel.
    pub(crate) presence_leave: ScriptText,
    /// Extends leases.
    pub(crate) presence_refresh: ScriptText,
    /// Evicts expired members.
    pub(crate) presence_evict: ScriptText,
    /// Reads the members of a channel.
    pub(crate) presence_members: ScriptText,
    /// Asks a master for the time.
    pub(crate) pulse: ScriptText,
    /// Keeps the list of live nodes and publishes to them.
    pub(crate) node: ScriptText,
    /// Tries every command of the others.
    pub(crate) rights: ScriptText,
}

/// A script's text and the digest that Redis knows it by.
#[derive(Clone)]
pub(crate) struct ScriptText {
    name: &'static str,
    text: String,
    digest: String,
}

impl Default for Scripts {
    fn default() -> Self {
        Self::edited(|_, text| text)
    }
}

impl Scripts {
    /// The scripts, each text as `edit` returns it for its name.
    pub(crate) fn edited(edit: impl Fn(&'static str, String) -> String) -> Self {
        let script = |name, parts: &[&str]| ScriptText::new(name, edit(name, parts.concat()));
        let presence = |name, text| script(name, &[APPEND, PRESENCE, text]);
        Self {
            publish: script("publish", &[APPEND, include_str!("../lua/publish.lua")]),
            publish_live: script("publish_live", &[include_str!("../lua/publish_live.lua")]),
            read: script("read", &[APPEND, include_str!("../lua/read.lua")]),
            clear_history: script("clear_history", &[include_str!("../lua/clear_history.lua")]),
            presence_join: presence("presence_join", include_str!("../lua/presence_join.lua")),
            presence_update: presence(
                "presence_update",
                include_str!("../lua/presence_update.lua"),
            ),
            presence_leave: presence("presence_leave", include_str!("../lua/presence_leave.lua")),
            presence_refresh: presence(
                "presence_refresh",
                include_str!("../lua/presence_refresh.lua"),
            ),
            presence_evict: presence("presence_evict", include_str!("../lua/presence_evict.lua")),
            presence_members: presence(
                "presence_members",
                include_str!("../lua/presence_members.lua"),
            ),
            pulse: script("pulse", &[include_str!("../lua/pulse.lua")]),
            node: script("node", &[include_str!("../lua/node.lua")]),
            rights: script("rights", &[include_str!("../lua/rights.lua")]),
        }
    }
}

impl ScriptText {
    fn new(name: &'static str, text: String) -> Self {
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { name, text, digest }
    }

    /// The text, for `EVAL`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The digest, for `EVALSHA`.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }
}

impl fmt::Debug for ScriptText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What the scripts that publish begin with.
const APPEND: &str = include_str!("../lua/append.lua");

/// What the presence scripts go on with.
const PRESENCE: &str = include_str!("../lua/presence.lua");
