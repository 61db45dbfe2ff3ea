// The application that every tool builds or runs: one event, there and back through a real server.

/** A round trip as an ES module; `options` is an expression for the client's options. */
export function source(imported, options = '{}') {
  return `${imported}

export async function roundTrip(url) {
  const realtime = new Realtime(url, ${options});
  const channel = realtime.channel('open-packaging');
  const heard = channel.once('hello', { timeout: 15000 });
  await channel.ready({ timeout: 15000 });
  await channel.publish('hello', { answer: 42 });
  const { data } = await heard;
  realtime.close();
  return data.answer;
}
`;
}

/** A page script that reports into the title, where a browser is easily asked. */
export const REPORT = `
const url = new URLSearchParams(location.search).get('url');
roundTrip(url).then(
  (answer) => { document.title = 'answer ' + answer; },
  (error) => { document.title = 'failed: ' + error.message; },
);
`;

export const IMPORT = "import { Realtime } from '@fanfare/client';";

export const PAGE = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>…</title></head>
<body><script type="module" src="/main.js"></script></body></html>
`;
