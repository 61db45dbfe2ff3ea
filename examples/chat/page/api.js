// The application's HTTP API.

/** An answer that is not a success. `status` is 0 when there was no answer at all. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
  }
}

export const me = () => ask('GET', '/api/me');
export const login = (name, team) => ask('POST', '/login', { name, team });
export const logout = () => ask('POST', '/logout');
export const messages = (room) => ask('GET', `/api/rooms/${encodeURIComponent(room)}/messages`);
export const say = (room, text, key) => ask('POST', `/api/rooms/${encodeURIComponent(room)}/messages`, { text, key });
export const poke = (user) => ask('POST', '/api/poke', { user });
export const cut = (seconds) => ask('POST', '/api/cut', { seconds });

async function ask(method, path, body) {
  const init = { method, signal: AbortSignal.timeout(10_000) };
  if (body !== undefined) {
    init.headers = { 'content-type': 'application/json' };
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new ApiError(0, 'the server does not answer');
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, answer?.error ?? `the server answered ${response.status}`);
  return answer;
}
