import { Realtime } from '@fanfare/client';
import { FakeServer } from './fake-server.mjs';

/** A client and the scripted server that it talks to; both end with the test. */
export function pair(t, options = {}, Client = Realtime) {
  const server = options.server ?? new FakeServer();
  const realtime = new Client('ws://example.org/ws', {
    WebSocket: server.WebSocket,
    linger: 5,
    backoff: { min: 1, max: 2 },
    ...options,
  });
  t.after(() => realtime.close());
  return { server, realtime };
}

/** The same, connected. */
export async function connected(t, options = {}, Client = Realtime) {
  const both = pair(t, options, Client);
  await both.realtime.connect();
  return both;
}

/** The same, with a channel that the server has confirmed at `position`. */
export async function subscribed(t, name, { position, presence, user_id, ...options } = {}) {
  const both = pair(t, options);
  const { server, realtime } = both;
  const friendly = server.onCommand;
  server.onCommand = (socket, command) => {
    if (command.type === 'subscribe' && command.channel === name) {
      const recovered = command.since !== undefined;
      socket.say({ type: 'subscription_succeeded', id: command.id, channel: name, position, presence, user_id, recovered });
    } else {
      friendly(socket, command);
    }
  };
  const channel = realtime.channel(name);
  channel.on('*', () => {});
  await channel.ready();
  return { ...both, channel };
}

/** What was reported as uncaught while the test ran. */
export function reported(t) {
  const errors = [];
  const before = globalThis.reportError;
  globalThis.reportError = (error) => errors.push(error);
  t.after(() => {
    globalThis.reportError = before;
  });
  return errors;
}

/** One turn of the event loop: whatever was under way without a timer is over. */
export function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}
