import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { factory } from '../scripts/glue.mjs';
import { BUDGET, sizes } from '../scripts/size.mjs';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const bin = (name) => fileURLToPath(new URL(`../node_modules/.bin/${name}`, import.meta.url));

test('the default entry stays within its budget', (t) => {
  const all = sizes();
  for (const { name, raw, gzip, brotli } of all) {
    t.diagnostic(`${name}: ${raw} bytes, ${gzip} gzip, ${brotli} brotli`);
  }
  const { brotli } = all.find(({ name }) => name === 'index.js');
  assert.ok(brotli <= BUDGET, `${brotli} bytes of ${BUDGET}`);
});

test('publint finds nothing', async () => {
  const manifest = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));
  const { messages } = await publint({ pkgDir: root, level: 'suggestion', strict: true });
  assert.deepEqual(messages.map((message) => formatMessage(message, manifest)), []);
});

test('arethetypeswrong finds nothing in what can be imported and required', async () => {
  await run(bin('attw'), ['--pack', root, '--entrypoints', '.', 'slim', '--profile', 'strict'], { cwd: root });
});

test('arethetypeswrong finds nothing in what can only be imported', async () => {
  const only = ['--profile', 'esm-only', '--entrypoints', 'external'];
  await run(bin('attw'), ['--pack', root, ...only], { cwd: root });
});

test('the tarball holds dist, what finds its entries, README, licences and package.json alone', async () => {
  const { stdout } = await run('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root });
  const [{ files }] = JSON.parse(stdout);
  const odd = files.map(({ path }) => path).filter((path) => !/^(dist\/|README\.md$|LICENSE-(MIT|APACHE)$|((slim|external)\/)?package\.json$)/.test(path));
  assert.deepEqual(odd, []);
  for (const wanted of ['dist/client.wasm', 'LICENSE-MIT', 'LICENSE-APACHE', 'slim/package.json', 'external/package.json']) {
    assert.ok(files.some(({ path }) => path === wanted), wanted);
  }
});

test('glue of another shape is refused, not passed on', async (t) => {
  const { mkdtempSync, rmSync, writeFileSync } = await import('node:fs');
  const { tmpdir } = await import('node:os');
  const folder = mkdtempSync(`${tmpdir()}/glue-`);
  t.after(() => rmSync(folder, { recursive: true }));
  const path = `${folder}/glue.js`;
  writeFileSync(path, 'export class Machine {}\nexport function initSync() {}\n');
  await assert.rejects(factory(path), /wasm-bindgen's glue has changed/);
});

/** What Node prints of an error that nobody catches. */
async function uncaught(imports) {
  const program = `${imports}
    const realtime = new Realtime('ws://127.0.0.1:9/ws', { autoConnect: false });
    realtime.close();
    realtime.channel('orders');`;
  const kind = imports.includes('require') ? 'commonjs' : 'module';
  const failed = run(process.execPath, [`--input-type=${kind}`, '--eval', program], { cwd: root });
  return failed.then(() => assert.fail('it must fail'), ({ stderr }) => stderr);
}

for (const imports of ["import { Realtime } from '@fanfare/client';", "const { Realtime } = require('@fanfare/client');"]) {
  test(`an uncaught error is readable after ${imports}`, async () => {
    const printed = await uncaught(imports);
    assert.match(printed, /RealtimeError: the client is closed/);
    assert.ok(printed.length < 4096, `${printed.length} characters`);
  });
}

test('no line with code is long, and the module stands behind them all', () => {
  for (const name of readdirSync(`${root}/dist`).filter((name) => /\.(js|cjs)$/.test(name))) {
    const lines = readFileSync(`${root}/dist/${name}`, 'utf8').split('\n');
    const long = lines.filter((line) => line.length > 2000);
    assert.ok(long.length <= 1, `${name}: ${long.length} long lines`);
    assert.ok(long.every((line) => /^"[^"]*";$/.test(line)), `${name}: a long line is not the module alone`);
  }
});

test('what is public has its name behind a minifier', async () => {
  const names = await import('@fanfare/client');
  const { inspect } = await import('node:util');
  for (const name of ['Realtime', 'RealtimeError', 'UnauthorizedError']) {
    assert.equal(names[name].name, name);
  }
  assert.match(inspect(new names.UnauthorizedError()), /^UnauthorizedError: the credentials were refused/);
});

test('the targets of older bundlers can be compiled for', async () => {
  const { build } = await import('esbuild');
  for (const entry of ['index.js', 'index.cjs', 'slim.js', 'client.global.js']) {
    const entryPoints = [`${root}/dist/${entry}`];
    const target = ['es2019', 'chrome80'];
    const { warnings } = await build({ entryPoints, bundle: true, write: false, target, logLevel: 'silent' });
    assert.deepEqual(warnings, [], entry);
  }
});
