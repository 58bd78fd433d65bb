import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import { parseGnu } from "../grammar/gnu-parse.ts";
import type { GnuInvocation } from "../grammar/invocation.ts";
import { diagnosticsRefusal } from "./diagnostics-refusal.ts";

describe("diagnosticsRefusal", () => {
  const call = (command: string): GnuInvocation => {
    const argv = command.split(" ").map(ascii);
    const family = argv[0] === "clang" ? "clang" : "gcc";
    const parsed = parseGnu(argv, { family, readResponseFile: () => null });
    assert.equal(parsed.kind, "compile");
    return (parsed as { invocation: GnuInvocation }).invocation;
  };
  const rows: readonly [string, string, boolean][] = [
    ["gcc -c a.c", "", false],
    ["gcc -c a.c", "a.c:1:2: warning: x [-Wconversion]\n", false],
    ["gcc -c a.c", "a.c:1:2: warning: format x [-Wformat=]\n", true],
    ["gcc -c a.c", "a.c:1:2: error: x [-Werror=format-truncation=]\n", true],
    ["gcc -fno-diagnostics-show-option -c a.c", "a.c:1:2: warning: format \xe2\x80\x98%d\xe2\x80\x99 expects\n", true],
    ["gcc -c a.c", "<built-in>: warning: overflow\n", true],
    ["gcc -c a.c", "<built-in>: note: built-in \xe2\x80\x98memcmp\xe2\x80\x99 declared here\n", false],
    ["clang -c a.c", "a.c:1:2: warning: format x [-Wformat]\n", false],
    ["clang -c a.c", "a.c:0:13: warning: ISO C requires\n", true],
  ];
  for (const [command, stderr, refused] of rows)
    it(`${command}: ${JSON.stringify(stderr)}`, () =>
      assert.equal(diagnosticsRefusal(call(command), stderr as ByteString), refused ? "unfaithful_diagnostics" : null));
});
