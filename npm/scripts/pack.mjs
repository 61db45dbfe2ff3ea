// Writes bytes as printable ASCII: any charset, any bundler and any quote leaves it as it is. `src/unpack.ts` reads it.

/** Below 90 a byte is one character, above it a space or an exclamation mark stands before it. */
export function pack(bytes) {
  let text = '';
  for (const byte of bytes) {
    text += ['', ' ', '!'][Math.floor(byte / 90)] + letter(byte % 90);
  }
  return text;
}

/** From `"` on; what a string in a script would have to escape is written as one of the last three. */
function letter(digit) {
  const plain = String.fromCharCode(digit + 34);
  const escaped = '"<\\'.indexOf(plain);
  return escaped < 0 ? plain : '|}~'[escaped];
}
