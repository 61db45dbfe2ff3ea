/** What every application here does: wait for a channel, ask for something, hear of it. */
export async function talk(Realtime, url, options) {
  const realtime = new Realtime(url, options);
  try {
    const orders = realtime.channel('orders');
    const created = orders.once('order.created', { timeout: 60_000 });
    await orders.ready({ timeout: 60_000 });
    await orders.publish('order.wanted', { id: 7, name: 'Zoë' });
    const { data } = await created;
    return `order ${data.id} for ${data.name}`;
  } finally {
    realtime.close();
  }
}
