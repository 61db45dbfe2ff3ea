//! Channel tokens: asked of the host, or of the endpoint in bounded numbers.

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
use crate::endpoint::{Answers, Asked};

/// Something that JavaScript will have an answer to.
pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = T>>>;

/// A channel token that is asked for.
#[derive(Clone)]
pub(crate) struct AuthRequest {
    pub(crate) channel: ChannelName,
    pub(crate) socket_id: SocketId,
    pub(crate) reason: AuthReason,
}

/// The questions that are open, at most one per channel.
#[derive(Default)]
pub(crate) struct Questions {
    open: RefCell<Vec<Question>>,
    last: Cell<u64>,
    /// What the endpoint will be asked for, in this order.
    waiting: RefCell<Vec<(u64, AuthRequest)>>,
    /// How many requests to the endpoint are under way.
    requests: Cell<usize>,
    /// The endpoint has shown that it does not know lists.
    knows_no_lists: Cell<bool>,
}

struct Question {
    number: u64,
    channel: ChannelName,
    /// The request that asks it, and perhaps others.
    posted: Option<Rc<Posted>>,
}

/// A request to the endpoint that is under way.
struct Posted {
    abort: Option<AbortController>,
    /// How many of its channels still want an answer.
    wanted: Cell<usize>,
}

impl Questions {
    /// Asks, and hands the answer to the machine if it is still wanted then. The machine keeps the deadline.
    pub(crate) fn ask(
        driver: &Rc<Driver>,
        channel: ChannelName,
        socket_id: SocketId,
        reason: AuthReason,
    ) {
        let questions = &driver.questions;
        questions.cancel(&channel);
        let number = questions.last.get() + 1;
        questions.last.set(number);
        questions.open.borrow_mut().push(Question {
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
        questions.waiting.borrow_mut().push((number, request));
        // Those of the same turn are asked for together.
        spawn_local(async move {
            if let Some(driver) = weak.upgrade() {
                Self::post(&driver);
            }
        });
    }

    /// Asks the endpoint for what waits: for lists where it knows them, and never for all at once.
    fn post(driver: &Rc<Driver>) {
        let questions = &driver.questions;
        while questions.requests.get() < REQUESTS_MAX {
            let list = questions.take_list(driver.endpoint.knows_lists);
            let Some((_, first)) = list.first() else {
                return;
            };
            let socket_id = first.socket_id;
            let posted = questions.posted(&list);
            let asked = Asked {
                channels: list.iter().map(|(_, one)| one.channel.clone()).collect(),
                socket_id,
                signal: posted.abort.as_ref().map(AbortController::signal),
            };
            questions.requests.set(questions.requests.get() + 1);
            let answers = driver.endpoint.clone().ask(driver.host.headers(), asked);
            let weak = Rc::downgrade(driver);
            spawn_local(async move {
                let answers = answers.await;
                if let Some(driver) = weak.upgrade() {
                    let questions = &driver.questions;
                    questions.requests.set(questions.requests.get() - 1);
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
        waiting.retain(|(number, _)| open.iter().any(|question| question.number == *number));
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
    fn posted(&self, list: &[(u64, AuthRequest)]) -> Rc<Posted> {
        let posted = Rc::new(Posted {
            abort: AbortController::new().ok(),
            wanted: Cell::new(list.len()),
        });
        for question in &mut *self.open.borrow_mut() {
            if list.iter().any(|(number, _)| *number == question.number) {
                question.posted = Some(Rc::clone(&posted));
            }
        }
        posted
    }

    fn answer_all(driver: &Rc<Driver>, list: Vec<(u64, AuthRequest)>, answers: Answers) {
        let replies = match answers {
            Answers::Each(replies) => replies,
            Answers::All(reply) => vec![reply; list.len()],
            Answers::NoLists => {
                driver.questions.knows_no_lists.set(true);
                driver.questions.waiting.borrow_mut().splice(..0, list);
                return;
            }
        };
        for ((number, request), reply) in list.into_iter().zip(replies) {
            Self::answer(driver, number, request.socket_id, reply);
        }
    }

    /// Hands an answer to the machine, unless it is no longer wanted.
    fn answer(driver: &Rc<Driver>, number: u64, socket_id: SocketId, reply: ChannelAuthReply) {
        let question = driver.questions.take(|question| question.number == number);
        if let Some(Question { channel, .. }) = question {
            driver.handle(Input::ChannelAuth {
                channel,
                socket_id,
                reply,
            });
        }
    }

    /// The answer for this channel is no longer wanted.
    pub(crate) fn cancel(&self, channel: &ChannelName) {
        if let Some(question) = self.take(|question| question.channel == *channel) {
            question.cancel();
        }
    }

    pub(crate) fn cancel_all(&self) {
        for question in self.open.take() {
            question.cancel();
        }
    }

    fn take(&self, is_it: impl Fn(&Question) -> bool) -> Option<Question> {
        let mut open = self.open.borrow_mut();
        let at = open.iter().position(is_it)?;
        Some(open.swap_remove(at))
    }
}

impl Question {
    /// Ends the request of which no answer is wanted any more.
    fn cancel(self) {
        if let Some(posted) = self.posted {
            posted.wanted.set(posted.wanted.get().saturating_sub(1));
            if posted.wanted.get() == 0
                && let Some(abort) = &posted.abort
            {
                abort.abort();
            }
        }
    }
}

/// Reads an auth result, `{auth, channel_data?}`, whoever gave it.
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
