//! Channel tokens: from the endpoint, and from a function.

use serde_json::json;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::witness::{Endpoint, Witness, ask_endpoint, fresh, publish, thrower, to_js};

/// A connection of `ann` whose channel tokens come from the server's endpoint.
async fn with_endpoint(user: &str) -> (Witness, std::rc::Rc<crate::machine::Machine>) {
    let witness = Witness::new();
    let headers = json!({ "authorization": format!("Bearer user:{user}") });
    witness.answer("headers", move |_| {
        js_sys::Promise::resolve(&to_js(&headers)).into()
    });
    let options = json!({ "token": "user:ann", "authEndpoint": "", "authCredentials": "omit" });
    let machine = witness.connect(options);
    witness.state("connected").await;
    (witness, machine)
}

#[wasm_bindgen_test]
async fn private_channel_is_granted() {
    let (witness, machine) = with_endpoint("ann").await;
    let channel = fresh("private-ok.");
    machine.subscribe(&channel, None).unwrap();
    witness.next(&["[\"headers\""]).await;
    witness.channel(&channel, "subscribed").await;
    publish(&channel, "secret", json!(1)).await;
    assert_eq!(witness.message().await[2], "secret");
}

#[wasm_bindgen_test]
async fn private_channel_is_refused() {
    let (witness, machine) = with_endpoint("ann").await;
    let channel = fresh("private-no.");
    machine.subscribe(&channel, None).unwrap();
    let note = witness.channel(&channel, "failed").await;
    assert_eq!(note[4]["code"], "auth-forbidden");
    assert_eq!(note[4]["status"], 403);
    assert_eq!(note[4]["retryable"], false);
}

#[wasm_bindgen_test]
async fn caller_without_credentials_is_refused() {
    let (witness, machine) = with_endpoint("").await;
    let channel = fresh("private-ok.");
    machine.subscribe(&channel, None).unwrap();
    let note = witness.channel(&channel, "failed").await;
    assert_eq!(note[4]["code"], "auth-forbidden");
    assert_eq!(note[4]["status"], 401);
}

#[wasm_bindgen_test]
async fn endpoint_that_is_not_there_is_asked_again() {
    let witness = Witness::new();
    let options =
        json!({ "token": "user:ann", "authEndpoint": "http://127.0.0.1:9/auth", "backoffMin": 1 });
    let machine = witness.connect(options);
    machine.subscribe("private-ok.x", None).unwrap();
    let note = witness.next(&["[\"channel\"", "\"auth-http\""]).await;
    assert_eq!(note[4]["retryable"], true);
    witness.channel("private-ok.x", "authorizing").await;
}

#[wasm_bindgen_test]
async fn function_grants() {
    let witness = Witness::new();
    witness.answer("authorize", |request| ask_endpoint("ann", &request));
    let machine = witness.connect(json!({ "token": "user:ann" }));
    let channel = fresh("private-ok.");
    machine.subscribe(&channel, None).unwrap();
    let note = witness.next(&["[\"authorize\""]).await;
    assert_eq!(note[1]["channel"], json!(channel));
    assert_eq!(note[1]["reason"], "subscribe");
    witness.channel(&channel, "subscribed").await;
}

#[wasm_bindgen_test]
async fn function_refuses_for_good() {
    let witness = Witness::new();
    witness.answer_with("authorize", &thrower("not yours", "UnauthorizedError"));
    let machine = witness.connect(json!({ "token": "user:ann" }));
    machine.subscribe("private-ok.x", None).unwrap();
    let note = witness.channel("private-ok.x", "failed").await;
    assert_eq!(note[4]["code"], "auth-forbidden");
}

#[wasm_bindgen_test]
async fn function_that_fails_is_asked_again() {
    let witness = Witness::new();
    witness.answer_with("authorize", &thrower("no network", "Error"));
    let machine = witness.connect(json!({ "token": "user:ann", "backoffMin": 1 }));
    machine.subscribe("private-ok.x", None).unwrap();
    witness.next(&["[\"authorize\""]).await;
    witness.next(&["[\"authorize\""]).await;
}

#[wasm_bindgen_test]
async fn question_without_an_answer_is_asked_again() {
    let witness = Witness::new();
    let never = js_sys::Promise::new(&mut |_, _| {});
    witness.answer("authorize", move |_| never.clone().into());
    let options = json!({ "token": "user:ann", "authTimeout": 50, "backoffMin": 1 });
    let machine = witness.connect(options);
    machine.subscribe("private-ok.x", None).unwrap();
    let note = witness.next(&["[\"channel\"", "\"auth-timeout\""]).await;
    assert_eq!(note[4]["retryable"], true);
    witness.next(&["[\"authorize\""]).await;
}

#[wasm_bindgen_test]
async fn endpoint_says_when_to_ask_again() {
    let witness = Witness::new();
    let options =
        json!({ "token": "user:ann", "authEndpoint": "", "backoffMin": 1, "backoffMax": 1 });
    let machine = witness.connect(options);
    witness.state("connected").await;
    let endpoint = Endpoint::pretend(503, "1");
    machine.subscribe("private-ok.x", None).unwrap();
    let note = witness.next(&["[\"channel\"", "\"auth-http\""]).await;
    let asked = js_sys::Date::now();
    endpoint.release();
    assert_eq!(note[4]["retryable"], true);
    witness.channel("private-ok.x", "authorizing").await;
    let waited = js_sys::Date::now() - asked;
    assert!(waited >= 990.0, "{waited} ms");
}

#[wasm_bindgen_test]
async fn endpoint_that_answers_something_else_is_called_so() {
    const HTML: &str = "text/html";
    const JSON: &str = "application/json";
    let elsewhere = "the auth endpoint redirects, which is not followed";
    for (status, kind, body, reason) in [
        (
            200,
            HTML,
            "<!doctype html>",
            "answered 200 with text/html in place of",
        ),
        (204, HTML, "", "answered 204 with nothing in place of"),
        (
            200,
            JSON,
            "{\"token\":\"x\"}",
            "answered 200 with other JSON in place of",
        ),
        (
            429,
            JSON,
            "{\"error\":\"too often\"}",
            "answered 429: too often",
        ),
        (200, JSON, "…", "it has more than 1048576 bytes"),
        (0, HTML, "", elsewhere),
    ] {
        let witness = Witness::new();
        let options = json!({ "token": "user:ann", "authEndpoint": "", "backoffMin": 60_000 });
        let machine = witness.connect(options);
        witness.state("connected").await;
        let endpoint = Endpoint::answers(status, kind, body);
        machine.subscribe("private-ok.x", None).unwrap();
        let note = witness.next(&["[\"channel\"", "\"auth-http\""]).await;
        endpoint.release();
        let message = note[4]["message"].as_str().unwrap();
        assert!(
            message.starts_with("no channel token could be had"),
            "{message}"
        );
        assert!(message.contains(reason), "{message}");
        assert_eq!(endpoint.redirect(), "manual");
    }
}

#[wasm_bindgen_test]
async fn what_a_function_says_is_in_the_error() {
    let witness = Witness::new();
    witness.answer_with("authorize", &thrower("no network", "Error"));
    let machine = witness.connect(json!({ "token": "user:ann", "backoffMin": 1 }));
    machine.subscribe("private-ok.x", None).unwrap();
    let note = witness.next(&["[\"channel\"", "\"auth-http\""]).await;
    assert_eq!(
        note[4]["message"],
        "no channel token could be had: no network"
    );
}

/// Subscribes to 60 private channels by way of the server's endpoint, which is asked as `counts` counts.
async fn sixty(counts: Endpoint, lists: bool) -> Endpoint {
    let witness = Witness::new();
    witness.answer("headers", move |_| {
        js_sys::Promise::resolve(&to_js(&json!({ "authorization": "Bearer user:ann" }))).into()
    });
    let options = json!({
        "token": "user:ann", "authEndpoint": "", "authCredentials": "omit", "authLists": lists, "backoffMin": 1, "backoffMax": 1,
    });
    let machine = witness.connect(options);
    let channels: Vec<String> = (0..60)
        .map(|at| fresh(&format!("private-ok.{at:02}.")))
        .collect();
    for channel in &channels {
        machine.subscribe(channel, None).unwrap();
    }
    for _ in &channels {
        let parts = ["[\"channel\",\"private-ok.", "\",\"subscribed\""];
        witness.next(&parts).await;
    }
    counts.release();
    counts
}

#[wasm_bindgen_test]
async fn sixty_channels_are_one_request_where_lists_are_known() {
    let counts = sixty(Endpoint::counts(400, 0), true).await;
    assert_eq!((counts.requests(), counts.lists()), (1, 1));
}

#[wasm_bindgen_test]
async fn an_endpoint_of_the_application_is_asked_for_one_channel_at_a_time() {
    let counts = sixty(Endpoint::counts(400, 0), false).await;
    assert_eq!((counts.requests(), counts.lists()), (60, 0));
    assert!(counts.most() <= 10, "{} at once", counts.most());
}

#[wasm_bindgen_test]
async fn an_endpoint_that_refuses_lists_is_asked_for_one_channel_at_a_time() {
    let counts = sixty(Endpoint::counts(422, u32::MAX), true).await;
    assert_eq!((counts.requests(), counts.lists()), (61, 1));
    assert!(counts.most() <= 10, "{} at once", counts.most());
}

#[wasm_bindgen_test]
async fn an_endpoint_in_trouble_is_asked_for_lists_again() {
    let counts = sixty(Endpoint::counts(500, 1), true).await;
    assert_eq!(counts.lists(), counts.requests());
    assert!(counts.requests() < 60, "{} requests", counts.requests());
}

#[wasm_bindgen_test]
async fn headers_that_never_come_hold_nothing_up_for_ever() {
    let witness = Witness::new();
    let never = js_sys::Promise::new(&mut |_, _| {});
    witness.answer("headers", move |_| never.clone().into());
    let options = json!({
        "token": "user:ann", "authEndpoint": "", "authCredentials": "omit", "authTimeout": 50, "backoffMin": 1, "backoffMax": 1,
    });
    let machine = witness.connect(options);
    for at in 0..12 {
        let channel = fresh(&format!("private-ok.{at:02}."));
        machine.subscribe(&channel, None).unwrap();
    }
    witness.next(&["[\"channel\"", "\"auth-timeout\""]).await;
    witness.answer("headers", move |_| {
        js_sys::Promise::resolve(&to_js(&json!({ "authorization": "Bearer user:ann" }))).into()
    });
    for _ in 0..12 {
        let parts = ["[\"channel\",\"private-ok.", "\",\"subscribed\""];
        witness.next(&parts).await;
    }
}
