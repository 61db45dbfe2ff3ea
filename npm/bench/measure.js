import { CLIENTS } from './clients.js';

/**
 * Microseconds per message for each client and payload size, the clients taking turns so that whatever else the machine does
 * meets them all. The best round counts: noise only ever adds.
 */
export async function measure({ sizes, rounds, milliseconds }) {
  const table = {};
  for (const bytes of sizes) {
    const entrants = [];
    for (const [name, enter] of Object.entries(CLIENTS)) {
      const arrived = { count: 0, sum: 0 };
      const seen = (data) => {
        arrived.count += 1;
        arrived.sum += data.number;
      };
      entrants.push({ name, arrived, client: await enter(seen), best: Infinity });
    }
    const count = await messagesFor(milliseconds, bytes, entrants);
    for (let round = 0; round < rounds; round += 1) {
      for (const entrant of entrants) {
        entrant.best = Math.min(entrant.best, await run(entrant, count, bytes));
      }
    }
    table[bytes] = Object.fromEntries(entrants.map(({ name, best }) => [name, best]));
  }
  return table;
}

/** How many messages take so long; finding out also warms every client up. */
async function messagesFor(milliseconds, bytes, entrants) {
  let slowest = 0;
  for (const entrant of entrants) {
    for (let turn = 0; turn < 5; turn += 1) {
      await run(entrant, 1000, bytes);
    }
    slowest = Math.max(slowest, await run(entrant, 1000, bytes));
  }
  return Math.max(160, Math.round((milliseconds * 1000) / slowest));
}

async function run({ name, arrived, client }, count, bytes) {
  const payloads = Array.from({ length: count }, (_, number) => payload(number, bytes));
  const expected = payloads.reduce((sum, { number }) => sum + number, 0);
  const frames = client.frames(payloads);
  arrived.count = 0;
  arrived.sum = 0;
  const start = performance.now();
  for (const frame of frames) {
    client.deliver(frame);
  }
  // One client hands over in microtasks; all of them are over when the next task begins.
  if (arrived.count < count) {
    await nextTask();
  }
  const elapsed = performance.now() - start;
  if (arrived.count !== count || arrived.sum !== expected) {
    throw new Error(`${name}: ${arrived.count} of ${count} messages of ${bytes} bytes arrived`);
  }
  return (elapsed * 1000) / count;
}

function nextTask() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** An object of about so many bytes of JSON. */
function payload(number, bytes) {
  const message = { number, user: 'ann', at: 1_700_000_000_000 + number, text: '' };
  const missing = bytes - JSON.stringify(message).length;
  return { ...message, text: WORDS.repeat(Math.ceil(Math.max(0, missing) / WORDS.length)).slice(0, Math.max(0, missing)) };
}

const WORDS = 'the quick brown fox jumps over the lazy dog and comes back for more; ';
