// Imported in this order: the address is known before the hooks make their client.
import './react-address.js';
import { createElement, StrictMode } from 'react';
import { hydrateRoot } from 'react-dom/client';
import { realtime } from './hooks.ts';
import { App } from './react-app.js';

const errors = [];
console.error = (...values) => errors.push(values.join(' '));
const root = document.getElementById('root');
const onRecoverableError = (error) => errors.push(String(error));
// Connected already, as where the bundle of a page comes late: what is hydrated is the server's all the same.
realtime.connect().then(async () => {
  hydrateRoot(root, createElement(StrictMode, null, createElement(App)), { onRecoverableError });
  const orders = realtime.channel('orders');
  await orders.ready();
  const seen = new Promise((resolve) => {
    const look = () => root.textContent === 'connected, 1 here, 1 orders' && resolve();
    new MutationObserver(look).observe(root, { subtree: true, characterData: true, childList: true });
    look();
  });
  await Promise.all([seen, orders.publish('order.wanted', { id: 7 })]);
  globalThis.result = { text: root.textContent, errors };
});
