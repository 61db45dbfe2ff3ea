/** A frame: the fields of all these, in order. What is text is the JSON of fields already; fields that are `undefined` are left out. */
export function frame(...parts: (object | string | undefined)[]): string {
  return `{${fields(...parts)}}`;
}

/** The same without the braces. */
export function fields(...parts: (object | string | undefined)[]): string {
  const texts = parts.map((part) => (typeof part === 'object' ? JSON.stringify(part).slice(1, -1) : part));
  return texts.filter(Boolean).join();
}

/** How many bytes a text is in UTF-8. Not every runtime has a `TextEncoder`. */
export function byteLength(text: string): number {
  let bytes = text.length;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    // Each half of a surrogate pair counts for two.
    bytes += +(code > 0x7f) + +(code > 0x7ff && (code < 0xd800 || code > 0xdfff));
  }
  return bytes;
}
