import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ascii } from "../../../base/byte-string.ts";
import { isPseudoFile, parseLinemarker, resolvePath } from "./linemarkers.ts";

describe("parseLinemarker", () => {
  it("reads line, name and change", () => {
    assert.deepEqual(parseLinemarker('# 12 "a b.c" 1 3 4'), { line: 12, file: "a b.c", change: 1 });
    assert.deepEqual(parseLinemarker('  # 3 "x" 2'), { line: 3, file: "x", change: 2 });
    assert.deepEqual(parseLinemarker('# 0 "<built-in>"'), { line: 0, file: "<built-in>", change: 0 });
    assert.deepEqual(parseLinemarker('# 7 "sys.h" 3 4'), { line: 7, file: "sys.h", change: 0 });
  });
  it("undoes escapes byte by byte", () => {
    assert.equal(parseLinemarker('# 1 "a\\"b\\\\c\\303\\274\\n"')?.file, 'a"b\\c\xc3\xbc\n');
  });
  it("takes nothing else", () => {
    for (const line of [
      "# 12",
      '#line 3 "x"',
      '# x "y"',
      '# 1 "open',
      '# 1 "a" x',
      '# 99999999999 "a"',
      "#define A",
      "",
    ])
      assert.equal(parseLinemarker(line), null, line);
  });
});

describe("resolvePath", () => {
  it("names the file, and the folders that opening it passes through", () => {
    const at = (name: string): unknown => resolvePath(ascii("/hpcc/project/build"), ascii(name));
    assert.deepEqual(at("x.c"), { path: "/hpcc/project/build/x.c", passed: [] });
    assert.deepEqual(at("./sub/../../inc//x.h"), {
      path: "/hpcc/project/inc/x.h",
      passed: ["/hpcc/project/build/sub", "/hpcc/project/build"],
    });
    assert.deepEqual(at("/usr/include/x.h"), { path: "/usr/include/x.h", passed: [] });
    assert.deepEqual(at("../../../../../etc/passwd"), {
      path: "/etc/passwd",
      passed: ["/hpcc/project/build", "/hpcc/project", "/hpcc"],
    });
  });
});

describe("isPseudoFile", () => {
  it("knows names of no file", () => {
    for (const name of ["", "<built-in>", "<command-line>"]) assert.equal(isPseudoFile(ascii(name)), true);
    for (const name of ["a.c", "<a", "a>"]) assert.equal(isPseudoFile(ascii(name)), false);
  });
});
