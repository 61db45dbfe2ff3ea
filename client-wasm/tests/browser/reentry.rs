//! Callbacks that call back in.

use std::rc::Rc;

use serde_json::json;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::witness::{Witness, fresh, publish};

#[wasm_bindgen_test]
async fn subscribes_inside_a_message_and_inside_a_state() {
    let witness = Witness::new();
    let machine = Rc::new(witness.machine_at(&crate::witness::server_url(), json!({})));
    let (first, second) = (fresh("first."), fresh("second."));
    let (again, name) = (Rc::clone(&machine), first.clone());
    witness.on("state", move || again.subscribe(&name, None).unwrap());
    let (again, name) = (Rc::clone(&machine), second.clone());
    witness.on("message", move || again.subscribe(&name, None).unwrap());
    machine.connect();
    witness.channel(&first, "subscribed").await;
    publish(&first, "e", json!(1)).await;
    witness.channel(&second, "subscribed").await;
}

#[wasm_bindgen_test]
async fn disconnects_inside_a_state() {
    let witness = Witness::new();
    let machine = Rc::new(witness.machine_at(&crate::witness::server_url(), json!({})));
    let again = Rc::clone(&machine);
    witness.on("state", move || again.disconnect());
    machine.connect();
    witness.state("connecting").await;
    witness.state("disconnected").await;
    let again = Rc::clone(&machine);
    witness.on("state", move || again.reconnect_now());
    machine.connect();
    witness.state("connected").await;
}

#[wasm_bindgen_test]
fn message_that_disconnects_is_the_last_of_its_batch() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = Rc::new(witness.machine_at("ws://example.test/ws", json!({})));
    machine.connect();
    witness.greet(0);
    machine.subscribe("orders", None).unwrap();
    let id = witness.sent(0)[0]["id"].clone();
    witness.frame(
        0,
        &json!({ "type": "subscription_succeeded", "id": id, "channel": "orders", "recovered": false }),
    );
    let again = Rc::clone(&machine);
    witness.on("message", move || again.disconnect());
    let event = |n: u32| json!({ "type": "event", "channel": "orders", "event": "n", "data": n });
    witness.frame(0, &json!([event(1), event(2)]));
    assert_eq!(witness.notes("message").len(), 1);
    assert_eq!(
        witness.notes("state").last().unwrap()[1]["state"],
        "disconnected"
    );
}

#[wasm_bindgen_test]
fn message_that_unsubscribes_is_the_last_of_its_channel() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = Rc::new(witness.machine_at("ws://example.test/ws", json!({})));
    machine.connect();
    witness.greet(0);
    for (at, channel) in ["left", "kept"].into_iter().enumerate() {
        machine.subscribe(channel, None).unwrap();
        let id = witness.sent(0)[at]["id"].clone();
        witness.frame(
            0,
            &json!({ "type": "subscription_succeeded", "id": id, "channel": channel, "recovered": false }),
        );
    }
    let again = Rc::clone(&machine);
    witness.on("message", move || again.unsubscribe("left"));
    let event =
        |channel: &str| json!({ "type": "event", "channel": channel, "event": "e", "data": 1 });
    witness.frame(0, &json!([event("left"), event("left"), event("kept")]));
    let channels: Vec<_> = witness
        .notes("message")
        .iter()
        .map(|note| note[1].clone())
        .collect();
    assert_eq!(channels, ["left", "kept"]);
}

#[wasm_bindgen_test]
fn closed_inside_a_callback_says_nothing_more() {
    let witness = Witness::new();
    witness.script.pretend_sockets();
    let machine = Rc::new(witness.machine_at("ws://example.test/ws", json!({})));
    machine.connect();
    let again = Rc::clone(&machine);
    witness.on("state", move || again.close());
    machine.subscribe("orders", None).unwrap();
    let before = witness.count();
    witness.greet(0);
    assert_eq!(witness.count(), before + 1, "only that it is connected");
    machine.connect();
    machine.disconnect();
    assert_eq!(witness.count(), before + 1);
}
