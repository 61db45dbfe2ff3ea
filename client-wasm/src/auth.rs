//! Channel tokens: from the application's closure, or from the auth endpoint with a bounded number of requests.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use fanfare_client::{AuthReason, ChannelAuthReply, Input};
use fanfare_protocol::{ChannelName, SocketId};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;
use web_sys::AbortController;

use crate::bridge::Fields;
use crate::drain::Driver;
use crate::endpoint::{EndpointReply, TokenQuery};

/// A future on the page's one thread.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// A channel token that is asked for.
#[derive(Clone)]
pub(crate) struct AuthRequest {
    pub(crate) channel: ChannelName,
    pub(crate) socket_id: SocketId,
    pub(crate) reason: AuthReason,
}

/// The channel tokens that the machine waits for, at most one per channel.
#[derive(Default)]
pub(crate) struct ChannelTokenRequests {
    open: RefCell<Vec<OpenRequest>>,
    last: Cell<u64>,
    /// What the endpoint will be asked for, in this order.
    waiting: RefCell<Vec<(u64, AuthRequest)>>,
    /// How many requests to the endpoint are under way.
    under_way: Cell<usize>,
    /// The endpoint has shown that it does not know lists.
    knows_no_lists: Cell<bool>,
}

struct OpenRequest {
    number: u64,
    channel: ChannelName,
    /// The request that asks it, and perhaps others.
    posted: Option<Rc<EndpointRequest>>,
}

/// A request to the endpoint that is under way.
struct EndpointRequest {
    abort: Option<AbortController>,
    /// How many of its channels still want an answer.
    wanted: Cell<usize>,
}

impl ChannelTokenRequests {
    /// Asks, and hands the answer to the machine if it is still wanted then. The machine keeps the deadline.
    pub(crate) fn ask(
        driver: &Rc<Driver>,
        channel: ChannelName,
        socket_id: SocketId,
        reason: AuthReason,
    ) {
        let tokens = &driver.channel_tokens;
        tokens.cancel(&channel);
        let number = tokens.last.get() + 1;
        tokens.last.set(number);
        tokens.open.borrow_mut().push(OpenRequest {
            number,
            channel: channel.clone(),
            posted: None,
        });
        let request = AuthRequest {
            channel,
            socket_id,
            reason,
        };
        let weak = Rc::downgrade(driver);
        if let Some(answer) = driver.host.authorize(&request) {
            spawn_local(async move {
                let reply = answer.await;
                if let Some(driver) = weak.upgrade() {
                    Self::answer(&driver, number, request.socket_id, reply);
                }
            });
            return;
        }
        tokens.waiting.borrow_mut().push((number, request));
        // Those of the same turn are asked for together.
        spawn_local(async move {
            if let Some(driver) = weak.upgrade() {
                Self::post(&driver);
            }
        });
    }

    /// Asks the endpoint for what waits: for lists where it knows them, and never for all at once.
    fn post(driver: &Rc<Driver>) {
        let tokens = &driver.channel_tokens;
        while tokens.under_way.get() < REQUESTS_MAX {
            let list = tokens.take_list(driver.endpoint.knows_lists);
            let Some((_, first)) = list.first() else {
                return;
            };
            let socket_id = first.socket_id;
            let posted = tokens.posted(&list);
            let query = TokenQuery {
                channels: list.iter().map(|(_, one)| one.channel.clone()).collect(),
                socket_id,
                signal: posted.abort.as_ref().map(AbortController::signal),
            };
            tokens.under_way.set(tokens.under_way.get() + 1);
            let answers = driver.endpoint.clone().ask(driver.host.headers(), query);
            let weak = Rc::downgrade(driver);
            spawn_local(async move {
                let answers = answers.await;
                if let Some(driver) = weak.upgrade() {
                    let tokens = &driver.channel_tokens;
                    // Else it was given up before, as one whose headers never come.
                    if posted.wanted.get() > 0 {
                        tokens.release();
                    }
                    Self::answer_all(&driver, list, answers);
                    Self::post(&driver);
                }
            });
        }
    }

    /// The next channels to ask for with one request. What is no longer wanted is left out.
    fn take_list(&self, knows_lists: bool) -> Vec<(u64, AuthRequest)> {
        let open = self.open.borrow();
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|(number, _)| open.iter().any(|open| open.number == *number));
        let list_max = match knows_lists && !self.knows_no_lists.get() {
            true => LIST_MAX,
            false => 1,
        };
        let socket_id = waiting.first().map(|(_, first)| first.socket_id);
        let of_socket = |(_, one): &&(u64, AuthRequest)| Some(one.socket_id) == socket_id;
        let count = waiting.iter().take(list_max).take_while(of_socket).count();
        waiting.drain(..count).collect()
    }

    /// Notes that these are asked for with one request.
    fn posted(&self, list: &[(u64, AuthRequest)]) -> Rc<EndpointRequest> {
        let posted = Rc::new(EndpointRequest {
            abort: AbortController::new().ok(),
            wanted: Cell::new(list.len()),
        });
        for open in &mut *self.open.borrow_mut() {
            if list.iter().any(|(number, _)| *number == open.number) {
                open.posted = Some(Rc::clone(&posted));
            }
        }
        posted
    }

    fn answer_all(driver: &Rc<Driver>, list: Vec<(u64, AuthRequest)>, answers: EndpointReply) {
        let replies = match answers {
            EndpointReply::Each(replies) => replies,
            EndpointReply::All(reply) => vec![reply; list.len()],
            EndpointReply::NoLists => {
                driver.channel_tokens.knows_no_lists.set(true);
                driver.channel_tokens.waiting.borrow_mut().splice(..0, list);
                return;
            }
        };
        for ((number, request), reply) in list.into_iter().zip(replies) {
            Self::answer(driver, number, request.socket_id, reply);
        }
    }

    /// Hands an answer to the machine, unless it is no longer wanted.
    fn answer(driver: &Rc<Driver>, number: u64, socket_id: SocketId, reply: ChannelAuthReply) {
        let request = driver.channel_tokens.take(|open| open.number == number);
        if let Some(OpenRequest { channel, .. }) = request {
            driver.handle(Input::ChannelAuth {
                channel,
                socket_id,
                reply,
            });
        }
    }

    /// The answer for this channel is no longer wanted.
    pub(crate) fn cancel(&self, channel: &ChannelName) {
        if let Some(request) = self.take(|open| open.channel == *channel) {
            self.give_up(request);
        }
    }

    pub(crate) fn cancel_all(&self) {
        for request in self.open.take() {
            self.give_up(request);
        }
    }

    /// Ends the request to the endpoint of which no answer is wanted any more.
    fn give_up(&self, request: OpenRequest) {
        let Some(posted) = request.posted else { return };
        posted.wanted.set(posted.wanted.get().saturating_sub(1));
        if posted.wanted.get() == 0 {
            self.release();
            if let Some(abort) = &posted.abort {
                abort.abort();
            }
        }
    }

    /// One request to the endpoint less is under way.
    fn release(&self) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
    }

    fn take(&self, is_it: impl Fn(&OpenRequest) -> bool) -> Option<OpenRequest> {
        let mut open = self.open.borrow_mut();
        let at = open.iter().position(is_it)?;
        Some(open.swap_remove(at))
    }
}

/// Reads an auth result, `{auth, channel_data?}`.
pub(crate) fn read_grant(result: JsValue) -> Option<ChannelAuthReply> {
    if !result.is_object() {
        return None;
    }
    let fields = Fields::from(result);
    Some(ChannelAuthReply::Granted {
        auth: fields.text("auth")?,
        channel_data: fields.text("channel_data"),
    })
}

/// What the server's own endpoint takes at once.
const LIST_MAX: usize = 100;

/// 10 at a time: a page with hundreds of channels that comes back is no attack on its backend.
const REQUESTS_MAX: usize = 10;
