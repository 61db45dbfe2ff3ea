/** A frame: the fields of all these, in order. What is text is the JSON of fields already; fields that are `undefined` are left out. */
export function frame(...parts: (object | string | undefined)[]): string {
  return `{${fields(...parts)}}`;
}

/** The same without the braces. */
export function fields(...parts: (object | string | undefined)[]): string {
  const texts = parts.map((part) => (typeof part === 'object' ? JSON.stringify(part).slice(1, -1) : part));
  return texts.filter(Boolean).join();
}
