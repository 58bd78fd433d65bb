import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, test } from "node:test";
import { CompilerFolder, FAMILIES } from "../../../../test/support/real-compiler.ts";
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import { nativeQuestion, withNative } from "./gnu-native.ts";
import { parseGnu } from "./gnu-parse.ts";
import type { CompilerFamily, GnuInvocation } from "./invocation.ts";

const CODE =
  "void f(float *restrict a, const float *b, int n) { for (int i = 0; i < n; i++) a[i] = a[i] * b[i] + b[i]; }\n";

function invocationOf(family: CompilerFamily, words: readonly string[]): GnuInvocation {
  const parsed = parseGnu([family, ...words].map(ascii), { family, readResponseFile: () => null });
  assert.ok(parsed.kind === "compile", JSON.stringify(parsed));
  return parsed.invocation;
}

function asked(folder: CompilerFolder, invocation: GnuInvocation, ownPaths = true): GnuInvocation | null {
  const question = nativeQuestion(invocation);
  assert.ok(question !== null);
  const said = folder.run(invocation.family, question).stderr as ByteString;
  return withNative(invocation, { said, ownPaths });
}

describe("the processor's own options in place of native make the same object", () => {
  const rows = ["-march=native", "-mtune=native", "-march=native -mtune=native", "-mno-avx2 -march=native -m64"];
  for (const family of FAMILIES)
    for (const row of [...rows, "-march=native -mtune=generic -mno-sse4.2", "-march=x86-64 -march=native -mno-fma"])
      for (const more of ["-O3", "-O3 -S", ...(family === "clang" ? ["-O3 -g", "-O2 -flto"] : [])])
        it(`${family} ${row} ${more}`, () => {
          using folder = new CompilerFolder({ "a.c": CODE });
          const made = (words: readonly string[]) => {
            const ran = folder.run(family, [...words, "-o", "out"]);
            assert.equal(ran.status, 0, ran.stderr);
            assert.equal(ran.stderr, "");
            return readFileSync(join(folder.path, "out"));
          };
          const words = [...row.split(" "), ...more.split(" "), ...(more.includes("-S") ? [] : ["-c"]), "a.c"];
          const expanded = asked(folder, invocationOf(family, words));
          assert.ok(expanded !== null);
          const spelled = expanded.arguments.flatMap((argument) => argument.words);
          assert.ok(!spelled.some((word) => word.includes("native")) && spelled.length > words.length - 1);
          assert.ok(made(spelled).equals(made(words)), spelled.join(" "));
        });
});

test("where it cannot be told, or would show in another order, nothing takes the place of native", () => {
  using folder = new CompilerFolder();
  const invocation = invocationOf("gcc", ["-march=native", "-c", "a.c"]);
  const reads = (said: string) => withNative(invocation, { said: said as ByteString, ownPaths: true });
  for (const said of [
    "",
    "gcc: error: no\n",
    " /x/cc1 -E -march=native",
    " /x/cc1 -E -march=$x",
    ' /x/cc1 "a\\"b" -mx',
  ])
    assert.equal(reads(said), null, said);
  assert.deepEqual(reads(" /x/cc1 -E -march=z -mavx\n")?.arguments[1]?.words, ["-mavx"]);
  const parameter = " /x/cc1 -E -march=z --param l1-cache-size=32\n" as ByteString;
  const recording = invocationOf("gcc", ["-march=native", "-g", "-c", "a.c"]);
  assert.equal(withNative(recording, { said: parameter, ownPaths: true }), null);
  assert.notEqual(withNative(recording, { said: parameter, ownPaths: false }), null);
  assert.equal(asked(folder, invocationOf("clang", ["-mcpu=native", "-c", "a.c"])), null);
  assert.equal(nativeQuestion(invocationOf("gcc", ["-march=x86-64", "-c", "a.c"])), null);
});
