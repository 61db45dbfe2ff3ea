// Packs the client, installs the tarball into fresh folders, and runs it under each tool against a real server.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import * as esbuild from 'esbuild';
import { chromium } from 'playwright-core';
import { build, createServer } from 'vite';
import webpack from 'webpack';

import { IMPORT, PAGE, REPORT, source } from './support/application.mjs';
import { serveFolder, startEvents } from './support/servers.mjs';

const run = promisify(execFile);
const HERE = path.dirname(fileURLToPath(import.meta.url));
const PACKAGE = path.dirname(HERE);
const CHROMIUM_ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

let folder;
let tarball;
let events;
let browser;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'fanfare-packaging-'));
  await run('npm', ['pack', '--pack-destination', folder], { cwd: PACKAGE });
  const packed = (await readdir(folder)).filter((name) => name.endsWith('.tgz'));
  assert.equal(packed.length, 1);
  tarball = path.join(folder, packed[0]);
  events = await startEvents();
  const executablePath = process.env.FANFARE_CHROMIUM ?? '/usr/bin/chromium';
  browser = await chromium.launch({ executablePath, args: CHROMIUM_ARGUMENTS });
});

after(async () => {
  await browser?.close();
  await events?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A folder with the packed client installed and the given files beside it. */
async function application(name, files, type = 'module') {
  const root = path.join(folder, name);
  await mkdir(root);
  await writeFile(path.join(root, 'package.json'), JSON.stringify({ name, private: true, type }));
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', tarball], { cwd: root });
  for (const [file, text] of Object.entries(files)) {
    await writeFile(path.join(root, file), text);
  }
  return root;
}

/** Opens a page that reports into its title and expects the right answer. */
async function expectAnswer(origin) {
  const page = await browser.newPage();
  try {
    const problems = [];
    page.on('pageerror', (error) => problems.push(error.message));
    await page.goto(`${origin}/?url=${encodeURIComponent(events.url)}`);
    const answered = page.waitForFunction(() => document.title !== '…', null, { timeout: 30_000 });
    await answered.catch(() => assert.fail(`the page never answered: ${problems.join('; ')}`));
    assert.equal(await page.title(), 'answer 42', problems.join('; '));
  } finally {
    await page.close();
  }
}

async function expectAnswerFrom(served) {
  const server = await serveFolder(served);
  try {
    await expectAnswer(server.origin);
  } finally {
    await server.stop();
  }
}

const BROWSER_FILES = { 'index.html': PAGE, 'main.js': source(IMPORT) + REPORT };

test('Node, ES module', async () => {
  const main = `import WebSocket from ${JSON.stringify(import.meta.resolve('ws'))};
${source(IMPORT, '{ WebSocket }')}
console.log(await roundTrip(process.argv[2]));`;
  const root = await application('node-esm', { 'main.mjs': main });
  const { stdout } = await run('node', ['main.mjs', events.url], { cwd: root });
  assert.equal(stdout.trim(), '42');
});

test('Node, CommonJS', async () => {
  const ws = fileURLToPath(import.meta.resolve('ws')).replace(/wrapper\.mjs$/, 'index.js');
  const imports = `const { Realtime } = require('@fanfare/client');\nconst WebSocket = require(${JSON.stringify(ws)});`;
  const main = `${source(imports, '{ WebSocket }').replace('export async', 'async')}
roundTrip(process.argv[2]).then(console.log);`;
  const root = await application('node-cjs', { 'main.cjs': main }, 'commonjs');
  const { stdout } = await run('node', ['main.cjs', events.url], { cwd: root });
  assert.equal(stdout.trim(), '42');
});

test('Node without a WebSocket says what is missing', { skip: 'WebSocket' in globalThis }, async () => {
  const main = `${IMPORT}
new Realtime(process.argv[2], { autoConnect: false }).connect().catch((error) => console.log(error.message));`;
  const root = await application('node-bare', { 'main.mjs': main });
  const { stdout } = await run('node', ['main.mjs', events.url], { cwd: root });
  assert.match(stdout, /\bws\b/);
});

test('Vite, built', async () => {
  const root = await application('vite-build', BROWSER_FILES);
  await build({ root, logLevel: 'error' });
  await expectAnswerFrom(path.join(root, 'dist'));
});

test('Vite, development server', async () => {
  const root = await application('vite-dev', BROWSER_FILES);
  const server = await createServer({ root, logLevel: 'error', server: { host: '127.0.0.1', port: 0 } });
  try {
    await server.listen();
    const { port } = server.httpServer.address();
    await expectAnswer(`http://127.0.0.1:${port}`);
  } finally {
    await server.close();
  }
});

test('webpack', async () => {
  const root = await application('webpack', BROWSER_FILES);
  const compiler = webpack({
    mode: 'production',
    context: root,
    entry: './main.js',
    output: { path: path.join(root, 'dist'), filename: 'main.js' },
    performance: false,
  });
  const stats = await promisify(compiler.run.bind(compiler))();
  assert.ok(!stats.hasErrors(), stats.toString('errors-only'));
  await writeFile(path.join(root, 'dist', 'index.html'), PAGE);
  await expectAnswerFrom(path.join(root, 'dist'));
});

test('esbuild', async () => {
  const root = await application('esbuild', BROWSER_FILES);
  const outfile = path.join(root, 'dist', 'main.js');
  await esbuild.build({ absWorkingDir: root, entryPoints: ['main.js'], bundle: true, format: 'esm', minify: true, outfile });
  await writeFile(path.join(root, 'dist', 'index.html'), PAGE);
  await expectAnswerFrom(path.join(root, 'dist'));
});

test('a plain module script', async () => {
  const files = { 'index.html': PAGE, 'main.js': source("import { Realtime } from './client/index.js';") + REPORT };
  const root = await application('script-module', files);
  await cp(path.join(root, 'node_modules/@fanfare/client/dist'), path.join(root, 'client'), { recursive: true });
  await expectAnswerFrom(root);
});

test('a plain classic script', async () => {
  const script = `${source('const { Realtime } = Fanfare;').replace('export async', 'async')}${REPORT}`;
  const html = PAGE.replace(
    '<script type="module" src="/main.js">',
    '<script src="/client/client.global.js"></script><script src="/main.js">',
  );
  const root = await application('script-classic', { 'index.html': html, 'main.js': script });
  await cp(path.join(root, 'node_modules/@fanfare/client/dist'), path.join(root, 'client'), { recursive: true });
  await expectAnswerFrom(root);
});

test('the module as a file of its own', async () => {
  const files = { 'index.html': PAGE, 'main.js': source("import { Realtime } from './client/external.js';") + REPORT };
  const root = await application('script-external', files);
  await cp(path.join(root, 'node_modules/@fanfare/client/dist'), path.join(root, 'client'), { recursive: true });
  await expectAnswerFrom(root);
});
