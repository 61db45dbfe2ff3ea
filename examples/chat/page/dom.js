// Elements from data. Whatever people wrote becomes text and never markup.

export const byId = (id) => document.getElementById(id);

/** An element with properties, data attributes (`data`) and children, which are elements or texts. */
export function element(tag, { data = {}, aria = {}, ...properties } = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  Object.assign(made.dataset, data);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
}

/** A round portrait with initials; its colour follows from the id. */
export function portrait(user) {
  const initials = user.name.split(/[\s-]+/).map((word) => [...word][0] ?? '').slice(0, 2).join('').toUpperCase();
  const made = element('span', { className: 'portrait', textContent: initials, aria: { hidden: 'true' } });
  let hash = 7;
  for (const character of user.id) hash = (hash * 31 + character.codePointAt(0)) % 360;
  made.style.setProperty('--hue', String(hash));
  return made;
}

export const teamTitle = (team) => (team === 'design' ? 'Design' : 'Engineering');

export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
