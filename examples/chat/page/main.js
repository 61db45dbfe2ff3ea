// Signs in, connects, and puts the parts of the page together.

import { Realtime } from '/fanfare/index.js';

import * as api from '/page/api.js';
import { Connection, Recovery, isNewHistory } from '/page/connection.js';
import { byId, element, portrait, teamTitle } from '/page/dom.js';
import { notify } from '/page/notices.js';
import { People } from '/page/people.js';
import { Room } from '/page/room.js';
import { Ticker } from '/page/ticker.js';

/** Recovered messages come in one frame; this is time enough for all channels to be there. */
const SETTLE_MS = 400;
/** Somebody is watching: try again sooner than a page in the background should. */
const RETRY_MS_MAX = 3_000;

class Chat {
  #realtime;
  #me;
  #rooms;
  #people;
  #room = null;
  #recovery = new Recovery();
  #ticker;
  #isReloaded = false;

  constructor({ user, rooms, ticker, personal_channel: personal }) {
    this.#me = user;
    this.#rooms = rooms;
    const url = new URL('/ws', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    this.#realtime = new Realtime(url, { auth: { endpoint: '/ws/auth' }, backoff: { max: RETRY_MS_MAX } });
    this.#people = new People(user);
    this.#ticker = new Ticker(this.#realtime, ticker);
    this.#realtime.subscribe(ticker, 'tick', (_, meta) => meta.recovered && this.#recovery.count('ticks'));
    this.#realtime.on('gap', (gap) => {
      this.#isReloaded ||= isNewHistory(gap);
    });
    this.#realtime.subscribe(personal, 'poke', ({ from }) => notify({ title: `${from.name} pokes you`, kind: 'personal', from }));
    this.#realtime.subscribe(personal, 'mention', (note) => this.#mentioned(note));
    new Connection(this.#realtime, (status, before) => this.#statusChanged(status, before));
    this.#showMe();
    this.#listen();
    this.#open(location.hash.slice(1));
  }

  #statusChanged({ state }, before) {
    const isConnected = state === 'connected';
    this.#ticker.setConnected(isConnected || before === undefined);
    if (before === 'connected' && !isConnected) this.#recovery.lost();
    if (state === 'reconnecting' || state === 'failed') this.#checkSession();
    if (!isConnected || before === 'connected') return;
    this.#room?.retry();
    setTimeout(() => {
      this.#ticker.settle();
      this.#recovery.settle(this.#isReloaded);
      this.#isReloaded = false;
    }, SETTLE_MS);
  }

  /** A server that was started anew may not know this session: then there is nothing to wait for. */
  async #checkSession() {
    const { user } = await api.me().catch(() => ({ user: this.#me }));
    if (user === null) location.reload();
  }

  #mentioned({ from, room, text }) {
    const title = `${from.name} mentions you in ${this.#rooms.find(({ id }) => id === room)?.title ?? room}`;
    const action = room === this.#room?.id ? undefined : { title: 'Go there', run: () => this.#open(room) };
    notify({ title, text, kind: 'personal', from, action });
  }

  #open(id) {
    const room = this.#rooms.find((room) => room.id === id) ?? this.#rooms[0];
    if (this.#room?.id === room.id) return;
    this.#room?.close();
    history.replaceState(null, '', `#${room.id}`);
    document.title = `${room.title} · Fanfare chat`;
    this.#showRooms(room);
    this.#room = new Room(room, {
      realtime: this.#realtime,
      me: this.#me,
      people: this.#people,
      onRecovered: () => this.#recovery.count('messages'),
    });
  }

  #listen() {
    const words = byId('words');
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      const text = words.value.trim();
      if (!text) return;
      words.value = '';
      this.#room.say(text);
    });
    words.addEventListener('input', () => words.value && this.#room.typing());
    addEventListener('hashchange', () => this.#open(location.hash.slice(1)));
    byId('logout').addEventListener('click', async () => {
      await api.logout().catch(() => {});
      this.#realtime.disconnect();
      location.replace('/');
    });
  }

  #showMe() {
    const { name, team } = this.#me;
    byId('me').replaceChildren(
      portrait(this.#me),
      element('span', { className: 'name' }, element('b', { textContent: name }), element('small', { textContent: teamTitle(team) })),
    );
  }

  #showRooms(current) {
    const link = (room) => {
      const isOpen = room.team === null;
      const mark = element('span', { className: 'sign', textContent: isOpen ? '#' : '⌂', aria: { hidden: 'true' } });
      const made = element('a', { href: `#${room.id}`, data: { room: room.id } }, mark, room.title);
      if (room.id === current.id) made.setAttribute('aria-current', 'page');
      if (!isOpen && room.team !== this.#me.team) made.append(element('small', { textContent: 'not yours' }));
      return element('li', {}, made);
    };
    byId('open-rooms').replaceChildren(...this.#rooms.filter(({ team }) => team === null).map(link));
    byId('team-rooms').replaceChildren(...this.#rooms.filter(({ team }) => team !== null).map(link));
  }
}

async function start() {
  try {
    const me = await api.me();
    const isSignedIn = me.user !== null;
    byId('welcome').hidden = isSignedIn;
    byId('chat').hidden = !isSignedIn;
    byId(isSignedIn ? 'words' : 'login-name').focus();
    if (isSignedIn) new Chat(me);
  } catch (error) {
    byId('welcome').hidden = false;
    byId('login-error').textContent = `${error.message}.`;
  }
}

byId('login').addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = new FormData(event.currentTarget);
  byId('login-error').textContent = '';
  try {
    await api.login(form.get('name'), form.get('team'));
    await start();
  } catch (error) {
    byId('login-error').textContent = `${error.message}.`;
  }
});

start();
