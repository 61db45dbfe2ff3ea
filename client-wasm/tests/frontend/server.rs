//! The suite's server and its levers, as a page in Rust reaches them.

use fanfare_client_wasm::frontend::AuthQuestion;
use gloo_net::http::Request;
use js_sys::Promise;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

/// Where the suite's server is: `cargo xtask test` starts it and says so at compile time, as a page has no environment.
pub(crate) fn url() -> String {
    let url = option_env!("FANFARE_TEST_URL");
    url.expect("FANFARE_TEST_URL is set when the suite is compiled, see `cargo xtask test`")
        .to_owned()
}

/// Where channel tokens are given.
pub(crate) fn endpoint() -> String {
    format!("{}/auth", url().replace("ws://", "http://"))
}

/// Pulls one of the server's levers, see `fanfare_tests::suite`; its answer as text.
pub(crate) async fn pull(lever: &str, order: &str) -> String {
    let at = url()
        .replace("ws://", "http://")
        .replace("/ws", &format!("/test/{lever}"));
    post(&at, "user:nobody", order).await
}

/// Publishes JSON text from the server.
pub(crate) async fn publish(channel: &str, event: &str, data: &str) {
    let order = format!("{{\"channel\":\"{channel}\",\"event\":\"{event}\",\"data\":{data}}}");
    pull("publish", &order).await;
}

/// A channel token from the endpoint, for this user.
pub(crate) async fn ask_endpoint(user: &str, question: &AuthQuestion) -> String {
    let (socket_id, channel) = (question.socket_id, &question.channel);
    let order = format!("{{\"socket_id\":\"{socket_id}\",\"channel\":\"{channel}\"}}");
    let answer = post(&endpoint(), &format!("user:{user}"), &order).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    answer["auth"].as_str().unwrap().to_owned()
}

async fn post(at: &str, token: &str, body: &str) -> String {
    let request = Request::post(at)
        .header("content-type", "application/json")
        .header("authorization", &format!("Bearer {token}"));
    let response = request.body(body).unwrap().send().await.unwrap();
    let text = response.text().await.unwrap();
    assert!(response.ok(), "{at}: {text}");
    text
}

/// Waits until something is so, and fails when it is not so within a minute.
pub(crate) async fn eventually(mut is_so: impl FnMut() -> bool) {
    let end = js_sys::Date::now() + 60_000.0;
    while !is_so() {
        assert!(js_sys::Date::now() < end, "it did not come to pass");
        turn().await;
    }
}

/// Lets the page do what it has to do.
async fn turn() {
    let mut later = |resolve: js_sys::Function, _| {
        let window = web_sys::window().unwrap();
        window
            .set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, 5)
            .unwrap();
    };
    let _: Result<JsValue, JsValue> = JsFuture::from(Promise::new(&mut later)).await;
}

/// A name that no other test uses.
pub(crate) fn fresh(prefix: &str) -> String {
    format!("{prefix}{:x}", (js_sys::Math::random() * 1e15) as u64)
}
