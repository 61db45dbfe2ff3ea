//! The page around the client, and what is left of it afterwards.

use serde_json::json;
use wasm_bindgen_test::wasm_bindgen_test;
use web_sys::WebSocket;

use wasm_bindgen::JsCast as _;

use crate::witness::{Holdings, Witness, dispatch, fresh, publish};

#[wasm_bindgen_test]
async fn offline_and_online() {
    let witness = Witness::new();
    let options = json!({ "backoffMin": 60_000, "backoffMax": 60_000 });
    let machine = witness.machine_at("ws://127.0.0.1:9/ws", options);
    machine.connect();
    witness.next(&["\"state\"", "\"retryAt\""]).await;
    dispatch("window", "offline", false);
    let status = witness.state("offline").await;
    let wait = status["retryAt"].as_f64().unwrap() - js_sys::Date::now();
    assert!(wait > 25_000.0, "attempts are rare: {wait} ms");
    dispatch("window", "online", false);
    let status = witness.state("connecting").await;
    assert_eq!(status["attempt"], 0);
}

#[wasm_bindgen_test]
fn false_alarm_is_found_out() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = witness.machine_at("ws://example.test/ws", json!({}));
    machine.connect();
    witness.greet(0);
    for kind in ["offline", "online"] {
        let before = witness.sent(0).len();
        dispatch("window", kind, false);
        assert_eq!(witness.sent(0)[before]["type"], "ping", "{kind}");
        witness.frame(0, &json!({ "type": "pong", "timestamp": 0 }));
    }
    let before = witness.sent(0).len();
    dispatch("document", "visibilitychange", false);
    assert_eq!(
        witness.sent(0)[before]["type"],
        "ping",
        "the page of the suite is visible"
    );
    assert_eq!(
        witness.notes("state").last().unwrap()[1]["state"],
        "connected"
    );
}

#[wasm_bindgen_test]
async fn page_goes_into_the_cache_and_comes_back() {
    let (witness, machine) = Witness::connected(json!({})).await;
    let channel = fresh("h-cached.");
    machine.subscribe(&channel, None).unwrap();
    witness.channel(&channel, "subscribed").await;
    dispatch("window", "pagehide", true);
    witness.state("offline").await;
    witness.channel(&channel, "suspended").await;
    publish(&channel, "n", json!(1)).await;
    dispatch("window", "pageshow", true);
    let status = witness.state("connected").await;
    assert_eq!(status["resumed"], true);
    let message = witness.message().await;
    assert_eq!(
        (&message[3], &message[8]),
        (&json!(1), &json!(true)),
        "{message}"
    );
}

#[wasm_bindgen_test]
fn page_that_is_left_for_good_is_no_business_of_ours() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = witness.machine_at("ws://example.test/ws", json!({}));
    machine.connect();
    witness.greet(0);
    let before = witness.count();
    dispatch("window", "pagehide", false);
    dispatch("window", "pageshow", false);
    assert_eq!(witness.count(), before);
}

#[wasm_bindgen_test]
async fn nothing_is_left_behind() {
    let holdings = Holdings::new();
    let witness = Witness::new();
    witness.script.keep_sockets();
    let machine = witness.machine_at(&crate::witness::server_url(), json!({}));
    machine.connect();
    witness.state("connected").await;
    machine.subscribe("orders", None).unwrap();
    witness.channel("orders", "subscribed").await;
    assert_eq!(holdings.timers(), 1, "one timer, whatever is waited for");
    assert!(holdings.listeners() > 0);
    let before = witness.count();
    drop(machine);
    let (timers, listeners) = (holdings.timers(), holdings.listeners());
    holdings.release();
    assert_eq!((timers, listeners), (0, 0));
    let socket: WebSocket = witness.script.socket(0).unchecked_into();
    assert!(socket.ready_state() >= WebSocket::CLOSING);
    assert!(socket.onmessage().is_none() && socket.onclose().is_none());
    dispatch("window", "online", false);
    assert_eq!(witness.count(), before);
}

#[wasm_bindgen_test]
fn page_events_can_be_ignored() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = witness.machine_at("ws://example.test/ws", json!({ "pageEvents": false }));
    machine.connect();
    witness.greet(0);
    let before = witness.sent(0).len();
    dispatch("window", "offline", false);
    assert_eq!(witness.sent(0).len(), before);
}
