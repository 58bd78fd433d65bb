import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { ascii, byteStringOfText } from "../../base/byte-string.ts";
import { parseGnu } from "../../core/compile/grammar/gnu-parse.ts";
import { driverPlaces } from "./driver-places.ts";
import { placeStamps } from "./loader-places.ts";
import { readReport } from "./read-probe.ts";

interface Place {
  readonly root: string;
  readonly say: (words: string) => string;
  readonly places: (words: string) => readonly string[] | null;
}

function inFolder(use: (place: Place) => void): void {
  const root = mkdtempSync(join(tmpdir(), "hpcc-places-"));
  const env = { PATH: `${join(root, "tools/bin")}:/usr/bin:/bin`, LC_ALL: "C" };
  mkdirSync(join(root, "tools/bin"), { recursive: true });
  const say = (words: string) => {
    const argv = [...words.split(" ").slice(1), "-v", "-c", "-x", "c++", "/dev/null", "-o", "x.o"];
    return spawnSync(words.split(" ")[0]!, argv, { cwd: root, encoding: "latin1", env }).stderr;
  };
  const places = (words: string) => {
    const family = words.startsWith("clang") ? "clang" : "gcc";
    const argv = `${words} -c a.cc`.split(" ").map(ascii);
    const parsed = parseGnu(argv, { family, readResponseFile: () => null });
    if (parsed.kind !== "compile") throw new Error(words);
    const report = readReport(ascii(say(words)))!;
    return driverPlaces(parsed.invocation, report, {
      cwd: byteStringOfText(root),
      driver: ascii("/opt/llvm/bin/clang"),
      path: [byteStringOfText(join(root, "tools/bin"))],
    });
  };
  try {
    use({ root, say, places });
  } finally {
    rmSync(root, { recursive: true });
  }
}

function make(root: string, path: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), "", { mode: 0o755 });
}

/** What of a report says where it looks. */
function told(text: string): string {
  const { folders, setUpBy } = readReport(ascii(text))!;
  return [...folders, ...setUpBy].join();
}

test("what changes where the real Clang looks changes a place", () => {
  const gcc = "usr/lib/gcc/x86_64-linux-gnu";
  const steps: readonly (readonly [words: string, ...made: string[]])[] = [
    ["clang++ --sysroot=sr", "sr/usr/include/h.h", "sr/usr/include/x86_64-linux-gnu/h.h"],
    ["clang++ --sysroot sr", "sr/usr/include/c++/9/h.h", `sr/${gcc}/9/crtbegin.o`, `sr/${gcc}/12/crtbegin.o`],
    ["clang++ --sysroot=sr -m32", `sr/${gcc}/12/crtbegin.o`, "sr/usr/include/c++/12/h.h", `sr/${gcc}/12/32/crtbegin.o`],
    ["clang++ --sysroot=sr -stdlib=libc++", "sr/usr/include/c++/v1/h.h", "sr/usr/include/c++/v2/h.h"],
    ["clang++ --gcc-toolchain=tc", "tc/include/c++/12/h.h", "tc/lib/gcc/x86_64-linux-gnu/12/crtbegin.o"],
    [
      "clang++ --target=x86_64-w64-windows-gnu",
      "tools/bin/x86_64-w64-mingw32-gcc",
      "tools/x86_64-w64-mingw32/include/h.h",
      "tools/lib/gcc/x86_64-w64-mingw32/12/include/h.h",
      "tools/lib/gcc/x86_64-w64-mingw32/13/include/h.h",
    ],
    ["clang++ --target=i686-w64-mingw32", "tools/bin/i686-w64-mingw32-gcc"],
    ["clang++ -resource-dir=rd", "rd/x.h", "rd/include/h.h"],
    ["clang++ -resource-dir rd -fsanitize=address", "rd/include/h.h", "rd/share/asan_ignorelist.txt"],
  ];
  for (const [words, ...made] of steps)
    inFolder(({ root, say, places }) => {
      let changes = 0;
      for (const path of made) {
        const [before, held] = [told(say(words)), places(words)!];
        const stamps = placeStamps(held);
        make(root, path);
        if (told(say(words)) === before) continue;
        changes++;
        assert.notEqual(placeStamps(held), stamps, `${words}: ${path}`);
      }
      assert.ok(changes > 0, words);
    });
});

test("calls that name no such place have none, nor have those of GCC or of the root folder", () => {
  inFolder(({ places }) => {
    for (const words of [
      "clang++",
      "clang++ -O2 -Iinc -isystem s -std=c++17",
      "g++ --sysroot=sr",
      "clang++ --sysroot=/",
    ])
      assert.deepEqual(places(words), [], words);
  });
});

test("places are few in a root with many folders, and links in circles end", () => {
  inFolder(({ root, places }) => {
    for (let at = 0; at < 600; at++) make(root, `sr/usr/include/part${at}/h.h`);
    symlinkSync(".", join(root, "sr/usr/usr"));
    assert.deepEqual(
      places("clang++ --sysroot=sr")?.map((path) => path.slice(root.length + 1)),
      ["sr", "sr/usr", "sr/usr/include"],
    );
    for (let at = 0; at < 600; at++) make(root, `sr/lib/gcc/x86_64-linux-gnu/${at}/x`);
    assert.equal(places("clang++ --sysroot=sr"), null);
  });
});
