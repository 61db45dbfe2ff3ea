//! An application that writes down what it hears, and the server's levers.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::{Array, JSON, Object};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::machine::Machine;

#[wasm_bindgen(module = "/tests/browser/witness.js")]
extern "C" {
    /// The host's JavaScript.
    #[wasm_bindgen(js_name = Witness)]
    #[derive(Clone)]
    pub(crate) type Script;

    #[wasm_bindgen(constructor, js_class = "Witness")]
    fn new() -> Script;
    #[wasm_bindgen(method)]
    pub(crate) fn hear(this: &Script, name: &str, values: &Array);
    #[wasm_bindgen(method)]
    pub(crate) fn ask(this: &Script, name: &str, question: &JsValue) -> js_sys::Promise;
    #[wasm_bindgen(method)]
    pub(crate) fn has(this: &Script, name: &str) -> bool;
    #[wasm_bindgen(method, js_name = on)]
    pub(crate) fn on_call(this: &Script, name: &str, hook: &JsValue);
    #[wasm_bindgen(method)]
    fn answer(this: &Script, name: &str, method: &JsValue);
    #[wasm_bindgen(method)]
    fn find(this: &Script, from: u32, parts: &Array) -> js_sys::Promise;
    #[wasm_bindgen(method)]
    fn text(this: &Script, at: u32) -> String;
    #[wasm_bindgen(method)]
    fn length(this: &Script) -> u32;
    #[wasm_bindgen(method, js_name = keepSockets)]
    pub(crate) fn keep_sockets(this: &Script);
    #[wasm_bindgen(method, js_name = pretendSockets)]
    pub(crate) fn pretend_sockets(this: &Script);
    #[wasm_bindgen(method, js_name = release)]
    fn release_sockets(this: &Script);
    #[wasm_bindgen(method)]
    pub(crate) fn socket(this: &Script, at: i32) -> JsValue;

    /// What was taken from the page and not given back.
    pub(crate) type Holdings;

    #[wasm_bindgen(constructor)]
    pub(crate) fn new() -> Holdings;
    #[wasm_bindgen(method, js_name = timerCount)]
    pub(crate) fn timers(this: &Holdings) -> u32;
    #[wasm_bindgen(method, js_name = listenerCount)]
    pub(crate) fn listeners(this: &Holdings) -> i32;
    #[wasm_bindgen(method)]
    pub(crate) fn release(this: &Holdings);

    /// An endpoint that only gives excuses.
    pub(crate) type Endpoint;

    #[wasm_bindgen(static_method_of = Endpoint)]
    pub(crate) fn pretend(status: u16, retry_after: &str) -> Endpoint;
    #[wasm_bindgen(static_method_of = Endpoint)]
    pub(crate) fn answers(status: u16, content_type: &str, body: &str) -> Endpoint;
    #[wasm_bindgen(static_method_of = Endpoint)]
    pub(crate) fn counts(status: u16, refusals: u32) -> Endpoint;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn requests(this: &Endpoint) -> u32;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn lists(this: &Endpoint) -> u32;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn most(this: &Endpoint) -> u32;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn redirect(this: &Endpoint) -> String;
    #[wasm_bindgen(method)]
    pub(crate) fn release(this: &Endpoint);

    pub(crate) fn reported(act: &mut dyn FnMut()) -> Array;
    pub(crate) fn dispatch(target: &str, kind: &str, persisted: bool);
    fn play(socket: &JsValue, callback: &str, event: &JsValue);
    pub(crate) fn thrower(message: &str, name: &str) -> JsValue;
    #[wasm_bindgen(js_name = post)]
    fn post_json(url: &str, body: &JsValue, headers: &JsValue) -> js_sys::Promise;
}

/// A host, and how far its notes have been read.
pub(crate) struct Witness {
    pub(crate) script: Script,
    read: Cell<u32>,
}

impl Witness {
    pub(crate) fn new() -> Self {
        Self {
            script: Script::new(),
            read: Cell::new(0),
        }
    }

    /// A machine that this is the host of.
    pub(crate) fn machine_at(&self, url: &str, options: Value) -> Machine {
        Machine::new(url, &options, &self.script)
    }

    /// A machine of the suite's server, asked to connect.
    pub(crate) fn connect(&self, options: Value) -> Rc<Machine> {
        let machine = Rc::new(self.machine_at(&server_url(), options));
        machine.connect();
        machine
    }

    /// A machine that has connected.
    pub(crate) async fn connected(options: Value) -> (Self, Rc<Machine>) {
        let witness = Self::new();
        let machine = witness.connect(options);
        witness.state("connected").await;
        (witness, machine)
    }

    /// The next note whose JSON text holds all of `parts`; what is before it is skipped.
    pub(crate) async fn next(&self, parts: &[&str]) -> Value {
        let list: Array = parts.iter().map(|part| JsValue::from_str(part)).collect();
        let found = JsFuture::from(self.script.find(self.read.get(), &list)).await;
        let at = match found {
            Ok(at) => at.as_f64().unwrap() as u32,
            Err(error) => panic!("{}", String::from(js_sys::Error::from(error).message())),
        };
        self.read.set(at + 1);
        serde_json::from_str(&self.script.text(at)).unwrap()
    }

    /// The status that the connection is in this state.
    pub(crate) async fn state(&self, state: &str) -> Value {
        let part = format!("\"state\":\"{state}\"");
        self.next(&["[\"state\",", &part]).await[1].take()
    }

    /// The note that a channel is in this state.
    pub(crate) async fn channel(&self, channel: &str, state: &str) -> Value {
        let part = format!("[\"channel\",\"{channel}\",\"{state}\"");
        self.next(&[&part]).await
    }

    /// The next message.
    pub(crate) async fn message(&self) -> Value {
        self.next(&["[\"message\""]).await
    }

    /// The answer to a request.
    pub(crate) async fn done(&self, request: u32) -> Value {
        self.next(&[&format!("[\"done\",{request},")]).await
    }

    /// Every note of the host's method of this name.
    pub(crate) fn notes(&self, name: &str) -> Vec<Value> {
        let notes =
            (0..self.count()).map(|at| serde_json::from_str(&self.script.text(at)).unwrap());
        notes.filter(|note: &Value| note[0] == name).collect()
    }

    /// Whether the host's method of this name was ever called.
    pub(crate) fn has_heard(&self, name: &str) -> bool {
        !self.notes(name).is_empty()
    }

    /// The id of the newest connection.
    pub(crate) fn socket_id(&self) -> String {
        let notes = (0..self.count()).rev().map(|at| self.script.text(at));
        let ids = notes.filter_map(|note| {
            let note: Value = serde_json::from_str(&note).unwrap();
            note[1]["socketId"].as_str().map(str::to_owned)
        });
        ids.into_iter().next().expect("a connection was made")
    }

    /// How many notes there are.
    pub(crate) fn count(&self) -> u32 {
        self.script.length()
    }

    /// Calls `hook` whenever the host's method of this name is called.
    pub(crate) fn on(&self, name: &str, hook: impl FnMut() + 'static) {
        let hook = Closure::<dyn FnMut()>::new(hook);
        self.script.on_call(name, &hook.into_js_value());
    }

    /// Gives the host an optional method.
    pub(crate) fn answer(&self, name: &str, method: impl Fn(JsValue) -> JsValue + 'static) {
        let method = Closure::<dyn Fn(JsValue) -> JsValue>::new(method);
        self.script.answer(name, &method.into_js_value());
    }

    /// Gives the host an optional method that is a JavaScript function.
    pub(crate) fn answer_with(&self, name: &str, function: &JsValue) {
        self.script.answer(name, function);
    }

    /// The frames that went into a socket that goes nowhere.
    pub(crate) fn sent(&self, socket: i32) -> Vec<Value> {
        let sent = js_sys::Reflect::get(&self.script.socket(socket), &"sent".into()).unwrap();
        let parse = |text: JsValue| serde_json::from_str(&text.as_string().unwrap()).unwrap();
        Array::from(&sent).iter().map(parse).collect()
    }

    /// A socket that goes nowhere opens, greets, or says something else.
    pub(crate) fn play(&self, socket: i32, callback: &str, event: &Value) {
        play(&self.script.socket(socket), callback, &to_js(event));
    }

    /// The callbacks of a socket, as they are now.
    pub(crate) fn handlers(&self, socket: i32) -> JsValue {
        Object::assign(&Object::new(), self.script.socket(socket).unchecked_ref()).into()
    }

    /// Calls a callback that a socket had.
    pub(crate) fn call(&self, handlers: &JsValue, callback: &str, event: &Value) {
        play(handlers, callback, &to_js(event));
    }

    /// A socket that goes nowhere brings a frame.
    pub(crate) fn frame(&self, socket: i32, frame: &Value) {
        self.play(socket, "onmessage", &json!({ "data": frame.to_string() }));
    }

    /// A socket that goes nowhere opens and greets.
    pub(crate) fn greet(&self, socket: i32) {
        self.play(socket, "onopen", &json!({}));
        self.frame(
            socket,
            &json!({
                "type": "connected", "socket_id": "0123456789abcdef0123456789abcdef", "protocol": 1,
                "ping_interval": 30_000, "max_payload_size": 1_048_576, "server_time": 1_700_000_000_000_u64,
            }),
        );
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.script.release_sockets();
    }
}

/// Where the suite's server is: `cargo xtask test` starts it and says so at compile time, as a page has no environment.
pub(crate) fn server_url() -> String {
    let url = option_env!("FANFARE_TEST_URL");
    url.expect("FANFARE_TEST_URL is set when the suite is compiled, see `cargo xtask test`")
        .to_owned()
}

/// Pulls one of the server's levers, see `fanfare_tests::suite`.
pub(crate) async fn pull(lever: &str, order: Value) -> Value {
    let url = server_url().replace("ws://", "http://");
    let url = url.replace("/ws", &format!("/test/{lever}"));
    let answer = JsFuture::from(post_json(&url, &to_js(&order), &JsValue::UNDEFINED)).await;
    let answer: Value = serde_json::from_str(&answer.unwrap().as_string().unwrap()).unwrap();
    assert_eq!(answer["status"], 200, "{answer}");
    answer["body"].clone()
}

/// Publishes from the server.
pub(crate) async fn publish(channel: &str, event: &str, data: Value) {
    pull(
        "publish",
        json!({ "channel": channel, "event": event, "data": data }),
    )
    .await;
}

/// Asks the auth endpoint for a channel token, as the given user.
pub(crate) fn ask_endpoint(user: &str, request: &JsValue) -> JsValue {
    let field = |name: &str| js_sys::Reflect::get(request, &name.into()).unwrap();
    let body = json!({ "socket_id": field("socketId").as_string(), "channel": field("channel").as_string() });
    let url = format!("{}/auth", server_url().replace("ws://", "http://"));
    let headers = json!({ "authorization": format!("Bearer user:{user}") });
    let answer = post_json(&url, &to_js(&body), &to_js(&headers));
    wasm_bindgen_futures::future_to_promise(async move {
        let text = JsFuture::from(answer).await?;
        let answer: Value = serde_json::from_str(&text.as_string().unwrap()).unwrap();
        Ok(to_js(&answer["body"]))
    })
    .into()
}

/// A name that no other test uses.
pub(crate) fn fresh(prefix: &str) -> String {
    format!("{prefix}{:x}", (js_sys::Math::random() * 1e15) as u64)
}

pub(crate) fn to_js(value: &Value) -> JsValue {
    JSON::parse(&value.to_string()).unwrap()
}
