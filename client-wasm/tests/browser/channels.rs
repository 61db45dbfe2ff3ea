//! Subscriptions, messages, requests, presence.

use serde_json::json;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::witness::{Witness, fresh, publish, pull};

#[wasm_bindgen_test]
async fn publish_reaches_the_other_page() {
    let (ann, ann_machine) = Witness::connected(json!({ "token": "user:ann" })).await;
    let (ben, ben_machine) = Witness::connected(json!({ "token": "user:ben" })).await;
    let channel = fresh("open-");
    for (witness, machine) in [(&ann, &ann_machine), (&ben, &ben_machine)] {
        machine.subscribe(&channel, None).unwrap();
        let note = witness.channel(&channel, "subscribed").await;
        assert_eq!(
            note,
            json!(["channel", channel, "subscribed", "subscribing", null, false])
        );
    }
    let data = json!({ "on": true, "text": "ä\u{2028}😀", "n": 1.5, "nothing": null });
    let request = ann_machine.publish(&channel, "typing", data.to_string(), None);
    assert_eq!(ann.done(request.unwrap()).await[2], json!(null));
    let message = ben.message().await;
    let expect = json!([
        "message", channel, "typing", data, null, null, "ann", null, false
    ]);
    assert_eq!(message, expect);
}

#[wasm_bindgen_test]
async fn payloads_of_every_kind() {
    let (witness, machine) = Witness::connected(json!({})).await;
    let channel = fresh("any.");
    machine.subscribe(&channel, None).unwrap();
    witness.channel(&channel, "subscribed").await;
    for data in [
        json!(null),
        json!(false),
        json!(0),
        json!(""),
        json!([]),
        json!({ "a": [1] }),
    ] {
        publish(&channel, "e", data.clone()).await;
        assert_eq!(witness.message().await[3], data);
    }
}

#[wasm_bindgen_test]
async fn unsubscribed_channel_is_silent() {
    let (witness, machine) = Witness::connected(json!({})).await;
    let (left, fence) = (fresh("left."), fresh("fence."));
    for channel in [&left, &fence] {
        machine.subscribe(channel, None).unwrap();
        witness.channel(channel, "subscribed").await;
    }
    machine.unsubscribe(&left);
    publish(&left, "e", json!(1)).await;
    publish(&fence, "e", json!(2)).await;
    assert_eq!(witness.message().await[1], json!(fence));
}

#[wasm_bindgen_test]
async fn server_ends_a_subscription() {
    let (witness, machine) = Witness::connected(json!({})).await;
    let channel = fresh("ended.");
    machine.subscribe(&channel, None).unwrap();
    witness.channel(&channel, "subscribed").await;
    let order = json!({ "socket_id": witness.socket_id(), "channel": channel });
    pull("unsubscribe", order).await;
    let note = witness.channel(&channel, "closed").await;
    assert_eq!(note[4]["code"], "rejected");
    assert!(note[4]["serverCode"].is_u64());
}

#[wasm_bindgen_test]
async fn refused_requests_say_why() {
    let (witness, machine) = Witness::connected(json!({ "token": "user:ann" })).await;
    let request = machine.publish("orders", "e", "1".to_owned(), None);
    let done = witness.done(request.unwrap()).await;
    assert_eq!(done[2]["code"], "rejected");
    assert!(done[2]["serverCode"].is_u64());
    assert_eq!(done[2]["retryable"], false);
    let too_long = format!("\"{}\"", "x".repeat(2 << 20));
    let request = machine.publish("orders", "e", too_long, None);
    let done = witness.done(request.unwrap()).await;
    assert_eq!(done[2]["code"], "payload-too-large");
}

#[wasm_bindgen_test]
async fn history_rewind_and_since() {
    let (witness, machine) = Witness::connected(json!({})).await;
    let channel = fresh("h-past.");
    for n in 1..=4 {
        publish(&channel, "n", json!(n)).await;
    }
    machine
        .subscribe(&channel, Some(json!({ "rewind": 2 })))
        .unwrap();
    witness.channel(&channel, "subscribed").await;
    for n in 3..=4 {
        let message = witness.message().await;
        assert_eq!(
            (&message[3], &message[8]),
            (&json!(n), &json!(true)),
            "{message}"
        );
    }
    let request = machine.history(&channel, None, Some(3)).unwrap();
    let done = witness.done(request).await;
    let events = done[3]["events"].as_array().unwrap();
    assert_eq!(events.len(), 3, "{done}");
    assert_eq!(
        (&events[2]["data"], &events[2]["offset"]),
        (&json!(4), &json!(4))
    );
    let kept = machine.position(&channel);
    assert_eq!(kept["offset"], 4);

    publish(&channel, "n", json!(5)).await;
    let (other, other_machine) = Witness::connected(json!({})).await;
    other_machine
        .subscribe(&channel, Some(json!({ "since": kept })))
        .unwrap();
    let note = other.channel(&channel, "subscribed").await;
    assert_eq!(note[5], true, "{note}");
    assert_eq!(
        other.message().await[3],
        json!(5),
        "continues where the kept position stands"
    );
}

#[wasm_bindgen_test]
async fn members_come_and_go() {
    let (ann, ann_machine) = Witness::connected(json!({ "token": "user:ann" })).await;
    let channel = fresh("presence-");
    ann_machine.subscribe(&channel, None).unwrap();
    let note = ann.next(&["[\"members\""]).await;
    assert_eq!(
        note,
        json!(["members", channel, [{ "id": "ann", "info": { "name": "ann" } }], 1])
    );

    let (ben, ben_machine) = Witness::connected(json!({ "token": "user:ben" })).await;
    ben_machine.subscribe(&channel, None).unwrap();
    let note = ann.next(&["[\"joined\""]).await;
    assert_eq!(note, json!(["joined", channel, "ben", { "name": "ben" }]));
    let note = ben.next(&["[\"members\""]).await;
    assert_eq!(note[3], 2);
    ben_machine.disconnect();
    let note = ann.next(&["[\"left\""]).await;
    assert_eq!((&note[1], &note[2]), (&json!(channel), &json!("ben")));
    assert!(note[3].is_string(), "a reason: {note}");
}

#[wasm_bindgen_test]
fn names_are_checked() {
    let witness = Witness::new();
    let machine = witness.machine_at("ws://127.0.0.1:9/ws", json!({}));
    let check = |name: &str, expect: &str| {
        assert_eq!(machine.subscribe(name, None).unwrap_err(), expect);
    };
    check("", "the channel name must not be empty");
    check("a b", "the channel name must not contain a space (byte 1)");
    check(
        &"x".repeat(201),
        "the channel name may have at most 200 bytes, this one has 201",
    );
}
