import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../../../base/byte-string.ts";
import { isPlainConfiguration } from "./clang-configuration.ts";

test("a configuration is plain when it reads, writes and hides nothing", () => {
  for (const text of [
    "",
    "# a comment @x\n  # another\n",
    "--gcc-triple=x86_64-redhat-linux\n",
    "--target=aarch64-linux-gnu --sysroot=/opt/root\n-isystem /opt/include\n",
    "-DV=1 \\\n -O2 -fPIC -Wall -g\n",
    "-D X\n-stdlib=libc++ -fuse-ld=lld -L/opt/lib\n",
  ])
    assert.equal(isPlainConfiguration(ascii(text)), true, text);
  for (const text of [
    "@inc.cfg",
    "-O2\n@inc.cfg\n",
    '"@inc.cfg"',
    "a.c",
    "-",
    "-include a.h",
    "-Xclang -load",
    "-fplugin=x.so",
    "-fprofile-use=p",
    "-fsanitize-ignorelist=list",
    "-fnew-list=/opt/list",
    "--config x.cfg",
    "-MD -MF x.d",
    "-o x.o",
    "--coverage",
    "-march=native",
    "-Wa,-I,x",
    "-Xassembler x",
    "-gz",
    "-DWHEN=__DATE__",
    "-DHEADER=<x.h>",
    "-B bin",
    "-isystem",
    "'open",
  ])
    assert.equal(isPlainConfiguration(ascii(text)), false, text);
});
