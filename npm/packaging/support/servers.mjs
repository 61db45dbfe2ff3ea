// What the applications talk to: the suite server for events, a static server for pages.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const BIN = path.resolve(ROOT, process.env.FANFARE_BIN ?? path.join(process.env.CARGO_TARGET_DIR ?? 'target', 'debug'));

/** Starts the suite server; it ends with its standard input. */
export async function startEvents() {
  const program = path.join(BIN, 'wasm-suite-server');
  if (!existsSync(program)) {
    throw new Error(`${program} is missing: run \`cargo build -p fanfare-tests\` first`);
  }
  const child = spawn(program, ['--until-stdin-closes'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = await once(createInterface(child.stdout), 'line');
  const address = /^listening on (\S+)$/.exec(line)?.[1];
  if (!address) {
    throw new Error(`the suite server said ${JSON.stringify(line)}`);
  }
  return {
    url: `ws://${address}/ws`,
    async stop() {
      child.stdin.end();
      await once(child, 'exit');
    },
  };
}

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' };

/** Serves a folder and nothing else. */
export async function serveFolder(folder) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const file = path.join(folder, path.normalize(pathname === '/' ? '/index.html' : pathname));
    try {
      const body = await readFile(file);
      response.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream' });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
