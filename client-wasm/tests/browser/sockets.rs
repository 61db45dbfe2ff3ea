//! What sockets say, played by sockets that go nowhere.

use serde_json::json;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::witness::Witness;

#[wasm_bindgen_test]
fn offers_both_forms_of_the_protocol() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = witness.machine_at("ws://example.test/ws", json!({ "token": "user:ann" }));
    machine.connect();
    let open = witness.notes("open");
    assert_eq!(
        open,
        [json!([
            "open",
            "ws://example.test/ws",
            ["fanfare.v1.batch", "fanfare.v1"]
        ])]
    );
    witness.play(0, "onopen", &json!({}));
    assert_eq!(
        witness.sent(0)[0]["token"],
        "user:ann",
        "the token goes first"
    );
}

#[wasm_bindgen_test]
fn ids_and_positions_as_the_wire_has_them() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = witness.machine_at("ws://example.test/ws", json!({}));
    machine.connect();
    witness.greet(0);
    let status = witness.notes("state").last().unwrap()[1].clone();
    assert_eq!(status["socketId"], "0123456789abcdef0123456789abcdef");
    for (channel, position) in [
        ("new", json!({ "epoch": "f00d", "offset": 0, "tag": "0" })),
        (
            "old",
            json!({ "epoch": "ffffffffffffffff", "offset": 9_007_199_254_740_991_u64, "tag": "1" }),
        ),
    ] {
        machine.subscribe(channel, None).unwrap();
        let id = witness.sent(0).last().unwrap()["id"].clone();
        witness.frame(
            0,
            &json!({
                "type": "subscription_succeeded", "id": id, "channel": channel, "recovered": false,
                "position": position,
            }),
        );
        assert_eq!(machine.position(channel), position);
    }
}

#[wasm_bindgen_test]
fn earlier_socket_is_not_listened_to() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = witness.machine_at("ws://example.test/ws", json!({}));
    machine.connect();
    let stale = witness.handlers(0);
    machine.disconnect();
    machine.connect();
    witness.greet(1);
    let before = witness.count();
    witness.call(&stale, "onmessage", &json!({ "data": "{\"type\":\"disconnect\",\"code\":4000,\"reason\":\"\",\"reconnect\":false,\"after\":0}" }));
    witness.call(
        &stale,
        "onclose",
        &json!({ "code": 4001, "reason": "late" }),
    );
    assert_eq!(witness.count(), before);
    assert_eq!(
        witness.notes("state").last().unwrap()[1]["state"],
        "connected"
    );
}

#[wasm_bindgen_test]
fn frames_that_are_not_of_this_protocol() {
    for frame in [
        "{",
        "null",
        "[null]",
        "{\"type\":\"event\"}",
        "{\"type\":7}",
    ] {
        let witness = Witness::new();
        witness.script.pretend_sockets();
        let machine = witness.machine_at("ws://example.test/ws", json!({}));
        machine.connect();
        witness.greet(0);
        witness.play(0, "onmessage", &json!({ "data": frame }));
        let errors = witness.notes("error");
        assert_eq!(errors.len(), 1, "{frame}");
        assert_eq!(errors[0][1]["code"], "protocol", "{frame}");
    }
}

#[wasm_bindgen_test]
fn server_that_greets_in_another_tongue() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = witness.machine_at("ws://example.test/ws", json!({}));
    machine.connect();
    witness.play(0, "onopen", &json!({}));
    witness.play(0, "onmessage", &json!({ "data": "0{\"sid\":1}" }));
    let status = witness.notes("state").last().unwrap()[1].clone();
    assert_eq!(status["error"]["code"], "protocol", "{status}");
}

#[wasm_bindgen_test]
fn newer_server_may_say_more() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = witness.machine_at("ws://example.test/ws", json!({}));
    machine.connect();
    witness.greet(0);
    let before = witness.count();
    witness.frame(0, &json!([{ "type": "weather", "is": "fine" }]));
    assert_eq!(witness.count(), before);
}

#[wasm_bindgen_test]
fn closing_with_a_code() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = witness.machine_at("ws://example.test/ws", json!({}));
    machine.connect();
    witness.greet(0);
    witness.play(0, "onclose", &json!({ "code": 4000, "reason": "enough" }));
    let status = witness.notes("state").last().unwrap()[1].clone();
    assert_eq!(status["state"], "failed", "{status}");
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(4000), &json!("enough"))
    );
}
