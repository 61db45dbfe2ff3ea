// What it costs to hand one message to a handler, in Node and in Chromium, ours beside others.
//
//   node bench/run.mjs [--quick] [--node-only] [--check] [--write <file>]

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { cpus, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const PACKAGES = { pusher: 'pusher-js', centrifuge: 'centrifuge', 'socket.io': 'socket.io-client' };
/** A small message costs at most half of what it costs the two clients that keep channels as we do. */
const GOAL = 2;

const folder = dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    'node-only': { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    write: { type: 'string' },
  },
});
const effort = options.quick ? { rounds: 3, milliseconds: 15 } : { rounds: 9, milliseconds: 60 };
const plan = { sizes: [100, 1024, 10240], ...effort };

const work = mkdtempSync(join(tmpdir(), 'fanfare-bench-'));
try {
  await bundle(work);
  const results = { [`Node ${process.version.slice(1)}`]: inNode(work) };
  if (!options['node-only']) {
    const [name, result] = await inChromium(work);
    results[name] = result;
  }
  const text = table(results);
  console.log(text);
  if (options.write !== undefined) {
    write(resolve(process.env.INIT_CWD ?? process.cwd(), options.write), text);
  }
  if (options.check) {
    check(results);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** One bundle with every client, as a page would have it; the same file runs in both places. */
async function bundle(outdir) {
  await build({
    entryPoints: [join(folder, 'measure.js')],
    outfile: join(outdir, 'measure.mjs'),
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    alias: { '@fanfare/client': join(folder, '../dist/index.js') },
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'warning',
  });
}

function inNode(work) {
  const script = `
    // What some of the clients expect of a page; none of it is used while messages arrive.
    Object.assign(globalThis, { window: globalThis, self: globalThis });
    globalThis.document = { body: {}, location: {}, getElementsByTagName: () => [] };
    const { measure } = await import('./measure.mjs');
    console.log(JSON.stringify(await measure(${JSON.stringify(plan)})));
    process.exit(0);`;
  writeFileSync(join(work, 'node.mjs'), script);
  const { stdout, stderr, status } = spawnSync(process.execPath, ['node.mjs'], { cwd: work, encoding: 'utf8', timeout: 300_000 });
  if (status !== 0) {
    // Without the bundle's one long line.
    throw new Error(stderr.replaceAll(/^.{500,}$/gm, '...'));
  }
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

async function inChromium(work) {
  const server = createServer((request, response) => {
    const isScript = request.url === '/measure.mjs';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? readFileSync(join(work, 'measure.mjs')) : '<!doctype html><title>bench</title>');
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const browser = await chromium.launch({
    executablePath: process.env.FANFARE_CHROMIUM ?? process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    const result = await page.evaluate(async (plan) => {
      const { measure } = await import('/measure.mjs');
      return measure(plan);
    }, plan);
    return [`Chromium ${browser.version().split('.')[0]}`, result];
  } finally {
    await browser.close();
    server.close();
  }
}

function table(results) {
  const places = Object.keys(results);
  const names = Object.keys(results[places[0]][plan.sizes[0]]);
  const label = (bytes) => (bytes < 1024 ? `${bytes} B` : `${bytes / 1024} KB`);
  const columns = places.flatMap((place) => plan.sizes.map((bytes) => ({ place, bytes })));
  const version = (name) => (PACKAGES[name] === undefined ? '' : installed(PACKAGES[name]));
  const row = (cells) => `| ${cells.join(' | ')} |`;
  return [
    row(['', ...columns.map(({ place, bytes }) => `${place}, ${label(bytes)}`)]),
    row(['---', ...columns.map(() => '--:')]),
    ...names.map((name) =>
      row([`${name}${version(name)}`, ...columns.map(({ place, bytes }) => results[place][bytes][name].toFixed(2))]),
    ),
  ].join('\n');
}

function check(results) {
  let isMet = true;
  for (const [place, result] of Object.entries(results)) {
    const { fanfare, ...others } = result[plan.sizes[0]];
    for (const name of ['pusher', 'centrifuge']) {
      const ratio = others[name] / fanfare;
      isMet &&= ratio >= GOAL;
      console.log(`${place}: ${name} takes ${ratio.toFixed(1)} times as long (goal: at least ${GOAL})`);
    }
  }
  process.exitCode = isMet ? 0 : 1;
}

function write(file, text) {
  const command = 'npm run bench -- --write ../docs/benchmarks-client.md';
  const [before, after] = readFileSync(file, 'utf8').split(/<!-- results -->[^]*<!-- end -->/);
  if (after === undefined) {
    throw new Error(`${file} has no place for results: <!-- results --> ... <!-- end -->`);
  }
  const cpu = `${cpus().length} × ${cpus()[0].model}`;
  const date = new Date().toISOString().slice(0, 10);
  writeFileSync(file, `${before}<!-- results -->\n${cpu}, ${date}, \`${command}\`:\n\n${text}\n<!-- end -->${after}`);
}

function installed(name) {
  return ` ${JSON.parse(readFileSync(join(folder, 'node_modules', name, 'package.json'), 'utf8')).version}`;
}
