/** Bytes that were deflated and written as base64. */
export async function inflate(base64: string): Promise<ArrayBuffer> {
  const stream = new Blob([decode(base64)]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Response(stream).arrayBuffer();
}

function decode(base64: string): Uint8Array<ArrayBuffer> {
  const { fromBase64 } = Uint8Array as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };
  if (fromBase64 !== undefined) {
    return fromBase64.call(Uint8Array, base64);
  }
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}
