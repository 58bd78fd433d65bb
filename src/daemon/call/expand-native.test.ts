import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { describe, it } from "node:test";
import { HostProject } from "../../../test/support/host-project.ts";
import { FAMILIES } from "../../../test/support/real-compiler.ts";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { CompilerFamily } from "../../core/compile/grammar/invocation.ts";
import { expandNative } from "./expand-native.ts";
import { parseCall } from "./read-call.ts";
import { Remembered } from "./remembered.ts";

/** Expands calls of one project; says what was asked and what came of it. */
function expanding(made: HostProject, family: CompilerFamily) {
  const { project, compiler } = made;
  const answers = new Remembered<ByteString>(10);
  let folders = 0;
  return async (line: string) => {
    const call = made.call([family, ...line.split(" ")]);
    const parsed = parseCall(call.message, compiler);
    assert.ok(parsed.kind === "next");
    const folder = `${project.callFolder}/native-${folders++}` as ByteString;
    mkdirSync(bytesOf(folder));
    const placed = { call, project, compiler, invocation: parsed.value[0]!, place: project.places.own!, folder };
    const end = await expandNative(placed, answers);
    const words = end.kind === "next" ? end.value.arguments.flatMap((argument) => argument.words) : end.reason;
    return { asked: call.ran.length, words };
  };
}

describe("what native means is asked once of each compiler", () => {
  for (const family of FAMILIES)
    it(family, async () => {
      using made = new HostProject({ family });
      const expanded = expanding(made, family);
      const plain = await expanded("-O2 -march=x86-64 -c a.c");
      assert.deepEqual(plain, { asked: 0, words: ["-O2", "-march=x86-64", "-c", "a.c"] });
      const first = await expanded("-O2 -march=native -c a.c");
      assert.equal(first.asked, 1);
      assert.ok(first.words.length > 4 && !first.words.includes("-march=native" as ByteString));
      assert.deepEqual(await expanded("-O2 -march=native -c a.c"), { asked: 0, words: first.words });
      assert.equal((await expanded("-O2 -march=native -mtune=generic -c a.c")).asked, 1, "another question");
    });

  it("and where the compiler does not say, the call is compiled here", async () => {
    using made = new HostProject();
    const end = await expanding(made, "gcc")("-march=native -mno-such-option -c a.c");
    assert.deepEqual(end, { asked: 1, words: "native_architecture" });
  });
});
