// Where in a TOML file something is said: the parser gives values without places, and an error without a line is a search.

type Path = readonly (string | number)[];

const HEADER = /^\s*(\[\[?)([^\]]+)\]/;
const KEY = /^\s*((?:"[^"]*"|'[^']*'|[\w.-])+)\s*=/;
const WORD = /"([^"]*)"|'([^']*)'|([\w-]+)/g;

/** The line (from 1) that says what is at `path`, or else what is nearest above it; null when none does. */
export function lineOf(text: string, path: Path): number | null {
  const lines = linesByPath(text);
  for (let length = path.length; length > 0; length--) {
    const line = lines.get(nameOf(path.slice(0, length)));
    if (line !== undefined) return line;
  }
  return null;
}

/** Only what begins a line is found: a table's header, or a key. */
function linesByPath(text: string): Map<string, number> {
  const lines = new Map<string, number>();
  const counts = new Map<string, number>();
  const note = (path: Path, line: number) => {
    for (let length = 1; length <= path.length; length++) {
      const name = nameOf(path.slice(0, length));
      if (!lines.has(name)) lines.set(name, line);
    }
  };
  /** Puts the number of the newest element after the name of each array of tables. */
  const numbered = (words: readonly string[]): Path => {
    const path: (string | number)[] = [];
    for (const word of words) {
      path.push(word);
      const count = counts.get(nameOf(path));
      if (count !== undefined) path.push(count);
    }
    return path;
  };
  let table: Path = [];
  for (const [index, line] of text.split("\n").entries()) {
    const [, brackets, header] = HEADER.exec(line) ?? [];
    const [, key] = header === undefined ? (KEY.exec(line) ?? []) : [];
    if (header !== undefined) {
      const words = wordsOf(header);
      const above = numbered(words.slice(0, -1));
      if (brackets === "[[") {
        const name = nameOf([...above, words.at(-1) ?? ""]);
        counts.set(name, (counts.get(name) ?? -1) + 1);
      }
      table = numbered(words);
      note(table, index + 1);
    } else if (key !== undefined) note([...table, ...wordsOf(key)], index + 1);
  }
  return lines;
}

function wordsOf(dotted: string): string[] {
  return [...dotted.matchAll(WORD)].map(([, double, single, bare]) => double ?? single ?? bare ?? "");
}

function nameOf(path: Path): string {
  return JSON.stringify(path);
}
