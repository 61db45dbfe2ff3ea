// Packs the package, installs it in an empty project and runs it there: in Node, and in Chromium the way each tool serves it.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { build as esbuild } from 'esbuild';
import * as vite from 'vite';
import webpack from 'webpack';
import { Browser } from './support/browser.mjs';
import { Consumer } from './support/consumer.mjs';
import { FileServer, RealtimeServer } from './support/server.mjs';

const SAID = 'order 7 for Zoë';

let consumer;
let realtime;
let browser;

before(async () => {
  [consumer, realtime, browser] = await Promise.all([Consumer.create(), RealtimeServer.start(), Browser.start()]);
});

after(async () => {
  realtime?.stop();
  await browser?.stop();
  consumer?.remove();
});

test('the package holds what it needs and nothing else', () => {
  const others = consumer.files
    .map(({ path }) => path)
    .filter((path) => !/^((slim\/|external\/)?package\.json|README\.md|LICENSE-(MIT|APACHE)|dist\/.*\.(js|cjs|wasm|map|d\.ts|d\.cts))$/.test(path));
  assert.deepEqual(others, []);
  for (const licence of ['LICENSE-MIT', 'LICENSE-APACHE']) {
    assert.ok(consumer.files.some(({ path }) => path === licence), licence);
  }
});

test('Node, as an ES module', async () => {
  assert.equal(await consumer.node('node.mjs', realtime.url), SAID);
});

test('Node, as a CommonJS module', async () => {
  assert.equal(await consumer.node('node.cjs', realtime.url), SAID);
});

test('Node, with the module brought along', async () => {
  assert.equal(await consumer.node('slim.mjs', realtime.url), SAID);
});

test('Node, without a WebSocket', { skip: 'WebSocket' in globalThis }, async () => {
  assert.match(await consumer.node('bare.mjs', realtime.url), /install the package "ws"/);
});

test('Node, rendering on a server', async () => {
  assert.equal(await consumer.node('server-side.mjs'), 'idle');
});

test('TypeScript and tools that do not know `exports`', async () => {
  const tsc = join(createRequire(import.meta.url).resolve('typescript-oldest/package.json'), '../bin/tsc');
  const entries = ['', '/slim', '/external'];
  const imports = entries.map((entry, at) => `import { Realtime as Realtime${at} } from '@fanfare/client${entry}';`);
  writeFileSync(join(consumer.path, 'node10.ts'), `${imports.join('\n')}\nexport const all = [Realtime0, Realtime1, Realtime2];\n`);
  const options = ['--noEmit', '--strict', '--module', 'commonjs', '--moduleResolution', 'node', '--target', 'es2022'];
  await promisify(execFile)(process.execPath, [tsc, ...options, 'node10.ts'], { cwd: consumer.path }).catch(({ stdout }) =>
    assert.fail(stdout),
  );
  for (const entry of entries) {
    // What such tools read.
    const folder = join(consumer.path, 'node_modules/@fanfare/client', entry);
    const { main, module, types } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    for (const file of [main, module, types]) {
      assert.ok(existsSync(join(folder, file)), `${entry}: ${file}`);
    }
  }
});

test('workerd, as far as its conditions and its imports of modules go', async () => {
  const said = await consumer.node('--conditions=workerd', '--import=./compiled-wasm.mjs', 'node.mjs', realtime.url);
  assert.equal(said, SAID);
});

test('a page without a build step, as a module', async (t) => {
  const files = await serve(t, consumer.path);
  assert.equal(await browser.run(`${files.url}module.html`, realtime.url), SAID);
});

test('a page without a build step, with the module as a file', async (t) => {
  const files = await serve(t, consumer.path);
  assert.equal(await browser.run(`${files.url}module-external.html`, realtime.url), SAID);
});

test('a page without a build step, as a plain script', async (t) => {
  const files = await serve(t, consumer.path);
  assert.equal(await browser.run(`${files.url}global.html`, realtime.url), SAID);
});

test('a page whose policy allows WebAssembly', async (t) => {
  const policy = `script-src 'self' 'wasm-unsafe-eval'`;
  const files = await serve(t, await bundled('allowed'), { 'content-security-policy': policy });
  assert.equal(await browser.run(`${files.url}index.html`, realtime.url), SAID);
});

test('a page whose policy forbids WebAssembly', async (t) => {
  const files = await serve(t, await bundled('forbidden'), { 'content-security-policy': `script-src 'self'` });
  await assert.rejects(browser.run(`${files.url}index.html`, realtime.url), /add 'wasm-unsafe-eval' to script-src/);
});

test('esbuild', async (t) => {
  const files = await serve(t, await bundled('esbuild'));
  assert.equal(await browser.run(`${files.url}index.html`, realtime.url), SAID);
});

for (const [entry, name] of [['page', 'webpack'], ['external', 'webpack, with the module as a file']]) {
  test(name, async (t) => {
    const path = join(consumer.output, `webpack-${entry}`);
    const stats = await promisify(webpack)({
      mode: 'production',
      context: consumer.path,
      entry: `./${entry}.js`,
      output: { path, filename: 'app.js' },
    });
    assert.ok(!stats.hasErrors() && !stats.hasWarnings(), stats.toString());
    page(path);
    const files = await serve(t, path);
    assert.equal(await browser.run(`${files.url}index.html`, realtime.url), SAID);
  });
}

for (const [entry, name] of [['index', ''], ['external', ', with the module as a file'], ['slim', ', with the module brought along']]) {
  test(`Vite, built${name}`, async (t) => {
    const outDir = join(consumer.output, `vite-${entry}`);
    const input = join(consumer.path, `${entry}.html`);
    await vite.build({ ...quiet(), base: './', build: { outDir, rollupOptions: { input } } });
    const files = await serve(t, outDir);
    assert.equal(await browser.run(`${files.url}${entry}.html`, realtime.url), SAID);
  });
}

test('Vite, while developing', async (t) => {
  const server = await vite.createServer({ ...quiet(), server: { host: '127.0.0.1', port: 0, hmr: false } });
  t.after(() => server.close());
  await server.listen();
  const { port } = server.httpServer.address();
  assert.equal(await browser.run(`http://127.0.0.1:${port}/index.html`, realtime.url), SAID);
});

function quiet() {
  return { root: consumer.path, configFile: false, logLevel: 'error', clearScreen: false };
}

/** A folder with the page as esbuild bundles it. */
async function bundled(name) {
  const outdir = join(consumer.output, name);
  const entryPoints = [join(consumer.path, 'page.js')];
  await esbuild({ entryPoints, outfile: join(outdir, 'app.js'), bundle: true, minify: true, logLevel: 'error' });
  page(outdir);
  return outdir;
}

function page(folder) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'index.html'), '<!doctype html><title>Bundled</title><script src="app.js" defer></script>');
}

async function serve(t, folder, headers) {
  const files = await FileServer.start(folder, headers);
  t.after(() => files.stop());
  return files;
}
