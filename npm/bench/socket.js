/**
 * A WebSocket whose other end is a script: what it is sent is answered by `answer(text, say)`, what arrives is whatever
 * `deliver` is given. It costs nothing itself, so that what is measured is the client.
 */
export function socketClass(greet, answer) {
  return class FakeSocket {
    static CONNECTING = 0;
    static OPEN = 1;
    static CLOSING = 2;
    static CLOSED = 3;
    /** The socket that the client has opened last. */
    static last;

    binaryType = 'blob';
    bufferedAmount = 0;
    extensions = '';
    protocol = '';
    readyState = 0;
    onopen = null;
    onmessage = null;
    onerror = null;
    onclose = null;
    #listeners = new Map();

    constructor(url, protocols) {
      this.url = String(url);
      this.protocol = [protocols ?? ''].flat()[0] ?? '';
      FakeSocket.last = this;
      queueMicrotask(() => {
        this.readyState = 1;
        this.#tell('open', {});
        greet((text) => this.deliver(text));
      });
    }

    addEventListener(kind, listener) {
      this.#listeners.set(kind, [...(this.#listeners.get(kind) ?? []), listener]);
    }

    removeEventListener(kind, listener) {
      const left = (this.#listeners.get(kind) ?? []).filter((other) => other !== listener);
      this.#listeners.set(kind, left);
    }

    send(text) {
      queueMicrotask(() => answer(text, (reply) => this.deliver(reply)));
    }

    close(code = 1000, reason = '') {
      if (this.readyState < 2) {
        this.readyState = 3;
        queueMicrotask(() => this.#tell('close', { code, reason, wasClean: true }));
      }
    }

    deliver(text) {
      this.#tell('message', { data: text });
    }

    #tell(kind, fields) {
      const event = { type: kind, target: this, currentTarget: this, ...fields };
      this[`on${kind}`]?.(event);
      for (const listener of this.#listeners.get(kind) ?? []) {
        listener(event);
      }
    }
  };
}

/** The page's own WebSocket. Some clients take hold of it when they are loaded, so it is replaced before that and once only. */
export class PageSocket {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  /** What is really made. */
  static kind;

  constructor(url, protocols) {
    return new PageSocket.kind(url, protocols);
  }
}

globalThis.WebSocket = PageSocket;
