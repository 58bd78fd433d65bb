import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import { parseGnu } from "../grammar/gnu-parse.ts";
import type { GnuInvocation } from "../grammar/invocation.ts";
import { diagnosticsRefusal, mapDiagnostics } from "./diagnostics.ts";
import { EXTRA_ROOTS, PROJECT_ROOT, type View } from "./view.ts";

const view: View = {
  roots: [
    { host: "/home/j\xfcrgen/my project" as ByteString, guest: PROJECT_ROOT },
    { host: ascii("/opt/sdk"), guest: `${EXTRA_ROOTS}/sdk` as ByteString },
  ],
};
const map = (text: string): string => mapDiagnostics(text as ByteString, view);

describe("mapDiagnostics", () => {
  const host = "/home/j\xfcrgen/my project";
  const rows: readonly [string, string][] = [
    ["/hpcc/project/src/a.c:3:1: error: x", `${host}/src/a.c:3:1: error: x`],
    [
      "In file included from /hpcc/project/a.h:1,\n                 from /hpcc/roots/sdk/b.h:2:",
      `In file included from ${host}/a.h:1,\n                 from /opt/sdk/b.h:2:`,
    ],
    ["\x1b[01m\x1b[K/hpcc/project/a.c:1:\x1b[m", `\x1b[01m\x1b[K${host}/a.c:1:\x1b[m`],
    ["'/hpcc/project' and \xe2\x80\x98/hpcc/project/x\xe2\x80\x99", `'${host}' and \xe2\x80\x98${host}/x\xe2\x80\x99`],
    ["/hpcc/project", host],
    ["/hpcc/projects/a.c", "/hpcc/projects/a.c"],
    ["/hpcc/project-2/a.c", "/hpcc/project-2/a.c"],
    ["/srv/hpcc/project/a.c", "/srv/hpcc/project/a.c"],
    ["x/hpcc/project/a.c ../hpcc/project/a.c", "x/hpcc/project/a.c ../hpcc/project/a.c"],
    ["src/a.c:1: \xff\x00\r\n", "src/a.c:1: \xff\x00\r\n"],
    ["", ""],
  ];
  for (const [text, expected] of rows) it(JSON.stringify(text), () => assert.equal(map(text), expected));

  it("leaves a text without a view's path as it is", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        fc.pre(!text.includes("/hpcc/"));
        assert.equal(map(text), text);
      }),
    );
  });

  it("does not map what it wrote", () => {
    const odd: View = { roots: [{ host: ascii("/hpcc/project/hpcc/project"), guest: PROJECT_ROOT }] };
    assert.equal(mapDiagnostics(ascii("/hpcc/project/a"), odd), "/hpcc/project/hpcc/project/a");
  });
});

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
