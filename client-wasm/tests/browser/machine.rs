//! A page in Rust whose every closure writes down what it hears.

use std::cell::RefCell;
use std::rc::Rc;

use fanfare_client_wasm::frontend::{
    AuthQuestion, Builder, ChannelAuth, ClientError, ConnectionStatus, Error, FanfareClient, Gap,
    Listener, Member, Position, Refused, Reset, SubscribeOptions, Subscription,
};
use js_sys::Array;
use serde_json::{Value, json};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::RequestCredentials;

use crate::witness::{Script, to_js};

/// A client, its subscriptions by name, and the guards of its closures.
pub(crate) struct Machine {
    client: FanfareClient,
    script: Script,
    subscriptions: RefCell<Vec<Rc<Subscription>>>,
    listeners: RefCell<Vec<Listener>>,
    requests: std::cell::Cell<u32>,
}

impl Machine {
    pub(crate) fn new(url: &str, options: &Value, script: &Script) -> Self {
        let client = build(url, options, script);
        let machine = Self {
            client: client.clone(),
            script: script.clone(),
            subscriptions: RefCell::default(),
            listeners: RefCell::default(),
            requests: std::cell::Cell::new(0),
        };
        let hear = script.clone();
        let told = client.clone();
        let on_state = client.on_state(move |status| {
            let user = told.user_id().map(|user| user.to_string());
            note(&hear, "state", &[state(status, user)]);
        });
        let hear = script.clone();
        let on_error = client.on_error(move |error| {
            if let Error::Client(error) = error {
                note(&hear, "error", &[problem(error)]);
            }
        });
        *machine.listeners.borrow_mut() = vec![on_state, on_error];
        machine
    }

    pub(crate) fn connect(&self) {
        self.client.connect();
    }

    pub(crate) fn disconnect(&self) {
        self.client.disconnect();
    }

    pub(crate) fn reconnect_now(&self) {
        self.client.reconnect_now();
    }

    pub(crate) fn close(&self) {
        self.client.close();
    }

    pub(crate) fn set_token(&self, token: Option<String>) {
        self.client.set_token(token);
    }

    /// Subscribes, unless it has; what is wrong with the name comes back.
    pub(crate) fn subscribe(&self, channel: &str, options: Option<Value>) -> Result<(), String> {
        if self.find(channel).is_some() {
            return Ok(());
        }
        let options = subscribe_options(&options.unwrap_or_default());
        let subscription = self.client.subscribe_with(channel, options);
        let subscription = subscription.map_err(|error| error.to_string())?;
        self.listen(channel, &subscription);
        self.subscriptions.borrow_mut().push(Rc::new(subscription));
        Ok(())
    }

    pub(crate) fn unsubscribe(&self, channel: &str) {
        let mut left = self.subscriptions.take();
        let gone = left.iter().position(|it| it.channel().as_str() == channel);
        let gone = gone.map(|at| left.remove(at));
        *self.subscriptions.borrow_mut() = left;
        drop(gone);
    }

    /// Publishes JSON text.
    pub(crate) fn publish(
        &self,
        channel: &str,
        event: &str,
        json: String,
        _key: Option<String>,
    ) -> Result<u32, String> {
        let payload: Value = serde_json::from_str(&json).unwrap();
        let subscription = self
            .find(channel)
            .map_or_else(|| self.client.subscribe(channel).map(Rc::new), Ok);
        let subscription = subscription.map_err(|error| error.to_string())?;
        let request = subscription.publish(event, &payload);
        let request = request.map_err(|error| error.to_string())?;
        Ok(self.answer(async move {
            let _keep = subscription;
            request.await.map(|_| Value::Null)
        }))
    }

    /// Asks for past events.
    pub(crate) fn history(
        &self,
        channel: &str,
        since: Option<Position>,
        limit: Option<u32>,
    ) -> Result<u32, String> {
        let subscription = self.find(channel).expect("subscribed");
        let request = subscription.history(since, limit);
        Ok(self.answer(async move {
            let past = request.await?;
            let events = past.events.iter().map(|event| {
                let offset = event.position.map(|position| position.offset);
                json!({ "event": event.event, "offset": offset, "data": event.payload::<Value>().unwrap() })
            });
            Ok(json!({ "events": events.collect::<Vec<_>>() }))
        }))
    }

    /// Where a subscription stands.
    pub(crate) fn position(&self, channel: &str) -> Value {
        json!(self.find(channel).and_then(|it| it.position()))
    }

    fn find(&self, channel: &str) -> Option<Rc<Subscription>> {
        let subscriptions = self.subscriptions.borrow();
        let mut all = subscriptions.iter();
        all.find(|it| it.channel().as_str() == channel)
            .map(Rc::clone)
    }

    fn answer(&self, answer: impl Future<Output = Result<Value, Error>> + 'static) -> u32 {
        let request = self.requests.get() + 1;
        self.requests.set(request);
        let hear = self.script.clone();
        spawn_local(async move {
            let values = match answer.await {
                Ok(reply) => [json!(request), Value::Null, reply],
                Err(Error::Client(error)) => [json!(request), problem(&error), Value::Null],
                Err(error) => panic!("{error}"),
            };
            note(&hear, "done", &values);
        });
        request
    }

    fn listen(&self, channel: &str, subscription: &Subscription) {
        let name = channel.to_owned();
        let hear = |kind: &'static str| {
            let (script, name) = (self.script.clone(), name.clone());
            move |values: Vec<Value>| {
                let values: Vec<_> = [json!(name)].into_iter().chain(values).collect();
                note(&script, kind, &values);
            }
        };
        let told = hear("channel");
        subscription.on_state(move |status| {
            let (state, previous) = (status.state.name(), status.previous.name());
            let error = status.error.as_ref().map(problem);
            told(vec![
                json!(state),
                json!(previous),
                json!(error),
                json!(status.recovered),
            ]);
        });
        for event in ["e", "n", "typing", "secret"] {
            let told = hear("message");
            subscription.on(event, move |data: Value, meta| {
                let (offset, epoch) = meta.position.map(|it| (it.offset, it.epoch)).unzip();
                let user = meta.user_id.as_ref().map(ToString::to_string);
                told(vec![
                    json!(meta.event),
                    data,
                    json!(offset),
                    json!(epoch),
                    json!(user),
                    json!(meta.event_id),
                    json!(meta.recovered),
                ]);
            });
        }
        let told = hear("gap");
        subscription.on_gap(move |gap: &Gap| told(vec![json!(gap.reason.name())]));
        let told = hear("reset");
        subscription.on_reset(move |reset: &Reset| told(vec![json!(reset.reason)]));
        let told = hear("members");
        subscription.on_members(move |members: Vec<Member<Value>>, count| {
            let members = members
                .iter()
                .map(|it| json!({ "id": it.id, "info": it.info }));
            told(vec![json!(members.collect::<Vec<_>>()), json!(count)]);
        });
        let told = hear("joined");
        subscription.on_joined(move |it: Member<Value>| told(vec![json!(it.id), it.info]));
        let told = hear("left");
        subscription.on_left(move |id, reason| told(vec![json!(id), json!(reason)]));
    }
}

/// The auth endpoint, where the options name one; an empty name is the server's own.
fn with_endpoint(builder: Builder, url: &str, options: &Value) -> Builder {
    let Some(endpoint) = options["authEndpoint"].as_str() else {
        return builder;
    };
    if endpoint.is_empty() && options["authCredentials"].is_null() {
        return builder.auth_endpoint();
    }
    let beside = format!("{}/auth", url.replacen("ws", "http", 1));
    let endpoint = if endpoint.is_empty() {
        &beside
    } else {
        endpoint
    };
    let builder = builder.auth_endpoint_at(endpoint, RequestCredentials::Omit);
    match options["authLists"] == true {
        true => builder.auth_lists(),
        false => builder,
    }
}

fn build(url: &str, options: &Value, script: &Script) -> FanfareClient {
    let mut builder = FanfareClient::builder(url).options(|all| {
        let set = |option: &mut u64, name: &str| {
            if let Some(number) = options[name].as_u64() {
                *option = number;
            }
        };
        set(&mut all.backoff.min, "backoffMin");
        set(&mut all.backoff.max, "backoffMax");
        set(&mut all.auth_timeout, "authTimeout");
    });
    if let Some(token) = options["token"].as_str() {
        builder = builder.token(token);
    }
    if options["pageEvents"] == false {
        builder = builder.ignore_page_events();
    }
    builder = with_endpoint(builder, url, options);
    if script.has("headers") {
        let script = script.clone();
        builder = builder.auth_headers(move || {
            let asked = JsFuture::from(script.ask("headers", &JsValue::UNDEFINED));
            async move {
                let headers = asked.await.unwrap();
                let entries = js_sys::Object::entries(headers.unchecked_ref());
                let pair = |entry: JsValue| {
                    let entry: Array = entry.unchecked_into();
                    let text = |at| entry.get(at).as_string().unwrap();
                    (text(0), text(1))
                };
                entries.iter().map(pair).collect()
            }
        });
    }
    if script.has("token") {
        let script = script.clone();
        builder = builder.token_provider(move |reason| {
            let asked = JsFuture::from(script.ask("token", &reason.name().into()));
            async move { asked.await.map(|token| token.as_string()).map_err(refused) }
        });
    }
    if script.has("authorize") {
        let script = script.clone();
        builder = builder.authorize(move |question: AuthQuestion| {
            let question = json!({
                "channel": question.channel, "socketId": question.socket_id, "reason": question.reason.name(),
            });
            let asked = JsFuture::from(script.ask("authorize", &to_js(&question)));
            async move {
                let field = |answer: &JsValue, name: &str| {
                    js_sys::Reflect::get(answer, &name.into()).unwrap().as_string()
                };
                let answer = asked.await.map_err(refused)?;
                Ok(ChannelAuth {
                    auth: field(&answer, "auth").unwrap(),
                    channel_data: field(&answer, "channel_data"),
                })
            }
        });
    }
    builder.build()
}

fn refused(thrown: JsValue) -> Refused {
    let thrown = js_sys::Error::from(thrown);
    let reason = String::from(thrown.message());
    if thrown.name() == "UnauthorizedError" {
        Refused::unauthorized(reason)
    } else {
        Refused::failed(reason)
    }
}

fn subscribe_options(options: &Value) -> SubscribeOptions {
    let mut all = SubscribeOptions::default();
    all.rewind = options["rewind"].as_u64().map(|count| count as u32);
    all.since = serde_json::from_value(options["since"].clone()).unwrap();
    all
}

fn state(status: &ConnectionStatus, user: Option<String>) -> Value {
    let mut fields = json!({
        "state": status.state.name(), "previous": status.previous.name(), "attempt": status.attempt,
        "resumed": status.resumed,
    });
    let more = [
        ("socketId", json!(status.socket_id)),
        ("userId", json!(user)),
        ("retryAt", json!(status.retry_at.map(|at| at.0))),
        ("code", json!(status.code)),
        ("reason", json!(status.reason)),
        ("error", json!(status.error.as_ref().map(problem))),
    ];
    for (name, value) in more {
        if !value.is_null() {
            fields[name] = value;
        }
    }
    fields
}

fn problem(error: &ClientError) -> Value {
    let mut fields = json!({
        "code": error.name(), "retryable": error.is_retryable(), "message": error.to_string(),
    });
    match error {
        ClientError::Server { code, .. } | ClientError::Transport { code, .. } => {
            fields["serverCode"] = json!(code);
        }
        ClientError::AuthForbidden { status, .. } => fields["status"] = json!(status),
        _ => {}
    }
    fields
}

fn note(script: &Script, kind: &str, values: &[Value]) {
    script.hear(kind, &values.iter().map(to_js).collect());
}
