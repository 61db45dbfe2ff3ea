//! Every golden frame reads as what it says and is written again as it stands. The npm tests read the same files.

use std::path::{Path, PathBuf};

use fanfare_protocol::json::{
    DecodeError, decode_messages, decode_request, encode_batch, encode_message, encode_request,
};
use fanfare_protocol::{Code, Link, Position, Request, ServerMessage, Tag, app_events};
use serde::Deserialize;

/// A file of frames; golden/README.md says what the fields mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    name: String,
    direction: Direction,
    dialect: String,
    frames: Vec<Frame>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    Client,
    Server,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    about: String,
    text: Option<String>,
    texts: Option<Vec<String>>,
    native: Option<String>,
    #[serde(rename = "as")]
    read_as: Option<String>,
    code: Option<u16>,
    id: Option<u64>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Chain {
    cases: Vec<ChainCase>,
}

#[derive(Deserialize)]
struct ChainCase {
    about: String,
    seen: Position,
    next: Position,
    previous: Option<Tag>,
    link: String,
    from: Option<u64>,
    to: Option<u64>,
}

#[test]
fn every_frame_reads_as_it_says_and_is_written_as_it_stands() {
    let mut frames = 0;
    for golden in goldens() {
        for frame in &golden.frames {
            check(&golden, frame);
            frames += 1;
        }
    }
    assert!(frames > 100, "only {frames} frames were found");
}

#[test]
fn every_command_and_every_message_has_a_frame() {
    let mut kinds: Vec<String> = Vec::new();
    for golden in goldens() {
        let texts = golden.frames.iter().filter_map(|frame| {
            let is_plain = golden.dialect == "fanfare.v1" && frame.code.is_none();
            frame.text.as_deref().filter(|_| is_plain)
        });
        for text in texts {
            let kind = match golden.direction {
                Direction::Client => format!("{:?}", decode_request(text).unwrap().command),
                Direction::Server => format!("{:?}", only_message(text)),
            };
            let end = kind.find(['(', ' ', '{']).unwrap_or(kind.len());
            kinds.push(format!("{:?} {}", golden.direction, &kind[..end]));
        }
    }
    kinds.sort();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "Client Authenticate",
            "Client Disconnect",
            "Client Emit",
            "Client History",
            "Client Ping",
            "Client Presence",
            "Client PresenceUpdate",
            "Client Publish",
            "Client Subscribe",
            "Client SubscribeAll",
            "Client Unsubscribe",
            "Server Connected",
            "Server Disconnect",
            "Server Error",
            "Server Event",
            "Server Gap",
            "Server Ok",
            "Server Pong",
            "Server Reset",
            "Server Skipped",
            "Server SubscriptionError",
            "Server SubscriptionSucceeded",
            "Server Unsubscribed",
        ]
    );
}

#[test]
fn the_chain_rule_judges_every_example() {
    let chain: Chain = serde_json::from_str(&read(&folder().join("chain.json"))).unwrap();
    for case in chain.cases {
        let link = match case.link.as_str() {
            "next" => Link::Next,
            "duplicate" => Link::Duplicate,
            "diverged" => Link::Diverged,
            "gap" => Link::Gap {
                from: case.from.unwrap(),
                to: case.to.unwrap(),
            },
            other => panic!("{}: unknown link {other}", case.about),
        };
        let found = case.seen.link(case.next, case.previous);
        assert_eq!(found, link, "{}", case.about);
    }
}

#[test]
fn the_table_of_codes_is_the_one_in_the_code() {
    let rows: Vec<_> = Code::ALL
        .iter()
        .map(|code| {
            serde_json::json!({
                "number": code.number(),
                "name": code.name(),
                "text": code.text(),
                "disposition": format!("{:?}", code.disposition()).to_lowercase(),
                "retry": code.may_retry(),
                "token": code.needs_token(),
            })
        })
        .collect();
    let table = serde_json::to_string_pretty(&rows).unwrap() + "\n";
    up_to_date("codes.json", &table);
}

/// Fails when a generated file is out of date; `UPDATE_GOLDEN=1` writes it.
pub(crate) fn up_to_date(name: &str, expected: &str) {
    let path = folder().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    assert!(
        read(&path) == expected,
        "{} is out of date: run this test with UPDATE_GOLDEN=1",
        path.display()
    );
}

fn check(golden: &Golden, frame: &Frame) {
    let place = format!("{}: {}", golden.name, frame.about);
    let text = frame.text.as_deref();
    match (golden.direction, golden.dialect.as_str()) {
        (Direction::Client, "fanfare.v1") => {
            let result = decode_request(text.unwrap());
            check_request(&place, frame, &result, frame.read_as.as_deref().or(text));
        }
        (Direction::Client, "app-events.v1") => {
            let result = app_events::decode_request(text.unwrap());
            check_request(&place, frame, &result, frame.native.as_deref());
        }
        (Direction::Server, "fanfare.v1") => {
            let message = only_message(text.unwrap());
            assert_eq!(encode_message(&message), text.unwrap(), "{place}");
        }
        (Direction::Server, "fanfare.v1.batch") => check_batch(&place, text.unwrap()),
        (Direction::Server, "app-events.v1") => {
            let native = only_message(frame.native.as_deref().unwrap());
            let texts = app_events::encode_message(&native);
            assert_eq!(Some(&texts), frame.texts.as_ref(), "{place}");
        }
        (_, other) => panic!("{place}: unknown dialect {other}"),
    }
}

#[track_caller]
fn check_request(
    place: &str,
    frame: &Frame,
    result: &Result<Request, DecodeError>,
    expected: Option<&str>,
) {
    match (result, frame.code) {
        (Ok(request), None) => {
            assert_eq!(Some(encode_request(request).as_str()), expected, "{place}");
        }
        (Err(error), Some(code)) => {
            assert_eq!(error.code().number(), code, "{place}");
            assert_eq!(error.id, frame.id, "{place}");
            assert_eq!(Some(error.to_string()), frame.error, "{place}");
        }
        (result, _) => panic!("{place}: {result:?}"),
    }
}

fn check_batch(place: &str, text: &str) {
    let messages: Vec<ServerMessage> = decode_messages(text)
        .into_iter()
        .map(|message| message.unwrap_or_else(|error| panic!("{place}: {error}")))
        .collect();
    let encoded = match (text.starts_with('['), messages.as_slice()) {
        (false, [message]) => encode_message(message),
        _ => encode_batch(&messages),
    };
    assert_eq!(encoded, text, "{place}");
}

fn only_message(text: &str) -> ServerMessage {
    let [message] = <[_; 1]>::try_from(decode_messages(text)).unwrap();
    message.unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The texts of all frames that are valid, with direction and dialect.
pub(crate) fn valid_texts() -> Vec<(Direction, String, String)> {
    let mut all = Vec::new();
    for golden in goldens() {
        for frame in golden.frames {
            let is_canonical = frame.code.is_none() && frame.read_as.is_none();
            let texts = frame
                .text
                .into_iter()
                .chain(frame.texts.into_iter().flatten());
            for text in texts.filter(|_| is_canonical) {
                all.push((golden.direction, golden.dialect.clone(), text));
            }
        }
    }
    all
}

fn goldens() -> Vec<Golden> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter(|path| {
            let others = ["chain.json", "codes.json", "fields.json"];
            !others.iter().any(|other| path.ends_with(other))
        })
        .collect();
    paths.sort();
    let parse = |path: &PathBuf| {
        let golden: Golden = serde_json::from_str(&read(path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(path.file_stem().unwrap(), golden.name.as_str());
        golden
    };
    paths.iter().map(parse).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
