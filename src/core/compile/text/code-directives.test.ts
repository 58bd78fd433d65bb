import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ascii } from "../../../base/byte-string.ts";
import { findCodeDirective, mentionsIncbin } from "./code-directives.ts";

const FOUND: readonly string[] = [
  'asm(".incbin \\"blob\\"");',
  'asm(".INCBIN \\"blob\\"");',
  'asm(".inc" "bin \\"blob\\"");',
  'asm(".inc"\n    "bin \\"blob\\"");',
  'asm(".inc" /* why */ "bin \\"f\\"");',
  'asm(".inc" // why\n "bin \\"f\\"");',
  'asm("." "i" "n" "c" "b" "i" "n" " \\"f\\"");',
  'asm(u8".inc" R"(bin "f")");',
  'asm(R"(.incbin "f")");',
  'asm(".inc\\\nbin \\"f\\"");',
  'asm(".\\x69ncbin \\"f\\"");',
  'asm(".i\\156cbin \\"f\\"");',
  'asm(".inc\\\\()bin \\"f\\"");',
  '#define I .inc##bin\nasm(STR(I) "f");',
  "#define I inc ## bin",
  'INCBIN(name, "file");',
  'asm(".include \\"f.s\\"");',
  'asm(".include\\t\\"f.s\\"");',
  'asm("nop; .include \\"f.s\\"");',
  'asm(".incl" "ude \\"f.s\\"");',
  'asm(".include" " \\"f.s\\"");',
  'asm(".Include \\"f.s\\"");',
  'asm(STRING(.include "f.s"));',
  'asm(R"(.include "f")");',
  'asm("\\x2einclude \\"f\\"");',
  '#define A ".include "\n#define B "\\"f\\""\nasm(A B);',
  '#define A ".inc"\n#define B "bin \\"f\\""\nasm(A B);',
  '#define A "nop\\n.incl"\n#define B "ude \\"f\\""\nasm(B A);',
  'int a[] = {\n#embed "f"\n};',
  "int a[] = {\n  # embed <f>\n};",
  '%:embed "f"',
  '#if __has_embed("f")\n#endif',
  '#pragma GCC dependency "f"',
  '_Pragma("GCC dependency \\"f\\"")',
];

const NORMAL: readonly string[] = [
  "",
  "int main(void) { return 0; }",
  'x = p->include; y = o.include; z = o.include_dirs[0]; o.include("a");',
  'struct s v = { .include = 1, .include_path = "a" };',
  'printf("see %s.include_all\\n", x); puts("the include files");',
  '# 1 "/usr/include/stdio.h" 1 3 4',
  '# 1 "../foo.inc" 1\nchar *s = "foo.inc";',
  '#define STR(x) #x\nasm volatile("mov %0, %1" : "=r"(a) : "r"(b));',
  'extern int f(void) __asm__("" "__isoc99_scanf");',
  'char *a = "in" "c"; char *b = "binary"; char *c = "bin";',
  "int incoming, binary, include, inclusion; /* including binaries */",
  'static const char *names[] = { "*.inc", "bin/sh", "lude" };',
  'asm(".section .init.text\\n\\t.include_me_not");',
  "#pragma GCC diagnostic push\n#pragma GCC system_header",
  "/* embed this; embedded */ int embed(void);",
];

describe("findCodeDirective", () => {
  for (const text of FOUND) it(`finds ${JSON.stringify(text)}`, () => assert.ok(mentionsIncbin(ascii(text))));
  for (const text of NORMAL)
    it(`passes ${JSON.stringify(text)}`, () => assert.equal(findCodeDirective(ascii(text)), null));

  it("reads near misses of every joint, a megabyte each, without running away", { timeout: 60_000 }, () => {
    for (const part of [
      '"."',
      '" "',
      ".i\\\n",
      "i ## ",
      '"/*',
      '"//\n',
      ".\\x00000",
      "inc\\()",
      '.include" "',
      'u8R"(',
    ]) {
      assert.doesNotThrow(() => findCodeDirective(ascii(part.repeat(1_000_000 / part.length))));
    }
  });
});
