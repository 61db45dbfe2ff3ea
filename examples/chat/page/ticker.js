// The ticker: one numbered message a second, so that a hole would be seen.

import { isNewHistory } from '/page/connection.js';
import { byId, element } from '/page/dom.js';

const BARS = 60;

export class Ticker {
  #last = null;
  #recovered = 0;
  #missed = 0;
  #strip = byId('ticker-strip');
  #waiting = null;

  constructor(realtime, channel) {
    realtime.subscribe(channel, 'tick', (tick, meta) => this.#tick(tick.number, meta.recovered));
    realtime.channel(channel).onGap((gap) => isNewHistory(gap) && this.#restart());
    this.#strip.append(...Array.from({ length: BARS }, () => this.#bar('none')));
    this.#show();
  }

  /** While nothing can come, every second gets an empty place that recovery fills. */
  setConnected(isConnected) {
    if (isConnected) {
      clearInterval(this.#waiting);
      this.#waiting = null;
    } else {
      this.#waiting ??= setInterval(() => this.#push('awaited'), 1_000);
    }
  }

  /** What was awaited and not filled was never sent. */
  settle() {
    for (const bar of this.#strip.querySelectorAll('[data-kind=awaited]')) bar.remove();
    this.#fill();
  }

  #tick(number, isRecovered) {
    const expected = this.#last === null ? number : this.#last + 1;
    if (number < expected) return this.#wrong(`tick ${number} came after ${this.#last}`);
    for (let lost = expected; lost < number; lost += 1) {
      this.#missed += 1;
      this.#push('missed');
    }
    this.#last = number;
    if (isRecovered) {
      this.#recovered += 1;
      const place = this.#strip.querySelector('[data-kind=awaited]');
      if (place) place.dataset.kind = 'recovered';
      else this.#push('recovered');
    } else {
      this.#push('live');
    }
    this.#show();
  }

  /** The server counts from the beginning again: the client says so, and it is no loss. */
  #restart() {
    this.#last = null;
    this.settle();
  }

  #wrong(text) {
    this.#missed += 1;
    this.#push('missed');
    this.#show();
    console.error(text);
  }

  #push(kind) {
    this.#strip.append(this.#bar(kind));
    while (this.#strip.childElementCount > BARS) this.#strip.firstElementChild.remove();
  }

  #fill() {
    while (this.#strip.childElementCount < BARS) this.#strip.prepend(this.#bar('none'));
  }

  #bar(kind) {
    return element('i', { data: { kind } });
  }

  #show() {
    byId('ticker-number').textContent = this.#last ?? '–';
    byId('ticker-recovered').textContent = String(this.#recovered);
    byId('ticker-missed').textContent = String(this.#missed);
  }
}
