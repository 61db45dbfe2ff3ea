//! The loop around the machine: one input in, outputs acted upon until there are none, one timer armed.
//!
//! What is acted upon may call back in. Such a call hands its input to the machine and returns; the loop that is already
//! running finds what came of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use fanfare_client::{Client, Event, Input, Options, Output, TokenReason, TokenReply};
use wasm_bindgen_futures::spawn_local;

use crate::auth::ChannelTokenRequests;
use crate::bridge::random_seed;
use crate::clock::Clock;
use crate::endpoint::Endpoint;
use crate::host::Host;
use crate::lifecycle::Page;
use crate::read::Data;
use crate::timer::Timer;
use crate::websocket::SocketSlot;

/// What a driver is started with.
pub(crate) struct Settings {
    /// Where the server is.
    pub(crate) url: String,
    /// What the machine is told.
    pub(crate) options: Options,
    /// Where channel tokens come from when the host gives none itself.
    pub(crate) endpoint: Endpoint,
    /// Whether the page's comings and goings count.
    pub(crate) with_page_events: bool,
}

/// The machine and everything that it acts through.
pub(crate) struct Driver {
    pub(crate) clock: Clock,
    pub(crate) host: Box<dyn Host>,
    pub(crate) socket_slot: SocketSlot,
    pub(crate) endpoint: Endpoint,
    pub(crate) channel_tokens: ChannelTokenRequests,
    client: RefCell<Client<Data>>,
    pub(crate) timer: Timer,
    page: RefCell<Option<Page>>,
    token_questions: Cell<u32>,
    is_draining: Cell<bool>,
    is_closed: Cell<bool>,
}

impl Driver {
    /// Starts with a machine that has not been asked to connect.
    pub(crate) fn start(settings: Settings, host: Box<dyn Host>) -> Rc<Self> {
        let driver = Rc::new_cyclic(|weak| Self {
            clock: Clock::default(),
            host,
            socket_slot: SocketSlot::new(settings.url),
            endpoint: settings.endpoint,
            channel_tokens: ChannelTokenRequests::default(),
            client: RefCell::new(Client::new(settings.options, random_seed())),
            timer: Timer::new(weak.clone()),
            page: RefCell::default(),
            token_questions: Cell::new(0),
            is_draining: Cell::new(false),
            is_closed: Cell::new(false),
        });
        if settings.with_page_events {
            *driver.page.borrow_mut() = Page::watch(&driver);
        }
        driver
    }

    /// Hands one input to the machine and acts upon what comes of it.
    pub(crate) fn handle(self: &Rc<Self>, input: Input<Data>) {
        if self.is_closed.get() {
            return;
        }
        self.client.borrow_mut().handle(input, self.clock.now());
        if self.is_draining.replace(true) {
            return;
        }
        while let Some(output) = self.next_output() {
            self.act(output);
        }
        self.is_draining.set(false);
        self.arm();
    }

    /// Closes the socket, clears the timer, forgets every question. The host hears what becomes of its requests, and nothing more.
    pub(crate) fn close(&self) {
        if self.is_closed.replace(true) {
            return;
        }
        let now = self.clock.now();
        self.client.borrow_mut().handle(Input::Disconnect, now);
        let next = || self.client.borrow_mut().poll_output();
        while let Some(output) = next() {
            if let Output::Event(event @ Event::RequestDone { .. }) = output {
                self.host.tell(self, event);
            }
        }
        self.timer.clear();
        self.page.take();
        self.channel_tokens.cancel_all();
        self.socket_slot.close(NORMAL, "");
    }

    /// Looks at the machine. Nothing of JavaScript may run in `look`.
    pub(crate) fn with_client<T>(&self, look: impl FnOnce(&Client<Data>) -> T) -> T {
        look(&self.client.borrow())
    }

    /// The timer went off, perhaps for a deadline that has moved since.
    pub(crate) fn timer_fired(self: &Rc<Self>) {
        let due = self.with_client(Client::next_timeout);
        if due.is_some_and(|due| due <= self.clock.now()) {
            self.handle(Input::TimedOut);
        } else {
            self.arm();
        }
    }

    fn arm(&self) {
        match self.with_client(Client::next_timeout) {
            Some(due) if !self.is_closed.get() => self.timer.arm(due, &self.clock),
            _ => self.timer.clear(),
        }
    }

    fn next_output(&self) -> Option<Output<Data>> {
        if self.is_closed.get() {
            return None;
        }
        self.client.borrow_mut().poll_output()
    }

    fn act(self: &Rc<Self>, output: Output<Data>) {
        match output {
            Output::Event(event) => self.host.tell(self, event),
            Output::Send(text) => self.socket_slot.send(&text),
            Output::Open { .. } => self.socket_slot.open(self),
            Output::Close { code, reason } => self.socket_slot.close(code, reason),
            Output::NeedToken { reason } => self.ask_for_token(reason),
            Output::NeedChannelAuth {
                channel,
                socket_id,
                reason,
            } => ChannelTokenRequests::ask(self, channel, socket_id, reason),
            Output::CancelChannelAuth { channel } => self.channel_tokens.cancel(&channel),
        }
    }

    fn ask_for_token(self: &Rc<Self>, reason: TokenReason) {
        let question = self.token_questions.get().wrapping_add(1);
        self.token_questions.set(question);
        let answer = self.host.token(reason);
        let driver = Rc::downgrade(self);
        spawn_local(async move {
            let reply: TokenReply = answer.await;
            if let Some(driver) = driver.upgrade()
                && driver.token_questions.get() == question
            {
                driver.handle(Input::Token(reply));
            }
        });
    }
}

/// A goodbye: RFC 6455, section 7.4.1.
const NORMAL: u16 = 1000;
