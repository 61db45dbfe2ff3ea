import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { WebSocketServer } from 'ws';

/** Speaks as much of the protocol as `talk` needs. */
export class RealtimeServer {
  url;
  #http = createServer((_, response) => response.writeHead(404).end());
  #sockets = new WebSocketServer({ server: this.#http, handleProtocols: (offered) => [...offered][0] });

  static async start() {
    const server = new RealtimeServer();
    server.#sockets.on('connection', (socket) => server.#serve(socket));
    server.url = `ws://127.0.0.1:${await listen(server.#http)}/ws`;
    return server;
  }

  stop() {
    for (const socket of this.#sockets.clients) {
      socket.terminate();
    }
    this.#http.close();
  }

  #serve(socket) {
    const say = (message) => socket.send(JSON.stringify(message));
    const server_time = Date.now();
    const socket_id = '00112233445566778899aabbccddeeff';
    say({ type: 'connected', socket_id, protocol: 1, ping_interval: 30_000, max_payload_size: 1_048_576, server_time });
    socket.on('message', (text) => {
      const { type, id, channel, data } = JSON.parse(text);
      if (type === 'subscribe') {
        const presence = channel.startsWith('presence-') ? { count: 1, members: [{ id: 'zoe', info: { name: 'Zoë' } }] } : undefined;
        say({ type: 'subscription_succeeded', id, channel, recovered: false, presence });
      } else if (type === 'publish') {
        // Both in one frame, as the server may do it.
        const created = { type: 'event', channel, event: 'order.created', data };
        socket.send(JSON.stringify([{ type: 'ok', id }, created]));
      } else if (type === 'unsubscribe') {
        say({ type: 'unsubscribed', id, channel, code: 1000, reason: '' });
      }
    });
  }
}

/** Serves the files of a folder, as any web server would. */
export class FileServer {
  url;
  #server;

  static async start(folder, headers = {}) {
    const files = new FileServer();
    files.#server = createServer((request, response) => {
      const path = join(folder, normalize(new URL(request.url, 'http://localhost').pathname));
      if (!existsSync(path) || !statSync(path).isFile()) {
        response.writeHead(404).end();
        return;
      }
      response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', ...headers });
      createReadStream(path).pipe(response);
    });
    files.url = `http://127.0.0.1:${await listen(files.#server)}/`;
    return files;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

function listen(server) {
  return new Promise((listening) => server.listen(0, '127.0.0.1', () => listening(server.address().port)));
}

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.wasm': 'application/wasm',
};
