import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { pair } from './support/client.mjs';

const require = createRequire(import.meta.url);
const wasm = fileURLToPath(import.meta.resolve('@fanfare/client/client.wasm'));

/** A copy of an entry that has loaded nothing yet. */
let copies = 0;
function fresh(entry) {
  copies += 1;
  return import(`${import.meta.resolve(entry)}?copy=${copies}`);
}

test('importing does nothing: no globals, no timers, nothing compiled', () => {
  const script = `
    const forbid = (name) => () => { throw new Error(name + ' was called'); };
    for (const name of ['compile', 'instantiate']) WebAssembly[name] = forbid(name);
    for (const name of ['Module', 'Instance']) WebAssembly[name] = forbid(name);
    for (const name of ['setTimeout', 'setInterval', 'queueMicrotask', 'fetch']) globalThis[name] = forbid(name);
    const before = Object.getOwnPropertyNames(globalThis).length;
    const { Realtime } = await import('@fanfare/client');
    const realtime = new Realtime('/ws', { autoConnect: false });
    realtime.channel('c');
    if (Object.getOwnPropertyNames(globalThis).length !== before) throw new Error('a global was made');
    console.log(realtime.state);
  `;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  assert.equal(output.trim(), 'idle');
});

test('the module is compiled once for all clients', async (t) => {
  const { Realtime } = await fresh('@fanfare/client');
  const { compile } = WebAssembly;
  let compiled = 0;
  const { size } = statSync(wasm);
  WebAssembly.compile = (bytes) => {
    // Node has modules of its own.
    compiled += bytes.byteLength === size ? 1 : 0;
    return compile(bytes);
  };
  t.after(() => {
    WebAssembly.compile = compile;
  });
  const pairs = [pair(t, {}, Realtime), pair(t, {}, Realtime)];
  await Promise.all(pairs.map(({ realtime }) => realtime.connect()));
  assert.equal(compiled, 1);
});

test('init() loads ahead of the first connection', async (t) => {
  const { init, Realtime } = await fresh('@fanfare/client');
  await init();
  const { compile } = WebAssembly;
  WebAssembly.compile = () => assert.fail('compiled already');
  t.after(() => {
    WebAssembly.compile = compile;
  });
  const { realtime } = pair(t, {}, Realtime);
  await realtime.connect();
});

test('a load that failed is an error with a code, and can be tried again', async (t) => {
  const { Realtime } = await fresh('@fanfare/client');
  const { compile } = WebAssembly;
  t.after(() => {
    WebAssembly.compile = compile;
  });
  WebAssembly.compile = async () => {
    throw new Error('out of luck');
  };
  const { realtime } = pair(t, { autoConnect: false }, Realtime);
  const waiting = realtime.channel('c').publish('e', 1);
  waiting.catch(() => {});
  await assert.rejects(realtime.connect(), { code: 'wasm-load', retryable: true });
  await assert.rejects(waiting, { code: 'wasm-load' });
  assert.equal(realtime.state, 'failed');
  WebAssembly.compile = compile;
  await realtime.connect();
  assert.equal(realtime.state, 'connected');
});

test('what a content security policy forbids has a code of its own', async (t) => {
  const { compile } = WebAssembly;
  t.after(() => {
    WebAssembly.compile = compile;
  });
  const { CompileError } = WebAssembly;
  const said = [
    "WebAssembly.compile(): Compiling or instantiating WebAssembly module violates the following Content Security policy directive because 'unsafe-eval' is not allowed",
    'call to WebAssembly.compile() blocked by CSP',
    'WebAssembly.compile(): Wasm code generation disallowed by embedder',
  ];
  for (const text of said) {
    const { Realtime } = await fresh('@fanfare/client');
    WebAssembly.compile = async () => {
      throw new CompileError(text);
    };
    const { realtime } = pair(t, { autoConnect: false }, Realtime);
    await assert.rejects(realtime.connect(), { code: 'wasm-csp', retryable: false, message: /wasm-unsafe-eval/ });
  }
});

test('nobody listens: a client that can not start says so on the console', async (t) => {
  const { error } = console;
  const said = [];
  console.error = (it) => said.push(it.code);
  t.after(() => {
    console.error = error;
  });
  const { Realtime } = await fresh('@fanfare/client/slim');
  const { server, realtime } = pair(t, {}, Realtime);
  await server.until(() => realtime.state === 'failed');
  assert.deepEqual(said, ['wasm-load']);
});

test('slim takes the module in every form', async (t) => {
  const bytes = readFileSync(wasm);
  const http = createServer((request, response) => {
    response.writeHead(request.url === '/client.wasm' ? 200 : 404);
    response.end(request.url === '/client.wasm' ? bytes : 'no');
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    http.close();
    http.closeAllConnections();
  });
  const url = `http://127.0.0.1:${http.address().port}/client.wasm`;
  const inputs = [
    bytes,
    new Uint8Array(bytes).buffer,
    new WebAssembly.Module(bytes),
    Promise.resolve(new WebAssembly.Module(bytes)),
    url,
    new URL(url),
    fetch(url),
  ];
  for (const input of inputs) {
    const { Realtime, init } = await fresh('@fanfare/client/slim');
    await init(input);
    const { realtime } = pair(t, {}, Realtime);
    await realtime.connect();
    realtime.close();
  }
  const { Realtime, init } = await fresh('@fanfare/client/slim');
  await assert.rejects(init(`${url}.gz`), { code: 'wasm-load', message: /404/ });
  const { realtime } = pair(t, { autoConnect: false }, Realtime);
  await assert.rejects(realtime.connect(), { code: 'wasm-load', message: /init\(\)/ });
  await init(bytes);
  await realtime.connect();
});

test('external fetches the file beside it', async (t) => {
  const { fetch } = globalThis;
  const fetched = [];
  globalThis.fetch = async (url) => {
    fetched.push(url.href);
    return new Response(readFileSync(url));
  };
  t.after(() => {
    globalThis.fetch = fetch;
  });
  const { Realtime } = await import('@fanfare/client/external');
  const { realtime } = pair(t, {}, Realtime);
  await realtime.connect();
  assert.deepEqual(fetched, [import.meta.resolve('@fanfare/client/client.wasm')]);
});

test('require() gets the same', async (t) => {
  for (const entry of ['@fanfare/client', '@fanfare/client/slim']) {
    const { Realtime, RealtimeError, init } = require(entry);
    await init(entry.endsWith('slim') ? readFileSync(wasm) : undefined);
    const { realtime } = pair(t, {}, Realtime);
    await realtime.connect();
    assert.equal(typeof RealtimeError, 'function');
  }
});

test('the script for pages without a build makes one name', async (t) => {
  const path = fileURLToPath(new URL('../dist/client.global.js', import.meta.url));
  const { Realtime } = new Function(`${readFileSync(path, 'utf8')};return Fanfare`)();
  const { realtime } = pair(t, {}, Realtime);
  await realtime.connect();
});

test('every entry exports the same names', async () => {
  const names = Object.keys(await import('@fanfare/client')).sort();
  assert.deepEqual(names, ['Realtime', 'RealtimeError', 'UnauthorizedError', 'init']);
  for (const entry of ['@fanfare/client/slim', '@fanfare/client/external']) {
    assert.deepEqual(Object.keys(await import(entry)).sort(), names);
  }
});
