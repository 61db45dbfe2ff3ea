// Who is in the room.

import * as api from '/page/api.js';
import { byId, element, portrait, teamTitle } from '/page/dom.js';
import { notify } from '/page/notices.js';

export class People {
  #me;
  #members = new Map();
  #offs = [];

  constructor(me) {
    this.#me = me;
  }

  /** Follows the members of a room's channel; a private channel has none. */
  follow(room, channel) {
    this.leave();
    const { presence } = channel;
    if (room.team !== null) {
      byId('people-note').textContent = 'Private rooms do not say who reads along.';
      return this.#show();
    }
    byId('people-note').textContent = '';
    const refresh = () => {
      this.#members = new Map([...presence.members].map(([id, member]) => [id, { id, ...member.info }]));
      this.#show();
    };
    this.#offs = ['sync', 'join', 'leave'].map((event) => presence.on(event, refresh));
    refresh();
  }

  leave() {
    for (const off of this.#offs) off();
    this.#offs = [];
    this.#members = new Map();
    this.#show();
  }

  nameOf(id) {
    return this.#members.get(id)?.name ?? id;
  }

  #show() {
    const others = [...this.#members.values()].sort((a, b) => a.name.localeCompare(b.name));
    const isMe = (member) => member.id === this.#me.id;
    const members = [...others.filter(isMe), ...others.filter((member) => !isMe(member))];
    byId('people-count').textContent = members.length === 0 ? '' : String(members.length);
    byId('people').replaceChildren(...members.map((member) => this.#row(member, isMe(member))));
  }

  #row(member, isMe) {
    const row = element(
      'li',
      { className: 'person', data: { user: member.id } },
      portrait(member),
      element(
        'span',
        { className: 'name' },
        element('b', { textContent: member.name }),
        element('small', { textContent: isMe ? `${teamTitle(member.team)} · you` : teamTitle(member.team) }),
      ),
    );
    if (!isMe) {
      const button = element('button', { type: 'button', className: 'quiet', textContent: 'Poke' });
      button.setAttribute('aria-label', `Poke ${member.name}`);
      button.addEventListener('click', () => this.#poke(member));
      row.append(button);
    }
    return row;
  }

  async #poke(member) {
    try {
      await api.poke(member.id);
    } catch (error) {
      notify({ title: `${member.name} was not poked`, text: error.message, kind: 'bad' });
    }
  }
}
