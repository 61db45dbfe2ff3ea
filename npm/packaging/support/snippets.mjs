import { readFileSync } from 'node:fs';

/** The JavaScript and TypeScript in the code blocks of a Markdown file, scripts in its pages included. */
export function snippets(file) {
  const blocks = readFileSync(file, 'utf8').matchAll(/^```(js|ts|html)\n([^]*?)^```$/gm);
  return [...blocks].flatMap(([, language, text]) => {
    if (language !== 'html') {
      return [{ language, text }];
    }
    const scripts = text.matchAll(/<script type="module">([^]*?)<\/script>/g);
    return [...scripts].map(([, script]) => ({ language: 'js', text: script }));
  });
}
