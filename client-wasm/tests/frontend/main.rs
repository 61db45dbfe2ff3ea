//! Pages in Rust: typed payloads, guards, closures that call back in, and the example, against a real server.

#![cfg(target_family = "wasm")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, though not marked with `#[test]`"
)]

mod orders;
mod server;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use fanfare_client_wasm::frontend::{
    AuthQuestion, Backoff, ChannelAuth, ChannelState, ClientError, ConnectionState, Error,
    FanfareClient, Member, PastEvent, Position, Refused, SubscribeOptions, Tag,
};
use serde::{Deserialize, Serialize};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

use crate::server::{eventually, fresh, publish, pull, url};

wasm_bindgen_test_configure!(run_in_browser);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    total: f64,
    note: Option<String>,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Line {
    Item { name: String, count: u32 },
    Discount { percent: u8 },
}

fn order() -> Order {
    Order {
        id: (1 << 53) - 1,
        total: 12.5,
        note: None,
        lines: vec![
            Line::Item {
                name: "tea, \"green\" 🍵".to_owned(),
                count: 2,
            },
            Line::Discount { percent: 10 },
        ],
    }
}

/// A client that has connected.
async fn connected(user: &str) -> FanfareClient {
    let client = FanfareClient::builder(&url())
        .token(format!("user:{user}"))
        .build();
    client.connect();
    until(&client, ConnectionState::Connected).await;
    client
}

async fn until(client: &FanfareClient, state: ConnectionState) {
    eventually(|| client.status().state == state).await;
}

/// What a closure was given.
fn heard<T: 'static>() -> (Rc<RefCell<Vec<T>>>, impl Fn(T) + Clone + 'static) {
    let list: Rc<RefCell<Vec<T>>> = Rc::default();
    let add = Rc::clone(&list);
    (list, move |item| add.borrow_mut().push(item))
}

#[wasm_bindgen_test]
async fn typed_payloads_there_and_back() {
    let (ann, ben) = (connected("ann").await, connected("ben").await);
    assert_eq!(ann.user_id().unwrap().as_str(), "ann");
    let name = fresh("open-");
    let (orders, hear) = heard();
    let from_ben = ben.subscribe(&name).unwrap();
    from_ben.on("order.created", move |order: Order, meta| {
        hear((order, meta.user_id.clone().unwrap(), meta.recovered));
    });
    let from_ann = ann.subscribe(&name).unwrap();
    eventually(|| from_ben.state() == ChannelState::Subscribed).await;
    let receipt = from_ann
        .publish("order.created", &order())
        .unwrap()
        .await
        .unwrap();
    assert_eq!(receipt.position, None, "this channel keeps no history");
    eventually(|| orders.borrow().len() == 1).await;
    let (got, user, recovered) = orders.borrow()[0].clone();
    assert_eq!((got, user.as_str(), recovered), (order(), "ann", false));
}

#[wasm_bindgen_test]
async fn payload_of_another_type_is_an_error() {
    let client = connected("ann").await;
    let name = fresh("wrong.");
    let (errors, complain) = heard();
    let _errors = client.on_error(move |error| complain(error.clone()));
    let (numbers, hear) = heard();
    let channel = client.subscribe(&name).unwrap();
    channel.on("n", move |number: u32, _| hear(number));
    eventually(|| channel.state() == ChannelState::Subscribed).await;
    publish(&name, "n", "\"seven\"").await;
    publish(&name, "n", "8").await;
    eventually(|| !numbers.borrow().is_empty()).await;
    assert_eq!(*numbers.borrow(), [8]);
    let errors = errors.borrow();
    assert!(
        matches!(&errors[..], [Error::Decode { channel, event, .. }] if channel.as_str() == name && event.as_str() == "n"),
        "{errors:?}"
    );
}

#[wasm_bindgen_test]
async fn channel_is_left_with_its_last_subscription() {
    let client = connected("ann").await;
    let name = fresh("shared.");
    let count = async || pull("subscribers", &format!("{{\"channel\":\"{name}\"}}")).await;
    let (first, second) = (
        client.subscribe(&name).unwrap(),
        client.subscribe(&name).unwrap(),
    );
    let (heard_first, hear) = heard::<u32>();
    first.on("n", move |n, _| hear(n));
    let (heard_second, hear) = heard::<u32>();
    second.on("n", move |n, _| hear(n));
    eventually(|| first.state() == ChannelState::Subscribed).await;
    publish(&name, "n", "1").await;
    eventually(|| heard_second.borrow().len() == 1).await;
    drop(first);
    publish(&name, "n", "2").await;
    eventually(|| heard_second.borrow().len() == 2).await;
    assert_eq!(*heard_first.borrow(), [1], "its closures went with it");
    assert_eq!(count().await, "{\"count\":1}");
    drop(second);
    // A fence: what is asked later is answered later.
    let fence = client.subscribe(&fresh("fence.")).unwrap();
    eventually(|| fence.state() == ChannelState::Subscribed).await;
    assert_eq!(count().await, "{\"count\":0}");
}

#[wasm_bindgen_test]
async fn closures_may_do_anything() {
    let client = connected("ann").await;
    let (first, second) = (fresh("first."), fresh("second."));
    let kept = Rc::new(RefCell::new(None));
    let own = Rc::new(RefCell::new(None));
    let (done, hear) = heard();
    let subscription = client.subscribe(&first).unwrap();
    let (again, store, dropped) = (client.clone(), Rc::clone(&kept), Rc::clone(&own));
    subscription.on("go", move |_: u32, _| {
        // Another channel, another listener, and the end of the very subscription that is being told.
        let other = again.subscribe(&second).unwrap();
        let hear = hear.clone();
        other.on("went", move |n: u32, _| hear(n));
        *store.borrow_mut() = Some(other);
        drop(dropped.take());
    });
    eventually(|| subscription.state() == ChannelState::Subscribed).await;
    *own.borrow_mut() = Some(subscription);
    publish(&first, "go", "1").await;
    eventually(|| kept.borrow().is_some()).await;
    eventually(|| {
        let kept = kept.borrow();
        kept.as_ref()
            .is_some_and(|it| it.state() == ChannelState::Subscribed)
    })
    .await;
    let name = kept.borrow().as_ref().unwrap().channel().to_string();
    publish(&name, "went", "2").await;
    eventually(|| *done.borrow() == [2]).await;
    assert!(own.borrow().is_none());
}

#[wasm_bindgen_test]
async fn members() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Person {
        name: String,
    }
    let (ann, name) = (connected("ann").await, fresh("presence-"));
    let room = ann.subscribe(&name).unwrap();
    let (came, hear) = heard();
    room.on_joined(move |member: Member<Person>| hear(member.id.to_string()));
    let (gone, hear) = heard();
    room.on_left(move |id, reason| hear((id.to_string(), reason.is_some())));
    let (all, hear) = heard();
    room.on_members(move |members: Vec<Member<Person>>, count| hear((members.len(), count)));
    eventually(|| *all.borrow() == [(1, 1)]).await;
    let ben = connected("ben").await;
    let with_ben = ben.subscribe(&name).unwrap();
    eventually(|| *came.borrow() == ["ben"]).await;
    let info = |member: &Member<Person>| member.info.name.clone();
    let names: Vec<String> = room.members().iter().map(info).collect();
    assert_eq!(names, ["ann", "ben"]);
    drop(with_ben);
    eventually(|| *gone.borrow() == [("ben".to_owned(), true)]).await;
}

#[wasm_bindgen_test]
async fn other_info_about_oneself() {
    let (ann, ben) = (connected("ann").await, connected("ben").await);
    let name = fresh("presence-own-");
    let room = ann.subscribe(&name).unwrap();
    let (infos, hear) = heard();
    room.on_updated(move |member: Member<u32>| hear((member.id.to_string(), member.info)));
    eventually(|| room.state() == ChannelState::Subscribed).await;
    let with_ben = ben.subscribe(&name).unwrap();
    with_ben.update(&7).unwrap().await.unwrap();
    eventually(|| *infos.borrow() == [("ben".to_owned(), 7)]).await;
    let shown: Vec<Member<u32>> = room.members();
    assert_eq!(shown.len(), 1, "ann's info is no number");
    assert_eq!(shown[0].info, 7);
    with_ben.update(&()).unwrap().await.unwrap();
    eventually(|| room.members::<u32>().is_empty()).await;

    let closed = ben.subscribe(&fresh("presence-")).unwrap();
    let error = closed.update(&7).unwrap().await.unwrap_err();
    assert!(
        matches!(error, Error::Client(ClientError::Server { code: 4330, .. })),
        "{error:?}"
    );
}

#[wasm_bindgen_test]
async fn who_comes_back_is_the_providers_to_say() {
    let users = Rc::new(RefCell::new(vec!["ben", "ann"]));
    let next = Rc::clone(&users);
    let client = FanfareClient::builder(&url())
        .token_provider(move |_| {
            let user = next.borrow_mut().pop();
            async move { Ok(user.map(|user| format!("user:{user}"))) }
        })
        .build();
    let name = |client: &FanfareClient| client.user_id().map(|user| user.to_string());
    for user in ["ann", "ben"] {
        client.connect();
        until(&client, ConnectionState::Connected).await;
        assert_eq!(name(&client).as_deref(), Some(user));
        client.disconnect();
        assert_eq!(name(&client), None, "{user} is gone");
    }
    assert!(users.borrow().is_empty(), "asked once for each connection");
}

#[wasm_bindgen_test]
async fn history_and_what_was_missed() {
    let client = connected("ann").await;
    let name = fresh("h-kept.");
    for n in 1..=3 {
        publish(&name, "n", &n.to_string()).await;
    }
    let channel = client
        .subscribe_with(&name, SubscribeOptions::default().rewind(1))
        .unwrap();
    let (numbers, hear) = heard();
    channel.on("n", move |n: u32, meta| hear((n, meta.recovered)));
    eventually(|| *numbers.borrow() == [(3, true)]).await;
    let past = channel.history(None, Some(2)).await.unwrap();
    assert_eq!(past.next, None);
    let numbers = |past: &[PastEvent]| -> Vec<u32> {
        past.iter().map(|event| event.payload().unwrap()).collect()
    };
    assert_eq!(numbers(&past.events), [2, 3]);
    let second = past.events[0].position;
    let start = Position {
        offset: 0,
        tag: Tag::default(),
        ..second.unwrap()
    };
    let page = channel.history(second, None).await.unwrap();
    assert_eq!(numbers(&page.events), [3]);
    let first = channel.history(Some(start), Some(2)).await.unwrap();
    assert_eq!(numbers(&first.events), [1, 2]);
    assert_eq!(first.next, second);
    let position = channel.position().unwrap();
    assert_eq!(position.offset, 3);
    drop(channel);
    publish(&name, "n", "4").await;
    let options = SubscribeOptions::default().since(position);
    let channel = client.subscribe_with(&name, options).unwrap();
    let (numbers, hear) = heard();
    channel.on("n", move |n: u32, _| hear(n));
    eventually(|| *numbers.borrow() == [4]).await;
}

#[wasm_bindgen_test]
async fn comes_back_and_says_so() {
    let backoff = Backoff {
        min: 20,
        ..Backoff::default()
    };
    let client = FanfareClient::builder(&url()).backoff(backoff).build();
    let (states, hear) = heard();
    let listener = client.on_state(move |status| hear((status.state, status.resumed)));
    client.connect();
    until(&client, ConnectionState::Connected).await;
    let name = fresh("h-back.");
    let channel = client.subscribe(&name).unwrap();
    let (numbers, hear) = heard();
    channel.on("n", move |n: u32, _| hear(n));
    eventually(|| channel.state() == ChannelState::Subscribed).await;
    let socket = client.status().socket_id.unwrap();
    pull("drop", &format!("{{\"socket_id\":\"{socket}\"}}")).await;
    for n in 1..=3 {
        publish(&name, "n", &n.to_string()).await;
    }
    eventually(|| *numbers.borrow() == [1, 2, 3]).await;
    assert_eq!(
        states.borrow().last(),
        Some(&(ConnectionState::Connected, true))
    );
    drop(listener);
    let before = states.borrow().len();
    client.disconnect();
    assert_eq!(client.status().state, ConnectionState::Disconnected);
    assert_eq!(states.borrow().len(), before, "nobody listens any more");
}

#[wasm_bindgen_test]
async fn requests_fail_with_a_reason() {
    let client = connected("ann").await;
    let channel = client.subscribe(&fresh("closed.")).unwrap();
    let error = channel.publish("e", &1).unwrap().await.unwrap_err();
    assert!(matches!(error, Error::Client(_)), "{error:?}");
    assert!(matches!(channel.publish("", &1), Err(Error::Name(_))));
    let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
    let error = channel.publish("e", &unwritable).unwrap_err();
    assert!(matches!(error, Error::Encode { .. }), "{error:?}");
    let error = client.subscribe("no spaces").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the channel name must not contain a space (byte 2)"
    );
}

#[wasm_bindgen_test]
async fn tokens_and_channel_tokens_from_closures() {
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    let client = FanfareClient::builder(&url())
        .token_provider(move |_| {
            count.set(count.get() + 1);
            async { Ok(Some("user:ann".to_owned())) }
        })
        .authorize(|question: AuthQuestion| async move {
            if question.channel.as_str().starts_with("private-no.") {
                return Err(Refused::unauthorized("not yours"));
            }
            let answer = server::ask_endpoint("ann", &question).await;
            Ok(ChannelAuth {
                auth: answer,
                channel_data: None,
            })
        })
        .build();
    client.connect();
    let granted = client.subscribe(&fresh("private-ok.")).unwrap();
    let refused = client.subscribe(&fresh("private-no.")).unwrap();
    eventually(|| granted.state() == ChannelState::Subscribed).await;
    eventually(|| refused.state() == ChannelState::Failed).await;
    assert_eq!(asked.get(), 1);
}

#[wasm_bindgen_test]
async fn endpoint_with_headers() {
    let client = FanfareClient::builder(&url())
        .token("user:ann")
        .auth_endpoint_at(&server::endpoint(), web_sys::RequestCredentials::Omit)
        .auth_headers(|| async { vec![("authorization".to_owned(), "Bearer user:ann".to_owned())] })
        .build();
    client.connect();
    let granted = client.subscribe(&fresh("private-ok.")).unwrap();
    let refused = client.subscribe(&fresh("private-no.")).unwrap();
    eventually(|| granted.state() == ChannelState::Subscribed).await;
    eventually(|| refused.state() == ChannelState::Failed).await;
}

#[wasm_bindgen_test]
async fn personal_channel() {
    let user = fresh("ann");
    let client = connected(&user).await;
    let own = client.subscribe(&format!("user:{user}")).unwrap();
    let (notes, hear) = heard();
    own.on("notification", move |text: String, _| hear(text));
    eventually(|| own.state() == ChannelState::Subscribed).await;
    publish(&format!("user:{user}"), "notification", "\"hello\"").await;
    eventually(|| *notes.borrow() == ["hello"]).await;
}

#[wasm_bindgen_test]
async fn last_clone_closes_the_connection() {
    let user = fresh("ann");
    let client = connected(&user).await;
    let connections = async || pull("drop", &format!("{{\"user\":\"{user}\"}}")).await;
    let clone = client.clone();
    drop(client);
    assert_eq!(clone.status().state, ConnectionState::Connected);
    let other = connected("fence").await;
    drop(clone);
    // A fence on the other connection: by then the server has seen the first one go.
    let fence = other.subscribe(&fresh("fence.")).unwrap();
    eventually(|| fence.state() == ChannelState::Subscribed).await;
    assert_eq!(connections().await, "{\"dropped\":0}");
}

#[wasm_bindgen_test]
async fn closing_ends_what_waits_for_an_answer() {
    let client = connected("ann").await;
    let channel = client.subscribe(&fresh("h-")).unwrap();
    eventually(|| channel.state() == ChannelState::Subscribed).await;
    let sent = channel.publish("e", &1).unwrap();
    let history = channel.history(None, None);
    client.close();
    assert_eq!(client.status().state, ConnectionState::Disconnected);
    let later = channel.history(None, None);
    let published_later = channel.publish("e", &1).unwrap();
    let error = sent.await.unwrap_err();
    assert_eq!(error, Error::Client(ClientError::UnknownOutcome));
    for error in [
        history.await.unwrap_err(),
        later.await.unwrap_err(),
        published_later.await.unwrap_err(),
    ] {
        assert_eq!(error, Error::Client(ClientError::Closed));
    }
}

#[wasm_bindgen_test]
async fn a_closure_may_close_the_client() {
    let client = connected("ann").await;
    let name = fresh("closing.");
    let channel = client.subscribe(&name).unwrap();
    eventually(|| channel.state() == ChannelState::Subscribed).await;
    let requests = Rc::new(RefCell::new(None));
    let (store, again) = (Rc::clone(&requests), client.clone());
    let other = client.subscribe(&name).unwrap();
    channel.on("n", move |_: u32, _| {
        *store.borrow_mut() = Some(other.publish("e", &1).unwrap());
        again.close();
    });
    publish(&name, "n", "1").await;
    eventually(|| requests.borrow().is_some()).await;
    let request = requests.borrow_mut().take().unwrap();
    assert!(request.await.is_err());
}
