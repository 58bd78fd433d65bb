// The tar reader against what GNU tar writes in each of its formats, and against archives that are made to stop it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { link, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import { type RawEntry, rawTar } from "../../test/support/oci-layout.ts";
import { HpccError } from "../base/errors.ts";
import { EXTENDED_BYTES_MAX, readTar } from "./tar-decode.ts";

async function* inChunks(bytes: Buffer, chunkBytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

/** Entries as one line each: flag, mode, name, link, content. */
async function linesOf(bytes: Buffer, chunkBytes = 65536): Promise<string[]> {
  const lines: string[] = [];
  for await (const entry of readTar(inChunks(bytes, chunkBytes))) {
    const parts: Buffer[] = [];
    for await (const part of entry.body) parts.push(part);
    const content = Buffer.concat(parts);
    assert.equal(content.length, entry.sizeBytes);
    const text = content.length > 40 ? `${content.length} bytes` : content.toString("latin1");
    lines.push(`${entry.flag} ${entry.mode.toString(8)} ${entry.name} [${entry.link}] ${text}`);
  }
  return lines;
}

async function refuses(bytes: Buffer, words: RegExp): Promise<void> {
  await assert.rejects(
    linesOf(bytes),
    (error) => error instanceof HpccError && error.code === "image.invalid" && words.test(error.message),
    `${words}`,
  );
}

/** An archive whose first header was edited, its checksum made right again. */
function edited(entries: readonly RawEntry[], edit: (block: Buffer) => void): Buffer {
  const tar = rawTar(entries);
  edit(tar);
  tar.write("        ", 148, "latin1");
  let sum = 0;
  for (const byte of tar.subarray(0, 512)) sum += byte;
  tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return tar;
}

/** A member with an extended header of any content before it. */
const extended = (flag: string, content: string | Buffer): RawEntry[] => [
  { name: "ext", flag, content },
  { name: "f" },
];

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hpcc-tar-"));
});
after(() => rm(folder, { recursive: true, force: true }));

test("what GNU tar writes in each of its formats", async () => {
  const deep = `${"d".repeat(90)}/${"e".repeat(60)}`;
  const long = `${"n".repeat(150)}/${"m".repeat(120)}`;
  const names = ["a", `${deep}/short`, "dir/\u00e9"];
  const tree = join(folder, "tree");
  await mkdir(join(tree, "dir"), { recursive: true });
  await mkdir(join(tree, deep), { recursive: true });
  await mkdir(join(tree, long, ".."), { recursive: true });
  for (const name of names) await writeFile(join(tree, name), name);
  await writeFile(Buffer.concat([Buffer.from(`${tree}/dir/`), Buffer.from([0xff, 0x41])]), "bytes");
  await writeFile(join(tree, long), Buffer.alloc(3000, 1));
  await link(join(tree, "a"), join(tree, "hard"));
  await symlink("a", join(tree, "soft"));
  await symlink("t".repeat(200), join(tree, "softer"));
  const byName = (rows: string[]) => rows.sort();
  const pack = (format: string, paths: readonly string[]) =>
    execFileSync("tar", [
      "-c",
      `--format=${format}`,
      "--owner=0",
      "--group=0",
      "--mode=u=rw,go=r",
      "-C",
      tree,
      ...paths,
    ]);
  const latin1 = (text: string) => Buffer.from(text).toString("latin1");
  for (const format of ["gnu", "oldgnu", "pax"]) {
    const lines = byName(await linesOf(pack(format, ["dir", deep, long, "a", "hard", "soft", "softer"])));
    const expected = byName([
      `5 644 dir/ [] `,
      `0 644 dir/${latin1("\u00e9")} [] ${latin1("dir/\u00e9")}`,
      `0 644 dir/\xffA [] bytes`,
      `5 644 ${deep}/ [] `,
      `0 644 ${deep}/short [] 157 bytes`,
      `0 644 ${long} [] 3000 bytes`,
      `0 644 a [] a`,
      `1 644 hard [a] `,
      `2 777 soft [a] `,
      `2 777 softer [${"t".repeat(200)}] `,
    ]);
    assert.deepEqual(
      lines.map((line) => line.replace(/^2 644/, "2 777")),
      expected,
      format,
    );
  }
  assert.deepEqual(await linesOf(pack("ustar", [`${deep}/short`, "soft"])).then((rows) => rows.length), 2);
});

test("the bytes' chunks make no difference, and content may be left unread", async () => {
  const tar = rawTar([
    { name: "a", content: "x".repeat(700) },
    { name: "x", pax: { path: `${"p".repeat(200)}/é`, size: "3" }, content: "abc" },
    { name: "d/", flag: "5" },
    { name: "last", content: "end" },
  ]);
  const whole = await linesOf(tar);
  assert.equal(whole.length, 4);
  for (const chunkBytes of [1, 7, 511, 512, 513]) assert.deepEqual(await linesOf(tar, chunkBytes), whole);
  const names: string[] = [];
  for await (const entry of readTar(inChunks(tar, 100))) {
    names.push(entry.name.slice(0, 4));
    if (names.length === 1) for await (const part of entry.body) if (part.length > 0) break;
  }
  assert.deepEqual(names, ["a", "pppp", "d/", "last"]);
});

const record = (text: string) => `${text.length + 4} ${text}\n`;

test("global records of no meaning here are passed over, as by git archive", async () => {
  const tar = rawTar([{ name: "g", flag: "g", content: `52 comment=${"0".repeat(40)}\n` }, { name: "one" }]);
  assert.deepEqual(await linesOf(tar), ["0 644 one [] "]);
});

test("a name that ends in a slash is a folder of the old format", async () => {
  assert.deepEqual(await linesOf(rawTar([{ name: "d/", flag: "\0" }])), ["5 644 d/ [] "]);
});

test("the end: two blocks of zeros, or none, and nothing read behind them", async () => {
  const tar = rawTar([{ name: "a" }]);
  const members = tar.subarray(0, -1024);
  for (const end of [Buffer.alloc(0), Buffer.alloc(512), Buffer.alloc(1024), Buffer.alloc(10240)])
    assert.equal((await linesOf(Buffer.concat([members, end]))).length, 1);
  assert.equal((await linesOf(Buffer.concat([members, Buffer.alloc(1024), members]))).length, 1);
  assert.equal((await linesOf(Buffer.concat([tar, Buffer.from("rest")]))).length, 1);
  await refuses(Buffer.concat([members, Buffer.alloc(512), members]), /after a block of zeros/);
  await refuses(tar.subarray(0, 700), /middle of a block|content/);
  await refuses(rawTar([{ name: "f", content: "x".repeat(600) }]).subarray(0, 1000), /middle of a member's content/);
  await refuses(rawTar([{ name: "x", flag: "x", content: "8 path=a" }]), /cannot be read/);
  await refuses(rawTar([{ name: "L", flag: "L", content: "name\0" }]), /ends after an extended header/);
});

const HOSTILE: readonly (readonly [string, RegExp, Buffer])[] = [
  ["a record of negative length, which a reader would read for ever", /PAX/, rawTar(extended("x", "-6 a=b\n-6 a=b\n"))],
  ["a record of no length", /PAX/, rawTar(extended("x", "0 path=a\n"))],
  ["a record longer than its header", /PAX/, rawTar(extended("x", "99 path=a\n"))],
  ["a record without a value", /PAX/, rawTar(extended("x", "7 path\n"))],
  ["a record without a key", /PAX/, rawTar(extended("x", "6 =ab\n"))],
  ["a record that does not end its line", /PAX/, rawTar(extended("x", "9 path=abc"))],
  ["a length in hexadecimal", /PAX/, rawTar(extended("x", "0x9 path=\n"))],
  ["a length without a record", /PAX/, rawTar(extended("x", "9".repeat(600)))],
  ["a PAX size that is no number", /PAX size/, rawTar([{ name: "f", pax: { size: "1e3" } }])],
  ["a PAX size beyond all numbers", /PAX size/, rawTar([{ name: "f", pax: { size: "9".repeat(40) } }])],
  ["a size that is no number", /size that is no number/, edited([{ name: "f" }], (at) => at.write("9x", 124))],
  [
    "a binary size that is negative",
    /size that is too large/,
    edited([{ name: "f" }], (at) => at.fill(0xff, 124, 136)),
  ],
  ["a binary size of no meaning", /size that is too large/, edited([{ name: "f" }], (at) => at.fill(0x96, 124, 125))],
  ["a mode that is no number", /mode that is no number/, edited([{ name: "f" }], (at) => at.write("rw", 100))],
  [
    "an extended header of no end",
    /extended header of more than/,
    rawTar([{ name: "x", flag: "x", size: EXTENDED_BYTES_MAX + 1 }]),
  ],
  ["an extended header cut off", /middle of a/, rawTar([{ name: "L", flag: "L", size: 4096 }])],
  ["a file with a slash at its end", /slash at its end/, rawTar([{ name: "d/" }])],
  ["a global path", /global header that speaks/, rawTar(extended("g", record("path=aaaaaaa")))],
  ["a global link", /global header that speaks/, rawTar(extended("g", record("linkpath=all")))],
  ["a global size", /global header that speaks/, rawTar(extended("g", record("size=1000000")))],
  ["global holes", /global header that speaks/, rawTar(extended("g", record("GNU.sparse.major=1")))],
  [
    "a global header between a member's own",
    /global header after another/,
    rawTar([{ name: "L", flag: "L", content: "n\0" }, ...extended("g", record("comment=aaaa"))]),
  ],
  [
    "global headers without end",
    /more than 100 global/,
    rawTar(Array.from({ length: 101 }, () => ({ name: "g", flag: "g", content: record("comment=aaaa") }))),
  ],
  [
    "two names of a member",
    /names a member in two ways/,
    rawTar([{ name: "L", flag: "L", content: "n\0" }, ...extended("x", record("path=aaaaaaa"))]),
  ],
  [
    "two links of a member",
    /names a member in two ways/,
    rawTar([{ name: "K", flag: "K", content: "n\0" }, ...extended("x", record("linkpath=all"))]),
  ],
  ...(["x", "L", "K"] as const).map((flag): [string, RegExp, Buffer] => [
    `two headers ${flag} of a member`,
    /has two/,
    rawTar([{ name: "e", flag, content: record("path=aaaaaaa") }, ...extended(flag, record("path=aaaaaaa"))]),
  ]),
  ["Schily's format", /unknown format/, edited([{ name: "f" }], (at) => at.write("tar\0", 508, "latin1"))],
  ["another format", /unknown format/, edited([{ name: "f" }], (at) => at.write("star ", 257))],
];

for (const [what, words, tar] of HOSTILE) test(`refused: ${what}`, () => refuses(tar, words));

test("refused: a checksum that is wrong", async () => {
  const tar = rawTar([{ name: "f" }]);
  tar[0] = 0x67;
  await refuses(tar, /checksum/);
});

test("binary sizes are read", async () => {
  const tar = edited([{ name: "f", content: "abc" }], (at) => {
    at.fill(0, 124, 136);
    at[124] = 0x80;
    at[135] = 3;
  });
  assert.deepEqual(await linesOf(tar), ["0 644 f [] abc"]);
});

test("records of any bytes end in an error of ours or are read", async () => {
  const piece = fc.constantFrom("path=", "size=", "=", " ", "\n", "-", "0", "1", "9", "12 path=abcd\n", "\0", "\xff");
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 12 }), fc.constantFrom("x", "g", "L", "K"), async (pieces, flag) => {
      try {
        await linesOf(rawTar(extended(flag, Buffer.from(pieces.join(""), "latin1"))), 1 << 20);
      } catch (error) {
        if (!(error instanceof HpccError)) throw error;
      }
    }),
    { numRuns: 1000 },
  );
});
