// Byte strings: argv, paths and environment of a compile are bytes, not UTF-8. In TypeScript they are strings whose every
// character is one byte (latin1), so that grammars can use string operations and nothing is lost.

declare const byteString: unique symbol;

/** A string of characters U+0000 to U+00FF, each standing for one byte. Never print it: decode it first. */
export type ByteString = string & { readonly [byteString]: true };

/** Bytes to byte string, without loss. */
export function byteStringOf(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1") as ByteString;
}

/** Text to the byte string of its UTF-8 encoding. */
export function byteStringOfText(text: string): ByteString {
  return Buffer.from(text, "utf8").toString("latin1") as ByteString;
}

/** The bytes of a byte string; also the form in which `node:fs` takes a path that need not be UTF-8. */
export function bytesOf(text: ByteString): Buffer {
  return Buffer.from(text, "latin1");
}

/** Decodes for people: invalid UTF-8 becomes U+FFFD. */
export function displayText(text: ByteString): string {
  return Buffer.from(text, "latin1").toString("utf8");
}

/** A literal of ASCII characters as a byte string. */
export function ascii(text: string): ByteString {
  return text as ByteString;
}
