const { Realtime, RealtimeError } = require('@fanfare/client');

const missing = ['TextEncoder', 'TextDecoder', 'fetch'].filter((name) => globalThis[name] === undefined);

test('jsdom lacks what this is about', () => expect(missing).not.toEqual([]));

test('it talks', async () => {
  const realtime = new Realtime(process.env.REALTIME_URL);
  const orders = realtime.channel('orders');
  const created = orders.once('order.created', { timeout: 60_000 });
  await orders.ready({ timeout: 60_000 });
  await orders.publish('order.wanted', { id: 7, name: 'Zoë' });
  expect((await created).data).toEqual({ id: 7, name: 'Zoë' });
  realtime.close();
}, 120_000);

test('what is missing is named', async () => {
  const realtime = new Realtime(process.env.REALTIME_URL, { auth: {} });
  const error = await new Promise((resolve) => {
    realtime.on('error', resolve);
    realtime.channel('private-x').on('e', () => {});
  });
  expect(error).toBeInstanceOf(RealtimeError);
  if (globalThis.fetch === undefined) {
    expect(error.message).toMatch('this runtime has no `fetch`');
  }
  realtime.close();
}, 120_000);
