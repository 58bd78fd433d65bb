import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import { mapDiagnostics } from "./diagnostics.ts";
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
