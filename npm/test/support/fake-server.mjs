// A scripted server in memory: hands out WebSockets whose other end the test holds.

/** One server. Pass `server.WebSocket` to a client. */
export class FakeServer {
  /** Every socket that was ever opened. */
  sockets = [];
  /** What a socket does once it is made; by default it opens and greets. */
  onSocket = (socket) => socket.accept();
  /** How a command is answered; by default as a friendly server would. */
  onCommand = (socket, command) => friendly(socket, command);
  /** What a socket greets with besides what every greeting has. */
  greeting = {};
  #waiting = [];

  constructor() {
    const server = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url, protocols) {
        super(url, protocols, server);
        server.sockets.push(this);
        queueMicrotask(() => {
          server.onSocket(this);
          server.noticed();
        });
      }
    };
  }

  /** The newest socket. */
  get socket() {
    return this.sockets.at(-1);
  }

  /** All commands of all sockets, oldest first. */
  get commands() {
    return this.sockets.flatMap((socket) => socket.commands);
  }

  noticed() {
    for (const waiting of this.#waiting.splice(0)) {
      waiting();
    }
  }

  /** Waits until `condition` gives something true, and returns it. */
  async until(condition, what = condition.toString()) {
    const deadline = performance.now() + 60_000;
    for (;;) {
      const found = condition();
      if (found) {
        return found;
      }
      if (performance.now() > deadline) {
        throw new Error(`waited in vain for ${what}`);
      }
      await new Promise((resolve) => {
        this.#waiting.push(resolve);
        setTimeout(resolve, 5);
      });
    }
  }

  /** The next command of this type that was not returned yet. */
  command(type) {
    return this.until(() => {
      const command = this.commands.find((command) => command.type === type && !this.#taken.has(command));
      if (command !== undefined) {
        this.#taken.add(command);
      }
      return command;
    }, `the command "${type}"`);
  }

  #taken = new Set();
}

/** One end is a WebSocket, the other is the server's. */
class FakeSocket {
  binaryType = 'blob';
  readyState = 0;
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  /** What the client has sent, as text and as values. */
  frames = [];
  commands = [];
  /** How the client has closed it. */
  closedWith = null;
  #server;

  constructor(url, protocols, server) {
    this.url = url;
    this.protocols = protocols;
    this.#server = server;
  }

  send(text) {
    if (this.readyState !== 1) {
      throw new Error('the socket is not open');
    }
    const command = JSON.parse(text);
    this.frames.push(text);
    this.commands.push(command);
    queueMicrotask(() => {
      if (this.readyState === 1) {
        this.#server.onCommand(this, command);
      }
      this.#server.noticed();
    });
  }

  close(code = 1000, reason = '') {
    if (this.readyState >= 2) {
      return;
    }
    this.readyState = 3;
    this.closedWith = { code, reason };
    this.#server.noticed();
  }

  /** Opens it, and greets. */
  accept(greeting = {}) {
    this.open();
    this.greet(greeting);
  }

  open() {
    this.readyState = 1;
    this.protocol = this.protocols[0];
    this.onopen?.({ type: 'open' });
  }

  greet(greeting = {}) {
    const number = this.#server.sockets.indexOf(this) + 1;
    this.socketId = number.toString(16).padStart(32, '0');
    this.say({
      type: 'connected',
      socket_id: this.socketId,
      protocol: 1,
      ping_interval: 30000,
      max_payload_size: 1048576,
      server_time: Date.now(),
      ...this.#server.greeting,
      ...greeting,
    });
  }

  /** Sends a message, or a batch of them. */
  say(...messages) {
    this.sayText(JSON.stringify(messages.length === 1 ? messages[0] : messages));
  }

  sayText(text) {
    this.onmessage?.({ type: 'message', data: text });
  }

  event(channel, event, data, more = {}) {
    this.say({ type: 'event', channel, event, data, ...more });
  }

  /** The connection is lost, or ended by the server. */
  drop(code = 1006, reason = '') {
    this.readyState = 3;
    this.onclose?.({ type: 'close', code, reason, wasClean: code !== 1006 });
  }
}

/** Answers as a server would that has nothing against anybody. */
export function friendly(socket, command) {
  const { id, channel } = command;
  switch (command.type) {
    case 'authenticate':
      return socket.say({ type: 'ok', id, user_id: command.token.replace('token-of-', '') });
    case 'subscribe':
      if (command.channels !== undefined) {
        return command.channels.forEach((one) => friendly(socket, { ...one, type: 'subscribe', id }));
      }
      return socket.say({ type: 'subscription_succeeded', id, channel, recovered: command.since !== undefined });
    case 'unsubscribe':
      return socket.say({ type: 'unsubscribed', id, channel, code: 1000, reason: '' });
    case 'publish':
    case 'presence_update':
      return socket.say({ type: 'ok', id });
    case 'emit':
      return socket.say({ type: 'ok', id, event_id: 'e1' });
    case 'presence':
      return socket.say({ type: 'ok', id, members: [], count: 0 });
    case 'history':
      return socket.say({ type: 'ok', id, events: [], position: position(0) });
    case 'ping':
      return socket.say({ type: 'pong', timestamp: Date.now() });
    default:
      return undefined;
  }
}

/** What a server allows, as its greeting says it. */
export function limits(more = {}) {
  return { channels_max: 100, commands_per_second: 50, commands_burst: 200, message_bytes_max: 49152, ...more };
}

/** A position in an epoch of tests. */
export function position(offset, epoch = '5f3a') {
  return { epoch, offset, tag: offset === 0 ? '0' : (offset + 0xa0).toString(16) };
}
