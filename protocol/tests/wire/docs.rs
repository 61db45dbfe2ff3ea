//! docs/protocol.md tells the truth: its frames are golden ones, its table is the table, and no field or type is left out.

use std::path::Path;

use fanfare_protocol::json::Field;
use fanfare_protocol::{Code, Disposition, SUBPROTOCOL, SUBPROTOCOL_APP_EVENTS, SUBPROTOCOL_BATCH};
use serde_json::Value;

use crate::golden::{self, Direction};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    std::fs::read_to_string(path).unwrap()
}

/// A fenced block of frames: who sends them, and in which dialect.
struct Block {
    direction: Direction,
    dialect: &'static str,
    frames: Vec<Value>,
}

fn blocks(page: &str) -> Vec<Block> {
    let fences = page.split("```json").skip(1);
    let parse = |fence: &str| {
        let (heading, rest) = fence.split_once('\n').unwrap();
        let (direction, dialect) = match heading.trim() {
            "client" => (Direction::Client, SUBPROTOCOL),
            "server" => (Direction::Server, SUBPROTOCOL),
            "server batch" => (Direction::Server, SUBPROTOCOL_BATCH),
            "client app-events" => (Direction::Client, SUBPROTOCOL_APP_EVENTS),
            "server app-events" => (Direction::Server, SUBPROTOCOL_APP_EVENTS),
            other => panic!("say who sends the frames of a json block: {other:?}"),
        };
        let (body, _) = rest.split_once("```").unwrap();
        let frames = serde_json::Deserializer::from_str(body).into_iter();
        Block {
            direction,
            dialect,
            frames: frames
                .collect::<Result<_, _>>()
                .unwrap_or_else(|error| panic!("{error} in {body}")),
        }
    };
    fences.map(parse).collect()
}

#[test]
fn every_frame_of_the_page_is_a_golden_frame() {
    let goldens = golden::valid_texts();
    let mut frames = 0;
    for block in blocks(&page()) {
        for frame in block.frames {
            let is_golden = goldens.iter().any(|(direction, dialect, text)| {
                let is_of_the_kind = *direction == block.direction && dialect == block.dialect;
                is_of_the_kind && serde_json::from_str::<Value>(text).unwrap() == frame
            });
            assert!(is_golden, "not a golden frame: {frame}");
            frames += 1;
        }
    }
    assert!(frames > 40, "only {frames} frames were found");
}

#[test]
fn the_table_of_codes_is_on_the_page() {
    let mut table = String::from(
        "| code | name | text | the connection | retry | new token |\n|---|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let connection = match code.disposition() {
            Disposition::Stop => "ends for good",
            Disposition::Backoff => "reconnect with backoff",
            Disposition::Immediate => "reconnect at once",
            Disposition::Command => "lives on",
        };
        let yes = |is_so: bool| if is_so { "yes" } else { "no" };
        table += &format!(
            "| {} | `{}` | {} | {connection} | {} | {} |\n",
            code.number(),
            code.name(),
            code.text(),
            yes(code.may_retry()),
            yes(code.needs_token()),
        );
    }
    assert!(
        page().contains(&table),
        "docs/protocol.md lacks this table:\n{table}"
    );
}

#[test]
fn every_field_and_every_type_is_on_the_page() {
    let page = page();
    for field in Field::ALL {
        let name = field.name();
        let is_named = page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}?`"));
        assert!(is_named, "docs/protocol.md does not name the field {name}");
    }
    for (_, _, text) in golden::valid_texts() {
        let frame: Value = serde_json::from_str(&text).unwrap();
        let messages = match frame {
            Value::Array(messages) => messages,
            message => vec![message],
        };
        for message in messages {
            let kind = [&message["type"], &message["action"]]
                .into_iter()
                .find_map(Value::as_str)
                .unwrap();
            assert!(
                page.contains(&format!("\n| `{kind}` |")),
                "docs/protocol.md has no row for {kind}"
            );
        }
    }
    for subprotocol in [SUBPROTOCOL, SUBPROTOCOL_BATCH, SUBPROTOCOL_APP_EVENTS] {
        assert!(page.contains(&format!("`{subprotocol}`")), "{subprotocol}");
    }
}
