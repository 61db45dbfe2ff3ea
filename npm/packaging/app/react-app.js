import { createElement, useCallback, useState } from 'react';
import { useConnection, useMembers, useOrders } from './hooks.ts';

export function App() {
  const { state } = useConnection();
  const members = useMembers('room');
  const [orders, setOrders] = useState(0);
  useOrders(useCallback(() => setOrders((count) => count + 1), []));
  return createElement('p', null, `${state}, ${members.size} here, ${orders} orders`);
}
