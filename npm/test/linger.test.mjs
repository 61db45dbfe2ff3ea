import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connected, subscribed, turn } from './support/client.mjs';
import { position } from './support/fake-server.mjs';

/** A server whose channel keeps these offsets, and answers `history` from them, `most` at once. */
function keeps(server, from, to, most = Infinity) {
  const all = Array.from({ length: to - from + 1 }, (_, at) => from + at);
  const friendly = server.onCommand;
  server.onCommand = (socket, command) => {
    if (command.type !== 'history') {
      friendly(socket, command);
      return;
    }
    const { since, limit } = command;
    const wanted = since === undefined ? all.slice(-limit) : all.filter((offset) => offset > since.offset).slice(0, most);
    const events = wanted.map((offset) => ({ event: 'n', data: offset, offset, tag: position(offset).tag }));
    socket.say({ type: 'ok', id: command.id, channel: command.channel, events, position: position(to) });
  };
}

const say = (server, offset) => server.socket.event('list', 'n', offset, { offset, tag: position(offset).tag });

test('who comes back while the channel lingers hears what came meanwhile', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(0), linger: 60_000 });
  channel.unsubscribe();
  const first = [];
  const off = channel.on('n', (data) => first.push(data));
  await channel.ready();
  say(server, 1);
  off();
  say(server, 2);
  say(server, 3);
  const second = [];
  const third = [];
  channel.on('n', (data) => second.push(data));
  channel.on('*', (data) => third.push(data));
  await turn();
  say(server, 4);
  assert.deepEqual([first, second, third], [[1], [2, 3, 4], [2, 3, 4]]);
});

for (const linger of [Infinity, 2 ** 31, 2 ** 53]) {
  test(`a channel that lingers for ${linger} ms stays`, async (t) => {
    const { server, channel } = await subscribed(t, 'list', { position: position(0), linger });
    channel.unsubscribe();
    channel.on('n', () => {})();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(server.commands.filter(({ type }) => type === 'unsubscribe').length, 1, 'that of `unsubscribe()`');
    assert.equal(channel.state, 'subscribed');
  });
}

test('who leaves again before hearing it leaves it to the next', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(0), linger: 60_000 });
  channel.unsubscribe();
  const off = channel.on('n', () => {});
  await channel.ready();
  off();
  say(server, 1);
  channel.on('n', () => assert.fail('it has left'))();
  const heard = [];
  channel.on('n', (data) => heard.push(data));
  await turn();
  assert.deepEqual(heard, [1]);
});

test('more than can be held while the channel lingers is told as a gap', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(0), linger: 60_000 });
  channel.unsubscribe();
  channel.on('n', () => {})[Symbol.dispose]();
  await server.until(() => server.commands.filter(({ type }) => type === 'subscribe').length === 2);
  const { id } = server.commands.findLast(({ type }) => type === 'subscribe');
  assert.ok(id > 0);
  await server.until(() => channel.state === 'subscribed');
  for (let offset = 1; offset <= 300; offset += 1) {
    say(server, offset);
  }
  const heard = [];
  channel.onGap(({ reason }) => heard.push(reason));
  channel.on('n', (data) => heard.push(data));
  await turn();
  assert.equal(heard[0], 'overflow');
  assert.deepEqual(heard.slice(1), Array.from({ length: 44 }, (_, at) => 257 + at));
});

test('a list that is drawn anew five times is full each time', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(5), linger: 60_000 });
  keeps(server, 1, 5);
  for (let mount = 0; mount < 5; mount += 1) {
    const list = [];
    const off = channel.on('n', (data) => list.push(data), { rewind: 3 });
    await server.until(() => list.length === 3);
    assert.deepEqual(list, [3, 4, 5]);
    off();
  }
});

test('a later listener begins where it wants, in order and without disturbing the others', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(5) });
  const first = [];
  channel.on('n', (data) => first.push(data));
  keeps(server, 1, 6);
  const answer = server.onCommand;
  let hold = null;
  server.onCommand = (socket, command) => {
    if (command.type === 'history') {
      hold = () => answer(socket, command);
    } else {
      answer(socket, command);
    }
  };
  const second = [];
  const gaps = [];
  channel.onGap((gap) => gaps.push(gap));
  channel.on('n', (data, { recovered }) => second.push([data, recovered]), { since: position(3) });
  await server.until(() => hold !== null);
  // Both are under way together: the history has 6, 7 comes after it.
  say(server, 6);
  say(server, 7);
  assert.deepEqual(second, []);
  hold();
  say(server, 8);
  await server.until(() => second.length === 5);
  assert.deepEqual(second, [[4, true], [5, true], [6, true], [7, false], [8, false]]);
  assert.deepEqual(first, [6, 7, 8]);
  assert.deepEqual(gaps, []);
});

test('a later listener is told what the history no longer has', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(5) });
  keeps(server, 4, 5);
  const heard = [];
  channel.onGap(({ from, to, reason }) => heard.push([from, to, reason]));
  channel.on('n', (data) => heard.push(data), { since: position(1) });
  await server.until(() => heard.length === 3);
  assert.deepEqual(heard, [[2, 3, 'expired'], 4, 5]);
  channel.on('x', () => {}, { since: position(1, 'abcd') });
  await server.until(() => heard.length === 4);
  assert.deepEqual(heard.at(-1), [null, null, 'epoch']);
});

test('a later listener is told that the history has another message where it begins', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(5) });
  keeps(server, 1, 5);
  const heard = [];
  channel.onGap(({ from, to, reason }) => heard.push([from, to, reason]));
  channel.on('n', (data) => heard.push(data), { since: position(5) });
  await server.command('history');
  await turn();
  assert.deepEqual(heard, [], 'the same message');
  channel.on('n', (data) => heard.push(data), { since: { ...position(5), tag: 'f0' } });
  await server.until(() => heard.length > 0);
  assert.deepEqual(heard, [[null, null, 'diverged']]);
});

test('a later listener hears all of a past that has many pages, and nothing twice', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'list', { position: position(700) });
  keeps(server, 1, 702, 300);
  const answer = server.onCommand;
  let asked = 0;
  server.onCommand = (socket, command) => {
    asked += +(command.type === 'history');
    // Of these two the first page tells where the channel stands already; the second page has them.
    asked === 1 && command.type === 'history' && say(server, 701);
    answer(socket, command);
    // The history was ahead of what this connection had heard.
    asked === 3 && command.type === 'history' && queueMicrotask(() => [702, 703].forEach((offset) => say(server, offset)));
  };
  const gaps = [];
  realtime.on('gap', (gap) => gaps.push(gap));
  const heard = [];
  channel.on('n', (data) => heard.push(data), { since: position(0) });
  await server.until(() => heard.includes(703));
  assert.deepEqual(heard, Array.from({ length: 703 }, (_, at) => at + 1));
  assert.equal(asked, 3);
  assert.deepEqual(gaps, []);
});

test('what the history loses between two pages is told', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(6) });
  keeps(server, 1, 6, 2);
  const answer = server.onCommand;
  server.onCommand = (socket, command) => {
    answer(socket, command);
    command.type === 'history' && command.since.offset === 0 && keeps(server, 5, 6, 2);
  };
  const heard = [];
  channel.onGap(({ from, to, reason }) => heard.push([from, to, reason]));
  channel.on('n', (data) => heard.push(data), { since: position(0) });
  await server.until(() => heard.length === 5);
  assert.deepEqual(heard, [1, 2, [3, 4, 'expired'], 5, 6]);
});

test('a page that is refused is asked for again when the server says so, else what is missing is told', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'list', { position: position(4) });
  keeps(server, 1, 4, 2);
  const answer = server.onCommand;
  const refusals = [
    { code: 4324, error: 'read less', retry: true, retry_after: 1 },
    { code: 4315, error: 'not now', retry: true },
  ];
  server.onCommand = (socket, command) => {
    if (command.type !== 'history') {
      answer(socket, command);
      return;
    }
    const refusal = command.since.offset === 2 && refusals.shift();
    refusal ? socket.say({ type: 'error', id: command.id, ...refusal }) : answer(socket, command);
  };
  const heard = [];
  const errors = [];
  realtime.on('error', ({ code, serverCode, channel }) => errors.push({ code, serverCode, channel }));
  channel.onGap(({ from, to, reason }) => heard.push([from, to, reason]));
  channel.on('n', (data) => heard.push(data), { since: position(0) });
  await server.until(() => errors.length === 1);
  assert.deepEqual(heard, [1, 2, [3, null, 'not now']]);
  assert.deepEqual(errors, [{ code: 'rejected', serverCode: 4315, channel: 'list' }]);
});

test('a past without an end is left out from a page on, and that is told', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(0) });
  const answer = server.onCommand;
  let pages = 0;
  server.onCommand = (socket, command) => {
    if (command.type !== 'history') {
      answer(socket, command);
      return;
    }
    pages += 1;
    const offset = command.since.offset + 1;
    const events = [{ event: 'n', data: offset, offset, tag: position(offset).tag }];
    // It grows faster than it is read.
    say(server, 2 * offset - 1);
    say(server, 2 * offset);
    socket.say({ type: 'ok', id: command.id, channel: 'list', events, position: position(2 * offset) });
  };
  const heard = [];
  channel.onGap(({ from, to, reason }) => heard.push([from, to, reason]));
  channel.on('n', (data) => heard.push(data), { since: position(0) });
  await server.until(() => heard.some(Array.isArray));
  say(server, 201);
  assert.equal(pages, 100);
  assert.deepEqual(heard, [...Array.from({ length: 100 }, (_, at) => at + 1), [101, 200, 'overflow'], 201]);
});

test('more than can wait while the past is read is in the past, or told as a gap', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(0) });
  keeps(server, 1, 1, 300);
  const answer = server.onCommand;
  server.onCommand = (socket, command) => {
    if (command.type === 'history') {
      for (let offset = 1; offset <= 1030; offset += 1) {
        say(server, offset);
      }
    }
    answer(socket, command);
  };
  const heard = [];
  channel.onGap(({ from, to, reason }) => heard.push([from, to, reason]));
  channel.on('n', (data) => heard.push(data), { since: position(0) });
  await server.until(() => heard.includes(1030));
  assert.deepEqual(heard, [1, [2, 6, 'overflow'], ...Array.from({ length: 1024 }, (_, at) => at + 7)]);
});

test('history is paged by the position that comes with it, or by that of a message', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(5) });
  keeps(server, 1, 5, 2);
  const pages = [];
  for (let since = position(0); since !== null; ) {
    const { messages, next, position: stands } = await channel.history({ since });
    assert.deepEqual(stands, position(5));
    pages.push(messages.map(({ data }) => data));
    const { epoch, offset, tag } = messages.at(-1);
    assert.deepEqual({ epoch, offset, tag }, position(offset));
    assert.deepEqual(next, offset < 5 ? position(offset) : null);
    since = next;
  }
  assert.deepEqual(pages, [[1, 2], [3, 4], [5]]);
  const { next } = await channel.history({ limit: 2 });
  assert.equal(next, null, 'the newest have nothing after them');
  const metas = [];
  channel.on('n', (_data, { epoch, offset, tag }) => metas.push({ epoch, offset, tag }));
  say(server, 6);
  say(server, 7);
  assert.deepEqual(metas, [position(6), position(7)]);
});

test('a refused question says which channel it was about, and that it was no publish', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'list', { position: position(5) });
  server.onCommand = (socket, { id }) => socket.say({ type: 'error', id, code: 4310, error: 'not subscribed', retry: false });
  const refused = { serverCode: 4310, channel: 'list' };
  await assert.rejects(channel.history(), { code: 'rejected', ...refused });
  await assert.rejects(channel.presence.fetch(), { code: 'rejected', ...refused });
  await assert.rejects(channel.publish('e', 1), { code: 'publish-rejected', ...refused });
  await assert.rejects(realtime.emit('e', 1), { code: 'publish-rejected', channel: undefined });
});

test('a later listener that leaves at once hears nothing of the past', async (t) => {
  const { server, channel } = await subscribed(t, 'list', { position: position(5) });
  keeps(server, 1, 5);
  const heard = [];
  channel.on('n', (data) => heard.push(data), { rewind: 3 })();
  await server.command('history');
  await turn();
  assert.deepEqual(heard, []);
});

test('where nothing is kept a later listener begins with what comes', async (t) => {
  const { server, realtime } = await connected(t);
  const errors = [];
  realtime.on('error', (error) => errors.push(error));
  const channel = realtime.channel('plain');
  channel.on('n', () => {});
  await channel.ready();
  const friendly = server.onCommand;
  server.onCommand = (socket, command) =>
    command.type === 'history'
      ? socket.say({ type: 'error', id: command.id, code: 4312, error: 'the channel keeps no history', retry: false })
      : friendly(socket, command);
  const heard = [];
  channel.on('n', (data) => heard.push(data), { rewind: 3 });
  await server.command('history');
  await turn();
  server.socket.event('plain', 'n', 1);
  assert.deepEqual(heard, [1]);
  assert.deepEqual(errors, []);
});

test('a hint about the member is honoured or refused, never dropped', async (t) => {
  const { server, realtime } = await connected(t, { linger: 60_000 });
  const channel = realtime.channel('presence-room');
  const off = channel.on('n', () => {}, { data: { name: 'Ann' } });
  await channel.ready();
  channel.on('n', () => {}, { data: { name: 'Ann' } })();
  assert.throws(() => channel.on('n', () => {}, { data: { name: 'Bob' } }), { code: 'bad-argument' });
  off();
  channel.on('n', () => {}, { data: { name: 'Bob' } });
  const again = await server.until(() => server.commands.filter(({ type }) => type === 'subscribe')[1]);
  assert.deepEqual(again.data, { name: 'Bob' });
});
