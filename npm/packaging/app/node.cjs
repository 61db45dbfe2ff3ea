const { Realtime } = require('@fanfare/client');
const { WebSocket } = require('ws');

import('./talk.js')
  .then(({ talk }) => talk(Realtime, process.argv[2], { WebSocket }))
  .then((said) => console.log(said));
