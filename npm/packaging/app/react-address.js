globalThis.realtimeUrl = new URLSearchParams(location.search).get('server');
