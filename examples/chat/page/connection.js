// The connection: what state it is in, when it tries again, and the button that cuts it.

import * as api from '/page/api.js';
import { byId, plural } from '/page/dom.js';
import { notify } from '/page/notices.js';

const CUT_SECONDS = 6;

const WORDS = {
  idle: 'Not connected',
  connecting: 'Connecting',
  connected: 'Connected',
  reconnecting: 'Reconnecting',
  offline: 'Offline',
  disconnected: 'Disconnected',
  failed: 'Refused',
};

/** Whether what follows has nothing to do with what came before: the server was started anew. */
export const isNewHistory = ({ kind, reason }) => kind === 'reset' || reason === 'epoch';

export class Connection {
  #realtime;
  #onStatus;
  #status;
  #countdown = null;

  constructor(realtime, onStatus) {
    this.#realtime = realtime;
    this.#onStatus = onStatus;
    realtime.on('status', (status) => this.#changed(status));
    byId('cut').addEventListener('click', () => this.#cut());
    byId('reconnect').addEventListener('click', () => {
      if (['disconnected', 'failed'].includes(this.#status.state)) this.#realtime.connect().catch(() => {});
      else this.#realtime.reconnectNow();
    });
    this.#changed(realtime.status);
  }

  #changed(status) {
    const before = this.#status?.state;
    this.#status = status;
    this.#show();
    clearInterval(this.#countdown);
    this.#countdown = status.retryAt ? setInterval(() => this.#show(), 100) : null;
    this.#onStatus(status, before);
  }

  #show() {
    const { state } = this.#status;
    const isConnected = state === 'connected';
    byId('connection').dataset.state = state;
    byId('connection-state').textContent = WORDS[state] ?? state;
    byId('connection-detail').textContent = this.#detail();
    byId('cut').hidden = !isConnected;
    byId('cut').disabled = false;
    byId('reconnect').hidden = isConnected;
  }

  #detail() {
    const { state, attempt, retryAt, resumed, reason } = this.#status;
    switch (state) {
      case 'connected':
        return resumed ? 'Picked up where it was cut.' : 'Every message as it happens.';
      case 'reconnecting': {
        const wait = retryAt ? (retryAt - Date.now()) / 1_000 : 0;
        return wait > 0 ? `Attempt ${attempt} in ${wait.toFixed(1)} s` : `Attempt ${attempt} is under way`;
      }
      case 'offline':
        return 'The browser says that there is no network.';
      case 'disconnected':
      case 'failed':
        return reason ? `The server said: ${reason}.` : 'It stays so until you try again.';
      default:
        return '';
    }
  }

  async #cut() {
    byId('cut').disabled = true;
    try {
      await api.cut(CUT_SECONDS);
    } catch (error) {
      this.#show();
      notify({ title: 'Not cut', text: error.message, kind: 'bad' });
    }
  }
}

/** Adds up what comes back after a cut and says so once everything is subscribed again. */
export class Recovery {
  #since = null;
  #counts = { messages: 0, ticks: 0 };

  lost() {
    if (this.#since === null) {
      this.#since = Date.now();
      this.#counts = { messages: 0, ticks: 0 };
    }
  }

  count(what) {
    this.#counts[what] += 1;
  }

  /** Shows the sum, if there was a cut. */
  settle(reloaded) {
    if (this.#since === null) return;
    const seconds = ((Date.now() - this.#since) / 1_000).toFixed(1);
    this.#since = null;
    const { messages, ticks } = this.#counts;
    const text = reloaded
      ? 'The server started again: messages were loaded anew.'
      : `Recovered ${plural(messages, 'message')} and ${plural(ticks, 'tick')}, in order.`;
    notify({ title: `Back after ${seconds} s`, text, kind: 'good' });
  }
}
