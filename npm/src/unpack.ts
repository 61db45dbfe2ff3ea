/**
 * The bytes that `scripts/pack.mjs` has written as printable ASCII.
 *
 * Most bytes of a module are one character, the others two: so little is changed that a server's compression sees the module
 * itself, and what a page loads is smaller than with any encoding of a compressed one.
 */
export function unpack(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length);
  let length = 0;
  let above = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    const digit = (code > 123 ? '"<\\'.charCodeAt(code - 124) : code) - 34;
    if (digit < 0) {
      above = digit === -2 ? 90 : 180;
    } else {
      bytes[length] = digit + above;
      length += 1;
      above = 0;
    }
  }
  return bytes.subarray(0, length);
}
