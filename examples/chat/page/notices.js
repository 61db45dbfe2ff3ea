// Short notices that come and go.

import { byId, element, portrait } from '/page/dom.js';

const SHOWN_MS = 9_000;
const SHOWN_MAX = 4;

/** Shows a notice; `from` adds a portrait, `action` a button. */
export function notify({ title, text = '', kind = 'plain', from, action }) {
  const close = element('button', { type: 'button', className: 'close', textContent: '×', aria: { label: 'Dismiss' } });
  const notice = element(
    'div',
    { className: 'notice', data: { kind } },
    ...(from ? [portrait(from)] : []),
    element('div', {}, element('b', { textContent: title }), element('p', { textContent: text })),
  );
  const end = () => notice.remove();
  if (action) {
    const button = element('button', { type: 'button', textContent: action.title });
    button.addEventListener('click', () => {
      end();
      action.run();
    });
    notice.append(button);
  }
  close.addEventListener('click', end);
  notice.append(close);
  const notices = byId('notices');
  notices.append(notice);
  while (notices.childElementCount > SHOWN_MAX) notices.firstElementChild.remove();
  setTimeout(end, SHOWN_MS);
}
