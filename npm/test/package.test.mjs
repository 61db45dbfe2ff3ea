import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
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
  await run(bin('attw'), ['--pack', root, '--entrypoints', '.', '--profile', 'strict'], { cwd: root });
  await run(bin('attw'), ['--pack', root, '--entrypoints', 'slim', '--profile', 'node16'], { cwd: root });
});

test('arethetypeswrong finds nothing in what can only be imported', async () => {
  const only = ['--profile', 'esm-only', '--entrypoints', 'external'];
  await run(bin('attw'), ['--pack', root, ...only], { cwd: root });
});

test('the tarball holds dist, README and package.json alone', async () => {
  const { stdout } = await run('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root });
  const [{ files }] = JSON.parse(stdout);
  const odd = files.map(({ path }) => path).filter((path) => !/^(dist\/|README\.md$|package\.json$)/.test(path));
  assert.deepEqual(odd, []);
  assert.ok(files.some(({ path }) => path === 'dist/client.wasm'));
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
