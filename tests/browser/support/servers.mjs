// The servers of the tests, each a process of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { DEADLINE_MS } from './browser.mjs';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const BIN = path.resolve(ROOT, process.env.FANFARE_BIN ?? path.join(process.env.CARGO_TARGET_DIR ?? 'target', 'debug'));
const CLIENT = path.join(ROOT, 'npm/dist');

/** A program that says in its first line where it listens. */
class Program {
  #name;
  #child = null;

  constructor(name) {
    this.#name = name;
  }

  /** Starts it and answers the end of its first line. */
  async start(args) {
    const program = path.join(BIN, this.#name);
    if (!existsSync(program)) throw new Error(`${program} is missing: run \`cargo xtask test --only browser\``);
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    process.once('exit', () => child.kill('SIGKILL'));
    const lines = createInterface({ input: child.stdout });
    const said = once(lines, 'line', { signal: AbortSignal.timeout(DEADLINE_MS) });
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`${this.#name} ended with ${code} before it listened`);
    });
    const [line] = await Promise.race([said, ended]);
    ended.catch(() => {});
    said.catch(() => {});
    return line.split(' ').at(-1);
  }

  /** Ends it at once, with nothing left to say. */
  async kill() {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }
}

/** The chat example. */
export class ChatServer {
  #program = new Program('chat');
  #folder = null;
  #args;
  url = null;

  /** @param {{ keeps?: boolean }} options whether messages and logins outlive the process */
  static async start({ keeps = false } = {}) {
    const server = new ChatServer();
    if (keeps) server.#folder = await mkdtemp(path.join(tmpdir(), 'fanfare-chat-'));
    server.#args = ['--client', CLIENT, ...(keeps ? ['--data-dir', server.#folder] : [])];
    await server.#start(0);
    return server;
  }

  /** Comes back on the port it had. */
  async restart() {
    await this.#start(new URL(this.url).port);
  }

  kill() {
    return this.#program.kill();
  }

  async end() {
    await this.kill();
    if (this.#folder !== null) await rm(this.#folder, { recursive: true });
  }

  async #start(port) {
    this.url = await this.#program.start([...this.#args, '--port', String(port)]);
  }
}

/** The standalone server, and a page of another origin that has nothing but what a browser has. */
export class StandaloneServer {
  #program = new Program('fanfare');
  #address = null;
  #site = null;

  static async start(args = []) {
    const server = new StandaloneServer();
    server.#address = await server.#program.start(['serve', '--listen', '127.0.0.1:0', ...args]);
    server.#site = createServer((_, response) => {
      response.setHeader('content-type', 'text/html');
      response.end('<!doctype html><title>A page of another origin</title>');
    }).listen(0, '127.0.0.1');
    await once(server.#site, 'listening');
    return server;
  }

  get address() {
    return this.#address;
  }

  get page() {
    return `http://127.0.0.1:${this.#site.address().port}/`;
  }

  async end() {
    this.#site.closeAllConnections();
    this.#site.close();
    await this.#program.kill();
  }
}

/** The server of the browser suites, with its levers, and a page that has the client and nothing else. */
export class SuiteServer {
  #program = new Program('wasm-suite-server');
  #address = null;
  #site = null;

  /** @param {string[]} args besides what every suite wants */
  static async start(...args) {
    const server = new SuiteServer();
    server.#address = await server.#program.start(['--until-stdin-closes', ...args]);
    server.#site = createServer(serve).listen(0, '127.0.0.1');
    await once(server.#site, 'listening');
    return server;
  }

  get url() {
    return `ws://${this.#address}/ws`;
  }

  get page() {
    return `http://127.0.0.1:${this.#site.address().port}/`;
  }

  /** Pulls a lever: `publish`, `drop`, `disconnect`, `unsubscribe`, `subscribers`. */
  async pull(lever, order) {
    const response = await fetch(`http://${this.#address}/test/${lever}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(order),
    });
    if (!response.ok) throw new Error(`${lever}: ${await response.text()}`);
    return response.json();
  }

  async end() {
    this.#site.closeAllConnections();
    this.#site.close();
    await this.#program.kill();
  }
}

const PAGE = `<!doctype html>
<title>A page with the client</title>
<script type="module">
  import * as fanfare from '/client/index.js';
  globalThis.fanfare = fanfare;
</script>`;

function serve(request, response) {
  if (request.url === '/') {
    response.setHeader('content-type', 'text/html');
    response.end(PAGE);
  } else if (request.url === '/client/index.js') {
    response.setHeader('content-type', 'text/javascript');
    createReadStream(path.join(CLIENT, 'index.js')).pipe(response);
  } else {
    response.statusCode = 404;
    response.end();
  }
}
