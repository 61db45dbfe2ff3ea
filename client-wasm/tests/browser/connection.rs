//! Connecting, tokens, coming back.

use serde_json::json;
use wasm_bindgen::JsValue;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::witness::{Witness, fresh, publish, pull, thrower};

#[wasm_bindgen_test]
async fn anonymous_connection() {
    let witness = Witness::new();
    let machine = witness.connect(json!({}));
    let status = witness.state("connecting").await;
    assert_eq!(status["previous"], "idle");
    let status = witness.state("connected").await;
    assert_eq!(status["socketId"].as_str().unwrap().len(), 32);
    assert_eq!(status["userId"], json!(null));
    assert_eq!(status["resumed"], false);
    machine.disconnect();
    witness.state("disconnected").await;
}

#[wasm_bindgen_test]
async fn token_says_who_it_is() {
    let (witness, machine) = Witness::connected(json!({ "token": "user:ann" })).await;
    machine.set_token(Some("user:ben".to_owned()));
    let status = witness
        .next(&["\"state\":\"connected\"", "\"userId\":\"ben\""])
        .await;
    assert_eq!(status[1]["state"], "connected");
}

#[wasm_bindgen_test]
async fn refused_token_is_final() {
    let witness = Witness::new();
    let _machine = witness.connect(json!({ "token": "nonsense" }));
    let status = witness.state("failed").await;
    assert_eq!(status["error"]["code"], "unauthorized");
    assert_eq!(status["error"]["retryable"], false);
}

#[wasm_bindgen_test]
async fn provider_is_asked_and_asked_again_before_its_token_ends() {
    let witness = Witness::new();
    let user = fresh("ann");
    let token = format!("user:{user}:2500");
    witness.answer("token", move |_| JsValue::from_str(&token));
    let machine = witness.connect(json!({}));
    witness.next(&["[\"token\",\"connect\"]"]).await;
    let first = witness.state("connected").await;
    assert_eq!(first["userId"], json!(user));
    witness.next(&["[\"token\",\"expiring\"]"]).await;
    // Past the end of the first token the connection is the same, and of use.
    witness.next(&["[\"token\",\"expiring\"]"]).await;
    let request = machine.publish(&fresh("open-"), "typing", "{}".to_owned(), None);
    let done = witness.done(request.unwrap()).await;
    assert_eq!(done[2], json!(null), "{done}");
    let connections = pull("drop", json!({ "socket_id": first["socketId"] })).await;
    assert_eq!(
        connections["dropped"], 1,
        "the first connection is still open"
    );
}

#[wasm_bindgen_test]
async fn provider_that_says_unauthorized_is_final() {
    let witness = Witness::new();
    witness.answer_with("token", &thrower("logged out", "UnauthorizedError"));
    let _machine = witness.connect(json!({}));
    let status = witness.state("failed").await;
    assert_eq!(status["error"]["code"], "unauthorized");
}

#[wasm_bindgen_test]
async fn provider_that_fails_is_asked_again() {
    let witness = Witness::new();
    witness.answer_with("token", &thrower("no network", "Error"));
    let _machine = witness.connect(json!({ "backoffMin": 1, "backoffMax": 2 }));
    let status = witness.next(&["\"state\"", "\"code\":\"token\""]).await;
    assert_eq!(status[1]["error"]["retryable"], true);
    witness.next(&["[\"token\",\"connect\"]"]).await;
}

#[wasm_bindgen_test]
async fn provider_without_a_token_is_anonymous() {
    let witness = Witness::new();
    witness.answer("token", |_| JsValue::NULL);
    let _machine = witness.connect(json!({}));
    let status = witness.state("connected").await;
    assert_eq!(status["userId"], json!(null));
}

#[wasm_bindgen_test]
async fn nobody_answers() {
    let witness = Witness::new();
    let machine = witness.machine_at("ws://127.0.0.1:9/ws", json!({ "backoffMin": 60_000 }));
    machine.connect();
    let status = witness.next(&["\"state\"", "\"retryAt\""]).await;
    assert_eq!(status[1]["error"]["code"], "transport");
    assert_eq!(status[1]["error"]["serverCode"], 1006);
    let retry_at = status[1]["retryAt"].as_f64().unwrap();
    assert!(retry_at - js_sys::Date::now() < 60_000.0);
    machine.reconnect_now();
    witness.state("connecting").await;
    witness.next(&["\"state\"", "\"attempt\":2"]).await;
}

#[wasm_bindgen_test]
async fn address_that_is_none() {
    let witness = Witness::new();
    let machine = witness.machine_at("ws://no host/", json!({ "backoffMin": 60_000 }));
    machine.connect();
    let status = witness.next(&["\"state\"", "\"retryAt\""]).await;
    assert_eq!(status[1]["error"]["code"], "transport");
    assert_ne!(
        status[1]["reason"],
        json!(null),
        "what the browser said is passed on"
    );
}

#[wasm_bindgen_test]
async fn comes_back_without_a_gap() {
    let (witness, machine) = Witness::connected(json!({ "backoffMin": 50 })).await;
    let channel = fresh("h-back.");
    machine.subscribe(&channel, None).unwrap();
    witness.channel(&channel, "subscribed").await;
    publish(&channel, "n", json!(1)).await;
    assert_eq!(witness.message().await[3], json!(1));
    let socket_id = witness.socket_id();
    let dropped = pull("drop", json!({ "socket_id": socket_id })).await;
    assert_eq!(dropped["dropped"], 1);
    for n in 2..=4 {
        publish(&channel, "n", json!(n)).await;
    }
    let status = witness.state("connected").await;
    assert_eq!(status["resumed"], true);
    assert_ne!(status["socketId"], json!(socket_id));
    publish(&channel, "n", json!(5)).await;
    for n in 2..=5 {
        let message = witness.message().await;
        assert_eq!(
            (&message[3], &message[4]),
            (&json!(n), &json!(n)),
            "{message}"
        );
    }
    assert!(!witness.has_heard("gap") && !witness.has_heard("reset"));
}
