//! `cargo xtask seam`: the names of the numbers between the browser client and its TypeScript, as TypeScript.

use std::fmt::Write as _;
use std::fs;

use crate::error::{Result, TaskError};
use crate::workspace::Workspace;

/// Where the TypeScript is.
const OUTPUT: &str = "npm/src/table.ts";

/// One enum of the table.
struct Enum {
    name: &'static str,
    about: &'static [&'static str],
    variants: &'static [Variant],
}

struct Variant {
    name: &'static str,
    about: &'static [&'static str],
    /// What TypeScript makes of it, as a Rust expression.
    meaning: &'static [&'static str],
}

macro_rules! border {
    ($(
        $(#[doc = $about:literal])*
        $direction:ident enum $enum:ident {
            $($(#[doc = $doc:literal])* $name:ident $(= $meaning:tt)?,)*
        }
    )*) => {
        const TABLE: &[Enum] = &[$(Enum {
            name: stringify!($enum),
            about: &[$($about),*],
            variants: &[$(Variant {
                name: stringify!($name),
                about: &[$($doc),*],
                meaning: &[$(stringify!($meaning))?],
            }),*],
        }),*];
    };
}

include!("../../client-wasm/src/machine/table.rs");

/// Writes the TypeScript.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    let path = workspace.path(OUTPUT);
    fs::write(&path, typescript()).map_err(TaskError::file("write", &path))
}

/// The table as TypeScript: an enum for each enum, and a list of what its variants mean.
fn typescript() -> String {
    let mut text =
        "// Written by `cargo xtask seam` from client-wasm/src/machine/table.rs.\n".to_owned();
    for Enum {
        name,
        about,
        variants,
    } in TABLE
    {
        text.push('\n');
        comment(&mut text, "", about);
        let _ = writeln!(text, "export const enum {name} {{");
        for variant in *variants {
            comment(&mut text, "  ", variant.about);
            let _ = writeln!(text, "  {},", variant.name);
        }
        text.push_str("}\n");
        let meanings: Vec<&str> = (variants.iter())
            .flat_map(|variant| variant.meaning.iter().copied())
            .collect();
        if !meanings.is_empty() {
            let constant = constant_name(name);
            let _ = writeln!(
                text,
                "\n/** What each {{@link {name}}} means that has a meaning of its own, in their order. */"
            );
            let _ = writeln!(text, "export const {constant} = [");
            for meaning in meanings {
                let _ = writeln!(text, "  {},", expression(meaning));
            }
            text.push_str("] as const;\n");
        }
    }
    text
}

fn comment(text: &mut String, indent: &str, lines: &[&str]) {
    if !lines.is_empty() {
        let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
        let words = lines.join(" ").replace("[`", "{@link ").replace("`]", "}");
        let _ = writeln!(text, "{indent}/** {} */", words.replace("::", "."));
    }
}

/// `ConnectionState` to `CONNECTION_STATES`.
fn constant_name(name: &str) -> String {
    let mut constant = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_uppercase() {
            constant.push('_');
        }
        constant.push(letter.to_ascii_uppercase());
    }
    constant + "S"
}

/// A text, or a tuple of numbers and texts.
fn expression(meaning: &str) -> String {
    let inner = meaning
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    let quoted = |text: &str| text.replace('"', "'");
    match inner {
        Some(inner) => format!("[{}]", quoted(inner)),
        None => quoted(meaning),
    }
}

#[cfg(test)]
mod tests {
    use fanfare_client::machine::output::Goodbye;
    use fanfare_client::{
        AuthReason, ChannelState, ClientError, ConnectionState, GapReason, TokenReason,
    };

    use super::*;

    /// What the table says of an enum must be what the client says.
    #[track_caller]
    fn check(name: &str, said: &[String]) {
        let found = TABLE.iter().find(|one| one.name == name);
        let variants = found.unwrap().variants.iter();
        let meanings: Vec<&str> = variants
            .flat_map(|variant| variant.meaning.iter().copied())
            .collect();
        assert_eq!(meanings, said, "{name}");
    }

    fn word(word: &str) -> String {
        format!("{word:?}")
    }

    #[test]
    fn states_and_reasons_have_the_words_of_the_client() {
        use ConnectionState as C;
        let states = [
            C::Idle,
            C::Connecting,
            C::Connected,
            C::Reconnecting,
            C::Offline,
            C::Disconnected,
            C::Failed,
        ];
        check("ConnectionState", &states.map(|state| word(state.name())));
        use ChannelState as S;
        let states = [
            S::Authorizing,
            S::Subscribing,
            S::Subscribed,
            S::Suspended,
            S::Failed,
            S::Closed,
        ];
        check("ChannelState", &states.map(|state| word(state.name())));
        let reasons = [
            TokenReason::Connect,
            TokenReason::Expiring,
            TokenReason::Rejected,
        ];
        check("TokenReason", &reasons.map(|reason| word(reason.name())));
        let reasons = [
            AuthReason::Subscribe,
            AuthReason::Resubscribe,
            AuthReason::Expired,
        ];
        check("AuthReason", &reasons.map(|reason| word(reason.name())));
        use GapReason as G;
        let reasons = [
            G::Expired,
            G::Epoch,
            G::Away,
            G::Diverged,
            G::Sequence,
            G::Overflow,
        ];
        check("GapReason", &reasons.map(|reason| word(reason.name())));
        use Goodbye as B;
        let goodbyes = [
            B::Normal,
            B::UnknownVersion,
            B::NotThisProtocol,
            B::Silent,
            B::NotGreeted,
        ];
        check(
            "Goodbye",
            &goodbyes.map(|goodbye| format!("({}, {:?})", goodbye.code(), goodbye.text())),
        );
    }

    #[test]
    fn errors_have_the_words_of_the_client() {
        use ClientError as E;
        let (code, status, reason) = (None, None, None);
        let errors: [ClientError; 19] = [
            E::Server {
                code: 0,
                text: String::new(),
                retry: false,
                retry_after: None,
            },
            E::Transport {
                code: 0,
                reason: String::new(),
            },
            E::HandshakeTimeout,
            E::PingTimeout,
            E::Token { reason: None },
            E::AuthFailed {
                status,
                reason: None,
            },
            E::AuthTimeout,
            E::Timeout,
            E::Expired,
            E::QueueFull,
            E::Protocol,
            E::Unauthorized { code, reason },
            E::AuthForbidden {
                status: 0,
                reason: None,
            },
            E::PayloadTooLarge {
                bytes: 0,
                bytes_max: 0,
            },
            E::Closed,
            E::UnknownOutcome,
            E::Aborted,
            E::TooManyJoins { channels_max: 0 },
            E::TooManyChannels { channels_max: 0 },
        ];
        check(
            "ErrorKind",
            &errors.map(|error| format!("({:?}, {:?})", error.name(), error.text())),
        );
    }

    #[test]
    fn the_typescript_is_up_to_date() {
        let path = Workspace::locate().path(OUTPUT);
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text == typescript(),
            "{OUTPUT} is not what the table says: run `cargo xtask seam`"
        );
    }

    #[test]
    fn meanings_become_expressions() {
        assert_eq!(expression("\"idle\""), "'idle'");
        assert_eq!(expression("(1000, \"\")"), "[1000, '']");
        assert_eq!(constant_name("ConnectionState"), "CONNECTION_STATES");
    }
}
