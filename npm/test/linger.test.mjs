import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connected, subscribed, turn } from './support/client.mjs';
import { position } from './support/fake-server.mjs';

/** A server whose channel keeps these offsets, and answers `history` from them. */
function keeps(server, from, to) {
  const all = Array.from({ length: to - from + 1 }, (_, at) => from + at);
  const friendly = server.onCommand;
  server.onCommand = (socket, command) => {
    if (command.type !== 'history') {
      friendly(socket, command);
      return;
    }
    const { since, limit } = command;
    const wanted = since === undefined ? all.slice(-limit) : all.filter((offset) => offset > since.offset);
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
