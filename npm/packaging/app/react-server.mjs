import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { App } from './react-app.js';

console.log(renderToString(createElement(App)));
