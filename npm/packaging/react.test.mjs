// The README's hooks, run: on a server, hydrated, and under StrictMode.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { Browser } from './support/browser.mjs';
import { Consumer } from './support/consumer.mjs';
import { FileServer, RealtimeServer } from './support/server.mjs';
import { snippets } from './support/snippets.mjs';

const README = fileURLToPath(new URL('../README.md', import.meta.url));

let consumer;
let realtime;
let browser;

before(async () => {
  [consumer, realtime, browser] = await Promise.all([Consumer.create(), RealtimeServer.start(), Browser.start()]);
  ['react', 'react-dom', 'scheduler'].forEach((name) => consumer.link(name));
  const hooks = snippets(README).filter(({ text }) => text.includes('useSyncExternalStore'));
  assert.equal(hooks.length, 1);
  // The page's own server has no socket.
  const [{ text }] = hooks;
  assert.ok(text.includes("new Realtime('/ws'"));
  writeFileSync(join(consumer.path, 'hooks.ts'), `${text.replace("'/ws'", "(globalThis as any).realtimeUrl ?? '/ws'")}\nexport { realtime };\n`);
});

after(async () => {
  realtime?.stop();
  await browser?.stop();
  consumer?.remove();
});

async function bundle(entry, outfile, options) {
  const entryPoints = [join(consumer.path, entry)];
  await build({ entryPoints, outfile, bundle: true, logLevel: 'error', define: { 'process.env.NODE_ENV': '"development"' }, ...options });
}

/** What the server renders. */
async function rendered() {
  await bundle('react-server.mjs', join(consumer.path, 'rendered.cjs'), { platform: 'node', format: 'cjs' });
  return consumer.node('rendered.cjs');
}

test('a server renders them', async () => {
  assert.equal(await rendered(), '<p>idle, 0 here, 0 orders</p>');
});

test('a page hydrates them under StrictMode', async (t) => {
  const folder = join(consumer.output, 'react');
  mkdirSync(folder, { recursive: true });
  await bundle('react-page.js', join(folder, 'app.js'), { format: 'iife' });
  const head = '<!doctype html><meta charset="utf-8" /><title>React</title>';
  writeFileSync(join(folder, 'index.html'), `${head}<div id="root">${await rendered()}</div><script src="app.js" defer></script>`);
  const files = await FileServer.start(folder);
  t.after(() => files.stop());
  const { text, errors } = await browser.run(`${files.url}index.html`, realtime.url);
  assert.equal(text, 'connected, 1 here, 1 orders');
  assert.deepEqual(errors, []);
});
