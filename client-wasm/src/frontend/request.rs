//! Requests and the futures of their answers.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use fanfare_client::{ClientError, History, RequestId};
use fanfare_protocol::{EventName, Position, RawJson, Reply, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frontend::error::Error;
use crate::frontend::subscription::decode;
use crate::read::Data;

/// An answer that is on its way. The request is made whether or not the future is polled.
#[must_use = "the request is made, but its answer is lost"]
pub struct Request<T> {
    slot: Rc<RefCell<Slot>>,
    read: fn(Reply<Data>) -> T,
}

/// The server took an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Its place in the channel's history, on channels that keep one.
    pub position: Option<Position>,
    /// Its id on the event bus.
    pub event_id: Option<String>,
}

/// Past events of a channel, oldest first: all that was asked for, or one page of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Past {
    /// The events.
    pub events: Vec<PastEvent>,
    /// Where the channel stood then: after them, unless there is more.
    pub position: Option<Position>,
    /// There is more after these: where to go on, as the next `since`. `None` when they reach up to `position`.
    pub next: Option<Position>,
}

/// An event of a channel's history.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PastEvent {
    /// The event's name.
    pub event: EventName,
    /// Its place in the history.
    pub position: Option<Position>,
    /// Who sent it, on client events.
    pub user_id: Option<UserId>,
    data: Data,
}

impl PastEvent {
    /// The payload as a type.
    ///
    /// # Errors
    /// What serde says of a payload of another type.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, String> {
        decode(&self.data)
    }
}

/// The requests that have no answer yet.
#[derive(Default)]
pub(crate) struct Requests {
    last: Cell<u64>,
    /// Nothing will be answered any more.
    is_closed: Cell<bool>,
    open: RefCell<Vec<(RequestId, Rc<RefCell<Slot>>)>>,
}

#[derive(Default)]
struct Slot {
    result: Option<Result<Reply<Data>, ClientError>>,
    waker: Option<Waker>,
}

impl Requests {
    /// A new request and the future of its answer.
    pub(crate) fn start<T>(&self, read: fn(Reply<Data>) -> T) -> (RequestId, Request<T>) {
        let id = self.last.get() + 1;
        self.last.set(id);
        let slot: Rc<RefCell<Slot>> = Rc::default();
        if self.is_closed.get() {
            slot.borrow_mut().result = Some(Err(ClientError::Closed));
            return (RequestId(id), Request { slot, read });
        }
        let entry = (RequestId(id), Rc::clone(&slot));
        self.open.borrow_mut().push(entry);
        (RequestId(id), Request { slot, read })
    }

    /// Later requests end at once.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
    }

    pub(crate) fn done(&self, request: RequestId, result: Result<Reply<Data>, ClientError>) {
        let slot = {
            let mut open = self.open.borrow_mut();
            let at = open.iter().position(|(id, _)| *id == request);
            at.map(|at| open.swap_remove(at).1)
        };
        if let Some(slot) = slot {
            let waker = {
                let mut slot = slot.borrow_mut();
                slot.result = Some(result);
                slot.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> Future for Request<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.slot.borrow_mut();
        match slot.result.take() {
            Some(result) => Poll::Ready(result.map(self.read).map_err(Error::from)),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> std::fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

pub(crate) fn receipt(reply: Reply<Data>) -> Receipt {
    Receipt {
        position: reply.position,
        event_id: reply.event_id,
    }
}

pub(crate) fn past(reply: Reply<Data>) -> Past {
    let position = reply.position;
    let history = History::of(reply);
    let next = history.as_ref().and_then(|history| history.next);
    let messages = history.map_or(Vec::new(), |history| history.messages);
    let events = messages.into_iter().map(|message| PastEvent {
        event: message.event,
        position: message.position,
        user_id: message.user_id,
        data: message.data,
    });
    Past {
        events: events.collect(),
        position,
        next,
    }
}

/// Writes a payload as the JSON that the JavaScript engine makes of it.
pub(crate) fn encode<T: Serialize + ?Sized>(payload: &T) -> Result<RawJson, Error> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    let refused = |reason: String| Error::Encode { reason };
    let value = payload
        .serialize(&serializer)
        .map_err(|error| refused(error.to_string()))?;
    let text = js_sys::JSON::stringify(&value).ok();
    let text = text.and_then(|text| text.as_string());
    let text = text.ok_or_else(|| refused("JSON has no word for it".to_owned()))?;
    Ok(RawJson::trusted(text))
}
