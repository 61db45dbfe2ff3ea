import { readdirSync, readFileSync } from 'node:fs';
import { FakeServer } from './fake-server.mjs';
import { pair } from './client.mjs';

const folder = new URL('../../../protocol/tests/golden/', import.meta.url);
const WITHOUT_DIALECT = ['tolerated', 'invalid'];

/** Every golden frame of the native dialect that this side sends, as `[file, about, text]`. */
export function frames(direction) {
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  const parsed = files.map((name) => JSON.parse(readFileSync(new URL(name, folder), 'utf8')));
  return parsed
    .filter((file) => file.direction === direction && file.dialect?.startsWith('fanfare.v1'))
    .filter((file) => !WITHOUT_DIALECT.includes(file.name))
    .flatMap((file) => file.frames.map(({ about, text }) => ({ file: file.name, about, text })));
}

/** A client on a server that answers nothing by itself, so that commands get the numbers a test wants. */
export async function silent(t, { greeting, ...options } = {}) {
  const server = new FakeServer();
  server.onSocket = (socket) => socket.accept(greeting);
  server.onCommand = () => {};
  const { realtime } = pair(t, { server, ...options });
  if (options.autoConnect !== false) {
    await server.until(() => server.socket?.readyState === 1);
  }
  return { server, realtime };
}

/** Sends commands until the next one gets this number. */
export async function countTo(server, realtime, number) {
  const before = server.socket.commands.length;
  for (let sent = 1; sent < number; sent += 1) {
    realtime.channel('burnt').history().catch(() => {});
  }
  await server.until(() => server.socket.commands.length === before + number - 1);
}
