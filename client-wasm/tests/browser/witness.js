// A host that writes down what it hears, and JavaScript's side of what the tests look at.

const DEADLINE = 60_000;

export class Witness {
  heard = [];
  hooks = {};
  methods = {};
  sockets = [];
  #waiting = [];

  /** Writes down that something happened, and then lets the test's own callback run. */
  hear(name, args) {
    this.heard.push([name, ...args]);
    for (const waiting of this.#waiting.splice(0)) {
      waiting();
    }
    this.hooks[name]?.(...args);
  }

  /** Calls `hook` with what the host's method of this name is called with. */
  on(name, hook) {
    this.hooks[name] = hook;
  }

  /** A question to the application. What it is asked is written down, too. */
  answer(name, method) {
    this.methods[name] = method;
  }

  has(name) {
    return name in this.methods;
  }

  async ask(name, question) {
    this.hear(name, [question]);
    return this.methods[name](question);
  }

  /** The number of the first entry from `from` on whose JSON text holds all of `parts`. */
  async find(from, parts) {
    const end = Date.now() + DEADLINE;
    for (let at = from; ; at++) {
      while (at >= this.heard.length) {
        await this.#more(end, parts);
      }
      const text = this.text(at);
      if (parts.every((part) => text.includes(part))) {
        return at;
      }
    }
  }

  text(at) {
    return JSON.stringify(this.heard[at]);
  }

  value(at, place) {
    return this.heard[at][place];
  }

  length() {
    return this.heard.length;
  }

  #more(end, parts) {
    return new Promise((resolve, reject) => {
      const timer = realSetTimeout(() => {
        const heard = this.heard.map((entry) => JSON.stringify(entry)).join('\n');
        reject(new Error(`nothing with ${parts} was heard, only\n${heard}`));
      }, end - Date.now());
      this.#waiting.push(() => {
        realClearTimeout(timer);
        resolve();
      });
    });
  }

  /** Real sockets from now on, kept for a look. */
  keepSockets() {
    const { sockets } = this;
    pageSocket(function (url, protocols) {
      const socket = new RealWebSocket(url, protocols);
      sockets.push(socket);
      return socket;
    });
  }

  /** Sockets that go nowhere. */
  pretendSockets() {
    const witness = this;
    pageSocket(function (url, protocols) {
      const socket = { url, protocols, sent: [], closed: [] };
      socket.send = (text) => socket.sent.push(text);
      socket.close = (...args) => socket.closed.push(args);
      witness.sockets.push(socket);
      witness.hear('open', [url, protocols]);
      return socket;
    });
  }

  /** The page's own sockets again. */
  release() {
    globalThis.WebSocket = RealWebSocket;
  }

  socket(at) {
    return this.sockets.at(at);
  }
}

const RealWebSocket = globalThis.WebSocket;

function pageSocket(make) {
  globalThis.WebSocket = make;
}

const realSetTimeout = globalThis.setTimeout.bind(globalThis);
const realClearTimeout = globalThis.clearTimeout.bind(globalThis);

/**
 * Counts what a machine takes from the page and does not give back. It is the first that sets a timer from now on; others may,
 * too: machines that earlier tests have left behind, and whoever drives the browser.
 */
export class Holdings {
  timers = new Set();
  listeners = 0;
  #callback;
  #restore = [];

  constructor() {
    this.#replace(globalThis, 'setTimeout', () => (callback, ms) => {
      const timer = realSetTimeout(() => {
        this.timers.delete(timer);
        callback();
      }, ms);
      this.#callback ??= callback;
      if (callback === this.#callback) {
        this.timers.add(timer);
      }
      return timer;
    });
    this.#replace(globalThis, 'clearTimeout', () => (timer) => {
      this.timers.delete(timer);
      realClearTimeout(timer);
    });
    for (const target of [globalThis, document]) {
      this.#replace(target, 'addEventListener', (real) => (...args) => {
        this.listeners++;
        real.apply(target, args);
      });
      this.#replace(target, 'removeEventListener', (real) => (...args) => {
        this.listeners--;
        real.apply(target, args);
      });
    }
  }

  timerCount() {
    return this.timers.size;
  }

  listenerCount() {
    return this.listeners;
  }

  release() {
    for (const restore of this.#restore) {
      restore();
    }
  }

  #replace(target, name, make) {
    const own = Object.getOwnPropertyDescriptor(target, name);
    Object.defineProperty(target, name, { value: make(target[name]), configurable: true, writable: true });
    this.#restore.push(() => {
      delete target[name];
      if (own) {
        Object.defineProperty(target, name, own);
      }
    });
  }
}

/** Answers every `fetch` with a status and a `Retry-After`, until it is released. */
export class Endpoint {
  #real = globalThis.fetch;

  static pretend(status, retryAfter) {
    const endpoint = new Endpoint();
    globalThis.fetch = async () => new Response('busy', { status, headers: { 'retry-after': retryAfter } });
    return endpoint;
  }

  /** Answers with this; how it was asked is `redirect`. An empty body is none, `…` one without an end. */
  static answers(status, type, body) {
    const endpoint = new Endpoint();
    const endless = () => new ReadableStream({ pull: (stream) => stream.enqueue(new Uint8Array(65_536)) });
    globalThis.fetch = async (request) => {
      endpoint.redirect = request.redirect;
      const headers = { 'content-type': type };
      return status === 0 ? Response.error() : new Response(body === '…' ? endless() : body || null, { status, headers });
    };
    return endpoint;
  }

  /**
   * Hands each request on and counts it: all, those for lists, and how many are open at once. Lists get `status` in place of an answer:
   * as many of them as `refusals`.
   */
  static counts(status, refusals) {
    const endpoint = Object.assign(new Endpoint(), { requests: 0, lists: 0, most: 0 });
    let open = 0;
    globalThis.fetch = async (request) => {
      const isList = 'channels' in (await request.clone().json());
      endpoint.requests++;
      endpoint.lists += +isList;
      endpoint.most = Math.max(endpoint.most, ++open);
      try {
        return isList && refusals-- > 0 ? new Response('{}', { status }) : await endpoint.#real.call(globalThis, request);
      } finally {
        open--;
      }
    };
    return endpoint;
  }

  release() {
    globalThis.fetch = this.#real;
  }
}

/** Catches what is given to `reportError` while `act` runs. */
export function reported(act) {
  const real = globalThis.reportError;
  const caught = [];
  globalThis.reportError = (thrown) => caught.push(String(thrown));
  try {
    act();
  } finally {
    globalThis.reportError = real;
  }
  return caught;
}

/** Dispatches an event of the page. */
export function dispatch(target, kind, persisted) {
  const event = new Event(kind);
  event.persisted = persisted;
  globalThis[target].dispatchEvent(event);
}

/** Calls the callback of a socket that goes nowhere. */
export function play(socket, callback, event) {
  socket[callback]?.(event);
}

/** A function that calls `act` whatever it is given, and returns what that returns. */
export function thrower(message, name) {
  return () => {
    throw Object.assign(new Error(message), { name });
  };
}

/** The parsed answer to a POST of JSON. */
export async function post(url, body, headers = {}) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  return JSON.stringify({ status: response.status, body: await response.json().catch(() => null) });
}
