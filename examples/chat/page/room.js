// The open room: its messages, each once and in order, and who is typing.

import * as api from '/page/api.js';
import { byId, clock, element, portrait } from '/page/dom.js';

const TYPING_SHOWN_MS = 3_500;
const TYPING_TOLD_MS = 2_000;
/** As many as the application keeps. */
const MESSAGES_MAX = 500;

/** What the state of the room's channel is called on the page. */
const STATES = {
  authorizing: 'asking for permission',
  subscribing: 'joining',
  subscribed: 'live',
  suspended: 'waiting for the connection',
  failed: 'no entry',
};

export class Room {
  #room;
  #me;
  #people;
  #onRecovered;
  #channel;
  #typing;
  #offs = [];
  #offTyping = null;
  /** The messages by number. */
  #messages = new Map();
  /** What was written here and is not yet in the room. */
  #unsent = [];
  #isSending = false;
  #needsLoad = true;
  #isLoading = false;
  #typists = new Map();
  #toldTyping = 0;
  #isClosed = false;

  constructor(room, { realtime, me, people, onRecovered }) {
    this.#room = room;
    this.#me = me;
    this.#people = people;
    this.#onRecovered = onRecovered;
    this.#channel = realtime.channel(room.channel);
    this.#typing = realtime.channel(room.typing_channel);
    byId('messages').replaceChildren();
    byId('room-title').textContent = room.title;
    byId('room-about').textContent = room.about;
    this.#offs.push(
      this.#channel.on('message', (message, meta) => this.#arrived(message, meta)),
      this.#channel.onState((state, _, error) => this.#stateChanged(state, error)),
      this.#channel.onGap(() => this.#reload()),
    );
    people.follow(room, this.#channel);
    this.#stateChanged(this.#channel.state, this.#channel.error);
    this.#showTyping();
  }

  get id() {
    return this.#room.id;
  }

  close() {
    this.#isClosed = true;
    for (const off of this.#offs) off();
    this.#offTyping?.();
    for (const timer of this.#typists.values()) clearTimeout(timer);
    this.#typists.clear();
    this.#people.leave();
  }

  /** Says something. It is shown at once as unsent, and sent again until the server has it. */
  say(text) {
    this.#toldTyping = 0;
    this.#unsent.push({ key: crypto.randomUUID(), text });
    this.#show();
    this.#send();
  }

  /** Tells the others that something is being written, now and then. */
  typing() {
    if (Date.now() - this.#toldTyping < TYPING_TOLD_MS || this.#typing.state !== 'subscribed') return;
    this.#toldTyping = Date.now();
    // Whether anybody sees the dots is no matter.
    this.#typing.publish('typing', {}).catch(() => {});
  }

  /** The connection is there again: what failed before may work now. */
  retry() {
    if (this.#channel.state === 'subscribed' && this.#needsLoad) this.#load();
    this.#send();
  }

  #stateChanged(state, error) {
    const badge = byId('room-state');
    badge.dataset.state = state;
    badge.textContent = STATES[state] ?? state;
    const isRefused = state === 'failed';
    byId('words').disabled = isRefused;
    byId('composer').querySelector('button').disabled = isRefused;
    byId('room-empty').dataset.kind = isRefused ? 'refused' : 'plain';
    byId('room-empty').textContent = isRefused
      ? `You cannot enter: ${error?.message ?? 'the server refused'}.`
      : 'Nobody has said anything yet.';
    if (state === 'subscribed') this.#entered();
    this.#show();
  }

  #entered() {
    if (this.#needsLoad) this.#load();
    this.#offTyping ??= this.#typing.on('typing', (_, meta) => this.#isTyping(meta.from?.id));
  }

  /** What came over the channel does not follow on what is here: ask the application for the whole. */
  #reload() {
    this.#needsLoad = true;
    this.#load();
  }

  /** Asks the application for the room's messages, until it has answered. */
  async #load() {
    if (this.#isLoading) return;
    this.#isLoading = true;
    try {
      while (this.#needsLoad && !this.#isClosed) {
        this.#needsLoad = false;
        for (const message of await api.messages(this.#room.id)) this.#messages.set(message.number, message);
      }
    } catch {
      // The next connection tries again.
      this.#needsLoad = true;
    }
    this.#isLoading = false;
    this.#show();
  }

  #arrived(message, meta) {
    this.#forgetTypist(message.author.id);
    this.#unsent = this.#unsent.filter((unsent) => unsent.key !== keyOf(message, this.#me));
    this.#messages.set(message.number, { ...message, isRecovered: meta.recovered });
    if (meta.recovered) this.#onRecovered();
    this.#show();
  }

  async #send() {
    if (this.#isSending) return;
    this.#isSending = true;
    while (this.#unsent.length > 0 && !this.#isClosed) {
      const next = this.#unsent[0];
      try {
        const message = await api.say(this.#room.id, next.text, next.key);
        if (!this.#messages.has(message.number)) this.#messages.set(message.number, message);
      } catch (error) {
        next.error = error.message;
        const mayPass = error.status === 0 || error.status >= 500;
        if (mayPass) break;
        byId('words').value ||= next.text;
      }
      this.#unsent = this.#unsent.filter((unsent) => unsent.key !== next.key);
      this.#show();
    }
    this.#isSending = false;
    this.#show();
  }

  #isTyping(id) {
    if (!id || id === this.#me.id) return;
    clearTimeout(this.#typists.get(id));
    this.#typists.set(id, setTimeout(() => this.#forgetTypist(id), TYPING_SHOWN_MS));
    this.#showTyping();
  }

  #forgetTypist(id) {
    clearTimeout(this.#typists.get(id));
    if (this.#typists.delete(id)) this.#showTyping();
  }

  #showTyping() {
    const names = [...this.#typists.keys()].map((id) => this.#people.nameOf(id));
    const line = byId('typing');
    line.dataset.on = String(names.length > 0);
    if (names.length === 0) line.textContent = '';
    else if (names.length <= 2) line.textContent = `${names.join(' and ')} ${names.length === 1 ? 'is' : 'are'} typing`;
    else line.textContent = 'Several people are typing';
  }

  /** Brings the list in line with what is known; what is there already stays as it is. */
  #show() {
    if (this.#isClosed) return;
    const list = byId('messages');
    const frame = byId('messages-frame');
    const wasAtEnd = frame.scrollHeight - frame.scrollTop - frame.clientHeight < 60;
    const numbers = [...this.#messages.keys()].sort((a, b) => a - b);
    for (const number of numbers.splice(0, Math.max(0, numbers.length - MESSAGES_MAX))) this.#messages.delete(number);
    let place = list.firstElementChild;
    let previous = null;
    for (const number of numbers) {
      const message = this.#messages.get(number);
      while (place && !(Number(place.dataset.number) >= number)) place = removed(place);
      if (place && Number(place.dataset.number) === number) {
        place = place.nextElementSibling;
      } else {
        list.insertBefore(this.#item(message, previous), place);
      }
      previous = message;
    }
    while (place) place = removed(place);
    for (const unsent of this.#unsent) list.append(this.#unsentItem(unsent));
    byId('room-empty').hidden = list.childElementCount > 0;
    if (wasAtEnd) frame.scrollTop = frame.scrollHeight;
  }

  #item(message, previous) {
    const isMine = message.author.id === this.#me.id;
    const follows = previous?.author.id === message.author.id && message.at - previous.at < 120_000;
    return element(
      'li',
      {
        className: ['message', isMine && 'mine', follows && 'follows', message.isRecovered && 'recovered'].filter(Boolean).join(' '),
        data: { number: String(message.number) },
      },
      portrait(message.author),
      element(
        'div',
        { className: 'bubble' },
        element('p', { className: 'by' },
          element('b', { textContent: message.author.name }),
          element('time', { textContent: clock(message.at), dateTime: new Date(message.at).toISOString() }),
          ...(message.isRecovered ? [element('em', { textContent: 'recovered' })] : [])),
        this.#words(message.text),
      ),
    );
  }

  #unsentItem(unsent) {
    return element(
      'li',
      { className: 'message mine unsent', data: { key: unsent.key } },
      portrait(this.#me),
      element(
        'div',
        { className: 'bubble' },
        element('p', { className: 'by' }, element('em', { textContent: unsent.error ? 'waiting to be sent' : 'sending' })),
        this.#words(unsent.text),
      ),
    );
  }

  /** The text, with the names that are called set off. */
  #words(text) {
    const parts = text.split(/(@[\p{L}\p{N}.'-]+)/u);
    const nodes = parts.map((part) => (part.startsWith('@') ? element('mark', { textContent: part }) : part));
    return element('p', { className: 'words' }, ...nodes);
  }
}

/** The key that this page gave a message of its own. */
function keyOf(message, me) {
  return message.author.id === me.id ? message.key.slice(me.id.length + 1) : null;
}

function removed(place) {
  const next = place.nextElementSibling;
  place.remove();
  return next;
}
