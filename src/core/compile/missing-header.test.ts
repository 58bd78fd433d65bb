import assert from "node:assert/strict";
import { test } from "node:test";
import type { ByteString } from "../../base/byte-string.ts";
import { missingHeader } from "./missing-header.ts";

const find = (text: string) => missingHeader(text as ByteString);

test("the header that GCC or Clang did not find", () => {
  const gcc =
    "In file included from a.c:1:\nh.h:1:10: fatal error: zlib.h: No such file or directory\n    1 | #include\n";
  assert.equal(find(gcc), "zlib.h");
  assert.equal(
    find("a.c:1:10: fatal error: 'boost/any.hpp' file not found\n#include <boost/any.hpp>\n"),
    "boost/any.hpp",
  );
  const coloured = "a.c:1:10: \x1b[01;31m\x1b[Kfatal error: \x1b[m\x1b[Ksys/x-y.h: No such file or directory\n";
  assert.equal(find(coloured), "sys/x-y.h");
});

test("other words name none", () => {
  for (const said of [
    "",
    "a.c:1:2: error: zlib.h: No such file or directory",
    "cc1: fatal error: a.c: Permission denied",
    "a.c:1:1: fatal error: /usr/include/zlib.h: No such file or directory",
    "a.c:1:1: fatal error: ../zlib.h: No such file or directory",
    "a.c:1:1: fatal error: './zlib.h' file not found",
    "a.c:1:1: fatal error: *.h: No such file or directory",
    "a.c:1:1: fatal error: a//b: No such file or directory",
    `a.c:1:1: fatal error: ${"n".repeat(1025)}: No such file or directory`,
    "a.c:1:1: fatal error: : No such file or directory",
    "a.c:1:1: fatal error: 'x file not found",
    // What follows the first is a quotation.
    "a.c:1:1: fatal error: nothing\n 1 | fatal error: zlib.h: No such file or directory",
  ])
    assert.equal(find(said), null, said);
});
