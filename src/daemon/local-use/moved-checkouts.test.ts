import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { sha256 } from "../../core/digest/digest.ts";
import type { CallMessage } from "../../wire/launcher/messages.ts";
import { isBelowPlace, isMovable, namesPlace, placeNames } from "./moved-checkouts.ts";
import { callDigest, type LocalCall, readLocalCall } from "./read-local-call.ts";

function read(words: string, environment: readonly string[] = []): LocalCall {
  const message = { argv: words.split(" ").map(ascii), environment: environment.map(ascii), cwd: ascii("/w/p/sub") };
  const stage = readLocalCall(message as unknown as CallMessage, "gcc");
  if (stage.kind === "bypass") throw new Error(stage.reason);
  return stage.value;
}

const NAMES = placeNames(ascii("/w/p/sub"), ascii("/link/sub"), ascii("/w/p"));

test("a call moves when nothing of its place is in it", () => {
  for (const words of ["gcc -c a.c", "gcc -O2 -Iinc -I../x -g0 -c a.c -o ../o/a.o", "gcc -I/usr/share/x -c a.c"])
    assert.equal(isMovable(read(words), NAMES), true, words);
  for (const words of [
    "gcc -I/w/p/inc -c a.c",
    "gcc -c /w/p/a.c",
    "gcc -c a.c -o /link/sub/a.o",
    '-DROOT="/w/p"'.replace(/^/, "gcc -c a.c "),
    "gcc -g -c a.c",
    "gcc -ggdb3 -c a.c",
    "gcc -gsplit-dwarf -c a.c",
    "gcc --coverage -c a.c",
    "gcc -fprofile-arcs -c a.c",
    "gcc -flto -c a.c",
    "gcc -c a.i",
  ])
    assert.equal(isMovable(read(words), NAMES), false, words);
  assert.equal(isMovable(read("gcc -c a.c", ["CPATH=/w/p/inc"]), NAMES), false);
});

test("bytes that name the place are seen", () => {
  assert.equal(namesPlace(Buffer.from("x\0/w/p/sub/a.c\0"), NAMES), true);
  assert.equal(namesPlace(Buffer.from("/link/sub"), NAMES), true);
  assert.equal(namesPlace(Buffer.from("/w/q/sub"), NAMES), false);
});

test("bytes that name the place as outputs spell it are seen", () => {
  const names = placeNames(ascii('/w/a b$#\\ "\xe9'), undefined, null);
  for (const text of [
    'a.o: /w/a\\ b$$\\#\\\\\\ "\xe9/a.h',
    '.string "/w/a b$#\\\\ \\"\\351"',
    '# 1 "/w/a b$#\\\\ \\"\xe9/a.h"',
  ])
    assert.equal(namesPlace(Buffer.from(text, "latin1"), names), true, text);
});

test("paths below the place are told from its neighbours", () => {
  for (const [path, isBelow] of [
    ["/w/p/inc/h.h", true],
    ["/link/sub", true],
    ["/w/p2/inc/h.h", false],
    ["inc/h.h", false],
  ] as const)
    assert.equal(isBelowPlace(ascii(path), NAMES), isBelow, path);
});

test("each thing that a result depends on makes another digest, and nothing else does", () => {
  const compiler = sha256(Buffer.from("compiler"));
  const digest = (words: string, environment: readonly string[] = [], other = compiler) =>
    callDigest(read(words, environment), other, { place: null, folders: "0" });
  const base = digest("gcc -O2 -c a.c");
  const same = ["HOME=/x", "PATH=/usr/bin", "TERM=xterm", "MAKEFLAGS=-j2", "USER=me"];
  assert.equal(digest("gcc -O2 -c a.c", same), base);
  const others = [
    digest("gcc -O3 -c a.c"),
    digest("gcc -c a.c -O2"),
    digest("gcc -O2 -c a.c -o a.o"),
    digest("gcc-12 -O2 -c a.c"),
    digest("gcc -O2 -c a.c", [], sha256(Buffer.from("another"))),
    digest("gcc -O2 -c a.c", ["LANG=C.UTF-8"]),
    digest("gcc -O2 -c a.c", ["LC_ALL=C"]),
    digest("gcc -O2 -c a.c", ["CPATH=x"]),
    digest("gcc -O2 -c a.c", ["CPLUS_INCLUDE_PATH=x"]),
    digest("gcc -O2 -c a.c", ["SOURCE_DATE_EPOCH=1"]),
    digest("gcc -O2 -fdiagnostics-color=always -c a.c", ["GCC_COLORS=x"]),
    digest("gcc -O2 -fdiagnostics-color=always -c a.c"),
    callDigest(read("gcc -O2 -c a.c"), compiler, { place: [ascii("/w"), ascii("/w")], folders: "0" }),
    callDigest(read("gcc -O2 -c a.c"), compiler, { place: [ascii("/w"), ascii("/l")], folders: "0" }),
    callDigest(read("gcc -O2 -c a.c"), compiler, { place: null, folders: "-" }),
  ];
  assert.equal(new Set([base, ...others]).size, others.length + 1);
});
