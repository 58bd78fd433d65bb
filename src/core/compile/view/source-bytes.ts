// Codes and classes of the bytes that source texts are told apart by. Pure.
export const TAB = 0x09;
export const NEWLINE = 0x0a;
export const CARRIAGE_RETURN = 0x0d;
export const SPACE = 0x20;
export const QUOTE = 0x22;
export const HASH = 0x23;
export const PERCENT = 0x25;
export const APOSTROPHE = 0x27;
export const OPEN = 0x28;
export const CLOSE = 0x29;
export const STAR = 0x2a;
export const DOT = 0x2e;
export const SLASH = 0x2f;
export const COLON = 0x3a;
export const LESS = 0x3c;
export const EQUALS = 0x3d;
export const GREATER = 0x3e;
export const QUESTION = 0x3f;
export const BACKSLASH = 0x5c;
export const UNDERSCORE = 0x5f;

const BLANK = new Uint8Array(256);
for (const code of [0, TAB, 0x0b, 0x0c, CARRIAGE_RETURN, SPACE]) BLANK[code] = 1;

/** White space that ends no line; a NUL counts as such to compilers. */
export function isBlank(code: number): boolean {
  return BLANK[code] === 1;
}

const WORD = new Uint8Array(256);
for (let code = 0; code < 128; code += 1) if (/\w/.test(String.fromCharCode(code))) WORD[code] = 1;

/** A letter, digit or underscore. Bytes above ASCII and dollars belong to names for some compilers, not for others. */
export function isWord(code: number | undefined): boolean {
  return code !== undefined && WORD[code] === 1;
}
