//! The task: one machine, one socket, one timer.

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use fanfare_protocol::json::{DecodeProblem, decode_messages};
use fanfare_protocol::{ChannelName, RawJson, Reply, SocketId};
use http::Request;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::ClientError;
use crate::event::{ConnectionState, ConnectionStatus, Event};
use crate::io::{AuthReason, ChannelAuthReply, Input, Output, RequestId, TokenReason, TokenReply};
use crate::options::SubscribeOptions;
use crate::time::Millis;

use super::listeners::Listeners;
use super::options::{ChannelAuthRequest, NativeOptions};
use super::queue::Listener;
use super::socket::{Received, Socket};

/// What a handle asks of the task.
pub(super) enum Order {
    Input(Input<RawJson>),
    Ask {
        input: Input<RawJson>,
        reply: Answer,
    },
    Subscribe {
        channel: ChannelName,
        options: SubscribeOptions,
        reply: oneshot::Sender<Result<Listener, ClientError>>,
    },
    Close,
}

type Answer = oneshot::Sender<Result<Reply<RawJson>, ClientError>>;

/// Work that goes on beside the socket, and what came of it.
enum Done {
    Opened(u64, Result<Box<Socket>, (u16, String)>),
    Token(TokenReply),
    ChannelAuth {
        channel: ChannelName,
        socket_id: SocketId,
        reply: ChannelAuthReply,
    },
}

/// What the task waits for.
enum Turn {
    Order(Option<Order>),
    Received(Received),
    /// `None` for a job that was aborted or has panicked: the machine's own deadlines cover it.
    Done(Option<Done>),
    ListenerGone,
    TimedOut,
}

struct Driver {
    machine: Client<RawJson>,
    options: NativeOptions,
    request: Request<()>,
    start: Instant,
    socket: Option<Box<Socket>>,
    /// Counts the sockets asked for: one that comes too late is dropped.
    socket_number: u64,
    jobs: JoinSet<Done>,
    opening: Option<AbortHandle>,
    token_question: Option<AbortHandle>,
    channel_questions: Vec<(ChannelName, AbortHandle)>,
    /// Sockets that are saying goodbye.
    closing: JoinSet<()>,
    requests: HashMap<RequestId, Answer>,
    next_request: u64,
    listeners: Listeners,
    status: watch::Sender<ConnectionStatus>,
}

/// Starts the task.
pub(super) fn start(
    request: Request<()>,
    options: NativeOptions,
    orders: mpsc::Receiver<Order>,
) -> (JoinHandle<()>, watch::Receiver<ConnectionStatus>) {
    let machine = Client::new(options.machine_options(), seed());
    let listeners = Listeners::new(options.subscription_events_max);
    let (status, watched) = watch::channel(machine.status().clone());
    let driver = Driver {
        machine,
        options,
        request,
        start: Instant::now(),
        socket: None,
        socket_number: 0,
        jobs: JoinSet::new(),
        opening: None,
        token_question: None,
        channel_questions: Vec::new(),
        closing: JoinSet::new(),
        requests: HashMap::new(),
        next_request: 0,
        listeners,
        status,
    };
    (tokio::spawn(driver.run(orders)), watched)
}

impl Driver {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        if let Some(token) = self.options.token.take() {
            self.input(Input::SetToken(Some(token)));
        }
        self.input(Input::Connect);
        for turn in 1_u64.. {
            // A server that sends without end must not keep the application's other tasks from running.
            if turn.is_multiple_of(TURNS_AT_ONCE) {
                tokio::task::yield_now().await;
            }
            match self.next_turn(&mut orders).await {
                Turn::Order(None | Some(Order::Close)) => break,
                Turn::Order(Some(order)) => self.obey(order),
                Turn::Received(received) => self.received(received),
                Turn::Done(Some(done)) => self.done(done),
                Turn::Done(None) => {}
                Turn::ListenerGone => self.drop_abandoned(),
                Turn::TimedOut => self.input(Input::TimedOut),
            }
        }
        self.finish().await;
    }

    async fn next_turn(&mut self, orders: &mut mpsc::Receiver<Order>) -> Turn {
        let timeout = self.machine.next_timeout();
        let deadline = timeout.map(|at| self.start + Duration::from_millis(at.0));
        // Looked at first: what keeps coming must not keep a deadline waiting.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Turn::TimedOut;
        }
        let timer = async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => pending().await,
            }
        };
        let socket = &mut self.socket;
        let socket = poll_fn(|cx| match socket {
            Some(socket) => socket.poll(cx),
            None => std::task::Poll::Pending,
        });
        tokio::select! {
            order = orders.recv() => Turn::Order(order),
            received = socket => Turn::Received(received),
            Some(done) = self.jobs.join_next() => Turn::Done(done.ok()),
            Some(_) = self.closing.join_next() => Turn::Done(None),
            () = self.listeners.one_gone() => Turn::ListenerGone,
            () = timer => Turn::TimedOut,
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Input(input) => self.input(input),
            Order::Ask { input, reply } => self.ask(input, reply),
            Order::Subscribe {
                channel,
                options,
                reply,
            } => self.subscribe(channel, options, reply),
            Order::Close => {}
        }
    }

    fn ask(&mut self, mut input: Input<RawJson>, reply: Answer) {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        match &mut input {
            Input::Publish { request, .. }
            | Input::Emit { request, .. }
            | Input::Presence { request, .. }
            | Input::PresenceUpdate { request, .. }
            | Input::History { request, .. } => *request = id,
            _ => return,
        }
        self.requests.insert(id, reply);
        self.input(input);
    }

    fn subscribe(
        &mut self,
        channel: ChannelName,
        options: SubscribeOptions,
        reply: oneshot::Sender<Result<Listener, ClientError>>,
    ) {
        // A subscription that was dropped before this order must not be shared: the options would have no effect.
        self.drop_abandoned();
        let status = self.machine.status();
        let error = match &status.error {
            Some(error) if status.state == ConnectionState::Failed => Some(error.clone()),
            _ if options != SubscribeOptions::default() && self.listeners.has(&channel) => {
                Some(ClientError::AlreadySubscribed)
            }
            _ => None,
        };
        if let Some(error) = error {
            // A caller that has gone does not want the answer.
            let _ = reply.send(Err(error));
            return;
        }
        let state = self.machine.channel_state(&channel);
        let listener = self.listeners.add(channel.clone(), state);
        // A listener that comes later than the last snapshot gets it too.
        if let Some((members, count)) = self.machine.synced_members(&channel) {
            listener.queue().push(Event::Sync {
                channel: channel.clone(),
                count,
                members: members.to_vec(),
            });
        }
        self.input(Input::Subscribe { channel, options });
        // A caller that has gone drops the listener, and that ends the subscription.
        let _ = reply.send(Ok(listener));
    }

    /// Unsubscribes from channels that nobody listens to any more.
    fn drop_abandoned(&mut self) {
        for channel in self.listeners.take_abandoned() {
            self.input(Input::Unsubscribe { channel });
        }
    }

    fn received(&mut self, received: Received) {
        match received {
            Received::Text(text) => {
                for message in decode_messages(&text) {
                    match message {
                        Ok(message) => self.input(Input::Message(message)),
                        // A newer server may say more.
                        Err(error) if error.problem == DecodeProblem::UnknownType => {}
                        Err(_) => self.input(Input::Unreadable),
                    }
                }
            }
            Received::Binary => self.input(Input::Unreadable),
            Received::Closed { code, reason } => {
                self.socket = None;
                self.input(Input::Closed { code, reason });
            }
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Opened(number, _) if number != self.socket_number => {}
            Done::Opened(_, Ok(socket)) => {
                self.socket = Some(socket);
                self.input(Input::Opened);
            }
            Done::Opened(_, Err((code, reason))) => self.input(Input::Closed { code, reason }),
            Done::Token(reply) => self.input(Input::Token(reply)),
            Done::ChannelAuth {
                channel,
                socket_id,
                reply,
            } => {
                self.channel_questions.retain(|(of, _)| *of != channel);
                self.input(Input::ChannelAuth {
                    channel,
                    socket_id,
                    reply,
                });
            }
        }
    }

    /// Handles once and drains to `None`; the timer is armed by the next turn.
    fn input(&mut self, input: Input<RawJson>) {
        let elapsed = self.start.elapsed().as_millis();
        let now = Millis(u64::try_from(elapsed).unwrap_or(u64::MAX));
        let mut next = Some(input);
        while let Some(input) = next {
            self.machine.handle(input, now);
            while let Some(output) = self.machine.poll_output() {
                self.act(output);
            }
            let failed = self.listeners.take_failed();
            next = failed.map(|channel| Input::Unsubscribe { channel });
        }
    }

    fn act(&mut self, output: Output<RawJson>) {
        match output {
            Output::Open { .. } => self.open(),
            Output::Send(text) => {
                if let Some(socket) = &mut self.socket {
                    socket.queue(text);
                }
            }
            Output::Close { code, reason } => self.close_socket(code, reason),
            Output::NeedToken { reason } => self.ask_for_token(reason),
            Output::NeedChannelAuth {
                channel,
                socket_id,
                reason,
            } => self.ask_for_channel_token(channel, socket_id, reason),
            Output::CancelChannelAuth { channel } => self.cancel_channel_token(&channel),
            Output::Event(event) => self.tell(event),
        }
    }

    fn open(&mut self) {
        self.socket = None;
        self.socket_number += 1;
        let number = self.socket_number;
        let request = self.request.clone();
        let frame_bytes_max = self.options.frame_bytes_max;
        let job = self.jobs.spawn(async move {
            let socket = Socket::open(request, frame_bytes_max).await;
            Done::Opened(number, socket.map(Box::new))
        });
        replace(&mut self.opening, Some(job));
    }

    fn close_socket(&mut self, code: u16, reason: &'static str) {
        self.socket_number += 1;
        replace(&mut self.opening, None);
        if let Some(socket) = self.socket.take() {
            self.closing.spawn(socket.close(code, reason));
        }
    }

    fn ask_for_token(&mut self, reason: TokenReason) {
        if let Some(provider) = self.options.token_provider.clone() {
            let job = (self.jobs).spawn(async move { Done::Token(provider(reason).await) });
            replace(&mut self.token_question, Some(job));
        }
    }

    fn ask_for_channel_token(
        &mut self,
        channel: ChannelName,
        socket_id: SocketId,
        reason: AuthReason,
    ) {
        if let Some(provider) = self.options.channel_auth.clone() {
            let request = ChannelAuthRequest {
                channel: channel.clone(),
                socket_id,
                reason,
            };
            let of = channel.clone();
            let job = self.jobs.spawn(async move {
                Done::ChannelAuth {
                    channel,
                    socket_id,
                    reply: provider(request).await,
                }
            });
            self.channel_questions.push((of, job));
        }
    }

    fn cancel_channel_token(&mut self, channel: &ChannelName) {
        self.channel_questions.retain(|(of, job)| {
            let is_other = of != channel;
            if !is_other {
                job.abort();
            }
            is_other
        });
    }

    fn tell(&mut self, event: Event<RawJson>) {
        match event {
            Event::Connection(status) => {
                if let (ConnectionState::Failed, Some(error)) = (status.state, &status.error) {
                    self.listeners.fail_all(error);
                }
                self.status.send_replace(status);
            }
            Event::RequestDone { request, result } => {
                if let Some(reply) = self.requests.remove(&request) {
                    // A caller that has gone does not want the answer.
                    let _ = reply.send(result);
                }
            }
            Event::Error(error) => {
                if let Some(on_error) = &self.options.on_error {
                    on_error(&error);
                }
            }
            event => self.listeners.tell(event),
        }
    }

    async fn finish(mut self) {
        self.input(Input::Disconnect);
        self.listeners.end_all();
        self.jobs.shutdown().await;
        while self.closing.join_next().await.is_some() {}
    }
}

fn replace(job: &mut Option<AbortHandle>, next: Option<AbortHandle>) {
    if let Some(earlier) = std::mem::replace(job, next) {
        earlier.abort();
    }
}

/// 32: then the other tasks have their turn.
const TURNS_AT_ONCE: u64 = 32;

/// 64 bits that differ between clients; the keys of a hash map are drawn from the system's randomness.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
