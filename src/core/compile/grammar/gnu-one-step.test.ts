import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import { ascii } from "../../../base/byte-string.ts";
import { enteredHeaders, listingArgv, listsBoth, oneStepArgv, oneStepInjected } from "./gnu-one-step.ts";
import { parseGnu } from "./gnu-parse.ts";
import type { CompilerFamily, GnuInvocation } from "./invocation.ts";

const RESPONSES: Readonly<Record<string, string>> = { args: "-O2 '-DX=a b' @more", more: "-Wall -MD" };

function invocationOf(words: string | readonly string[]): GnuInvocation {
  const argv = (typeof words === "string" ? words.split(" ") : words).map(ascii);
  const family: CompilerFamily = argv[0] === "clang" ? "clang" : "gcc";
  const readResponseFile = (path: string) => (RESPONSES[path] === undefined ? null : Buffer.from(RESPONSES[path]));
  const parsed = parseGnu(argv, { family, readResponseFile });
  assert.ok(parsed.kind === "compile", JSON.stringify(parsed));
  return parsed.invocation;
}

function oneStep(words: string | readonly string[], place: "shared" | "own" = "shared", seed: string | null = "seed") {
  const invocation = invocationOf(words);
  const { family } = invocation;
  return oneStepArgv(invocation, {
    compiler: ascii("/usr/bin/cc"),
    outputPath: ascii("/out"),
    dependencyFile: null,
    randomSeed: seed === null ? null : ascii(seed),
    injected: oneStepInjected({ family, ownPaths: place === "own", pinned: false }),
  }).join(" ");
}

test("a guest that writes the dependency file is told what the caller's compiler is", () => {
  const argv = (words: string) => {
    const options = { compiler: ascii("cc"), outputPath: ascii("/out"), randomSeed: null, injected: [] };
    return oneStepArgv(invocationOf(words), { ...options, dependencyFile: ascii("/d") }).join(" ");
  };
  assert.equal(argv("gcc -c a.c -MMD -MP -MT t -MQ $u"), "cc -c a.c -o /out -MMD -MF /d -MT t -MQ $u -MP");
  assert.equal(argv("gcc -c a.c -o b.o -MD -MF x"), "cc -c a.c -o /out -MD -MF /d -MQ b.o");
  assert.equal(argv("gcc -c a.c"), "cc -c a.c -o /out");
});

describe("the guest's command line", () => {
  const map = "-ffile-prefix-map=/hpcc/project=.";
  const gcc = `-Werror=date-time ${map} -gno-record-gcc-switches`;
  const clang = `-Werror=date-time ${map}`;
  const rows: Readonly<Record<string, string>> = {
    "gcc -c a.c": `-c a.c ${gcc} -frandom-seed=seed -o /out`,
    "clang -c a.c": `-c a.c ${clang} -frandom-seed=seed -o /out`,
    // The name of the output stays where it is said, and is said as often.
    "gcc -o x.o -c a.c": `-o /out -c a.c ${gcc} -frandom-seed=seed`,
    "gcc -ox.o -c a.c -o y.o": `-o /out -c a.c -o /out ${gcc} -frandom-seed=seed`,
    "gcc --output=x.o -c a.c": `-o /out -c a.c ${gcc} -frandom-seed=seed`,
    // After `--` everything is a file.
    "clang -c -- a.c": `-c ${clang} -frandom-seed=seed -o /out -- a.c`,
    "clang -c -o x.o -- a.c": `-c -o /out ${clang} -frandom-seed=seed -- a.c`,
    // The dependency file is the client's, macros are not.
    "gcc -c a.c -MD -MF x -MT y -MQ z -MP": `-c a.c ${gcc} -frandom-seed=seed -o /out`,
    "gcc -c a.c -Wp,-MD,x": `-c a.c ${gcc} -frandom-seed=seed -o /out`,
    "clang -c a.c -Wp,-MD,x": `-c a.c ${clang} -frandom-seed=seed -o /out`,
    "gcc -c a.c -Wp,-DX=1 -Wp,-UY": `-c a.c -Wp,-DX=1 -Wp,-UY ${gcc} -frandom-seed=seed -o /out`,
    "gcc -c @args a.c": `-c -O2 -DX=a b -Wall a.c ${gcc} -frandom-seed=seed -o /out`,
    // What only a link reads: GCC ignores it, Clang has words for it.
    "gcc -c a.c -lm -L/x -Wl,-z": `-c a.c ${gcc} -frandom-seed=seed -o /out`,
    "clang -c a.c -lm -Wl,-z": `-c a.c -lm -Wl,-z ${clang} -frandom-seed=seed -o /out`,
    "gcc -c a.c -frandom-seed=own": `-c a.c -frandom-seed=own ${gcc} -o /out`,
    "gcc -c a.c -ffile-prefix-map=/a=/b": `-fdebug-prefix-map=/hpcc/project=. -fmacro-prefix-map=/hpcc/project=. -c a.c -ffile-prefix-map=/a=/b -Werror=date-time -gno-record-gcc-switches -frandom-seed=seed -o /out`,
  };
  for (const [words, expected] of Object.entries(rows))
    it(words, () => assert.equal(oneStep(words), `/usr/bin/cc ${expected}`));

  it("has none but the refusal of dates with the project at its own path", () => {
    assert.equal(oneStep("gcc -c a.c", "own", null), "/usr/bin/cc -c a.c -o /out");
    assert.equal(oneStep("clang -c a.c", "own", null), "/usr/bin/cc -c a.c -Werror=date-time -o /out");
  });
});

test("what is injected, by family and place", () => {
  const of = (family: CompilerFamily, ownPaths: boolean, pinned: boolean) =>
    oneStepInjected({ family, ownPaths, pinned }).map((word) => word.replace(/-prefix.*/, ""));
  assert.deepEqual(of("gcc", false, false), ["-Werror=date-time", "-ffile", "-gno-record-gcc-switches"]);
  assert.deepEqual(of("gcc", false, true), ["-ffile", "-gno-record-gcc-switches"]);
  assert.deepEqual(of("gcc", true, false), []);
  assert.deepEqual(of("clang", false, true), ["-Werror=date-time", "-ffile"]);
  assert.deepEqual(of("clang", true, true), ["-Werror=date-time"]);
});

function listing(words: string, tree = false): string {
  const invocation = invocationOf(words);
  return listingArgv(invocation, {
    compiler: ascii("/usr/bin/cc"),
    file: ascii("/list"),
    headers: invocation.dependencies?.kind === "MMD" ? "own" : "all",
    tree,
    injected: [ascii("-finjected")],
  }).join(" ");
}

describe("the command line that lists files", () => {
  const rows: Readonly<Record<string, string>> = {
    "gcc -c a.c": "-M -MF /list -MT listing a.c -finjected",
    "gcc -O2 -Wall -S a.c -o x.s": "-M -MF /list -MT listing -O2 -Wall a.c -finjected",
    "gcc -c a.c -MMD -MP -MT x -MQ y": "-MM -MF /list -MT x -MQ y -MP a.c -finjected",
    "gcc -c a.c -MD -o x.o": "-M -MF /list -MQ x.o a.c -finjected",
    // Options that write files must not act.
    "gcc -c a.c --coverage -save-temps -Wa,-a=x": "-M -MF /list -MT listing a.c -finjected",
    "gcc -x c -c a.b -DX -Iinc": "-M -MF /list -MT listing -x c a.b -DX -Iinc -finjected",
    "clang -c -- a.c": "-M -MF /list -MT listing -finjected -- a.c",
  };
  for (const [words, expected] of Object.entries(rows))
    it(words, () => assert.equal(listing(words), `/usr/bin/cc ${expected}`));

  it("names what is entered where that is asked", () => {
    assert.equal(listing("gcc -c a.c -MMD", true), "/usr/bin/cc -MM -MF /list -MQ a.o -H a.c -finjected");
  });
});

test("one list tells both kinds of headers with GCC, unless the command line includes some", () => {
  assert.equal(listsBoth(invocationOf("gcc -c a.c -MMD")), true);
  assert.equal(listsBoth(invocationOf("gcc -c a.c -MMD -include x.h")), false);
  assert.equal(listsBoth(invocationOf("gcc -c a.c -MMD -imacros x.h")), false);
  assert.equal(listsBoth(invocationOf("clang -c a.c -MMD")), false);
});

test("headers that were entered, among other words", () => {
  const words = [
    ". inc/a.h",
    ".. /usr/include/b.h",
    "... with space.h",
    "a.c:1: warning: . no",
    "",
    ".x",
    ". inc/a.h",
    "! x.gch",
  ];
  assert.deepEqual(enteredHeaders(ascii(words.join("\n"))), ["inc/a.h", "/usr/include/b.h", "with space.h"]);
});
