// Prints the sizes of what is published and fails when the default entry is above its budget.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

/**
 * Bytes of the default entry, module included, after brotli 11. It may only go down.
 *
 * It went up from 28 KiB for what keeps a client within the server's limits: pacing, lists of channels, and listeners that join in
 * later; and for the completion of capped lists of members. By 160 bytes for lists of channel tokens and pasts of many pages. And by
 * 1,120 for members that change their own info, which is remembered, repeated and taken back. By
 * 256 for what ends with its channel or its question: pasts, `headers`.
 */
export const BUDGET = 33_792;

const dist = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist');

/** The files of dist/ that a page may load, with their sizes. */
export function sizes() {
  const files = readdirSync(dist).filter((name) => /\.(js|cjs|wasm)$/.test(name));
  return files.map((name) => {
    const bytes = readFileSync(join(dist, name));
    const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
    return {
      name,
      raw: bytes.length,
      gzip: gzipSync(bytes, { level: 9 }).length,
      brotli: brotliCompressSync(bytes, { params }).length,
    };
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const all = sizes();
  console.table(Object.fromEntries(all.map(({ name, ...size }) => [name, size])));
  const { brotli } = all.find(({ name }) => name === 'index.js');
  if (brotli > BUDGET) {
    console.error(`the default entry has ${brotli} bytes, ${brotli - BUDGET} above its budget of ${BUDGET}`);
    process.exit(1);
  }
}
