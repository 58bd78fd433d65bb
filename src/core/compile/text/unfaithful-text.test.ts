import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { unfaithfulText } from "./unfaithful-text.ts";

type Row = readonly [family: "gcc" | "clang", text: string, reason: string | null];

describe("unfaithfulText", () => {
  const rows: readonly Row[] = [
    ["gcc", "int x = __INCLUDE_LEVEL__;", "unfaithful_preprocessing"],
    ["clang", "#define B __BASE_FILE__", "unfaithful_preprocessing"],
    ["gcc", "char *t = __TIMESTAMP__;", "date_time_macro"],
    ["gcc", "char *t = __DATE__;", "date_time_macro"],
    ["gcc", "#define BUILT __DATE__ __TIME__\nint x;", null],
    ["gcc", "#define BUILT __DATE__\nchar *t = BUILT;", "date_time_macro"],
    ["gcc", "#define BUILT __TIME__\nchar *t = REBUILT;", null],
    ["gcc", '__asm__(".incbin \\"x\\"");', "unsupported_code_directive"],
    ["clang", 'asm("\\n .INCLUDE \\"x\\"");', "unsupported_code_directive"],
    ["gcc", "__asm__(); object.include = f().incbin + a[1].include;", null],
    ["gcc", 'char *s = ".incbin";', null],
    ["gcc", '_Pragma("once")', "unfaithful_preprocessing"],
    ["gcc", 'DO(push_macro("X"))', "unfaithful_preprocessing"],
    ["gcc", '#pragma push_macro("X")\n', null],
    ["gcc", "DO(GCC poison x)", "unfaithful_preprocessing"],
    ["gcc", " # pragma GCC poison x\n", null],
    ["gcc", 'DO(GCC target("avx2"))', "unfaithful_preprocessing"],
    ["gcc", 'DO(GCC optimize("O0"))', "unfaithful_preprocessing"],
    ["gcc", 'DO(GCC diagnostic ignored "-Wall")', null],
    ["gcc", '_Pragma("GCC diagnostic push")', null],
    ["clang", '_Pragma("push_macro(\\"X\\")")', null],
    ["gcc", "%:define A\n", "unfaithful_preprocessing"],
    ["gcc", "/* */ %:define A\n", "unfaithful_preprocessing"],
    ["gcc", "a = b %:c;\n", null],
    ["gcc", "??=define A\n", "unfaithful_preprocessing"],
    ["gcc", 'ask("what??!");\n', null],
    ["clang", '#pragma GCC dependency "x"\n', "unfaithful_preprocessing"],
    ["clang", "#if __COUNTER__ == 1\n", "unfaithful_preprocessing"],
    ["clang", "int x = __COUNTER__;\n#if 1\n", null],
    ["gcc", "#define P(a, b) a##b\nP(__BASE_, FILE__)", "unfaithful_preprocessing"],
    ["gcc", "#define P(a, b) a##b\nP(_, _DATE__)", "unfaithful_preprocessing"],
    ["clang", "#define P(a, b) a##b\nP(__T, IMESTAMP__)", "unfaithful_preprocessing"],
    ["gcc", "#define P(a, b, c) a##b##c\nP(__, DATE, __)", "unfaithful_preprocessing"],
    ["gcc", "#define P(a, b) a##b\nenum e { MINE, DATE, TIME };", null],
    ["gcc", "#define P(a, b) a##b\nint __T, __BASEMENT, FILE__, DATES__, __INLINE;", null],
    ["clang", "/* a##b */ /* Defines __TIME*_T_TYPE macros. */", null],
    ["gcc", "", null],
  ];
  for (const [family, text, reason] of rows)
    it(`${family}: ${JSON.stringify(text)}`, () =>
      assert.equal(unfaithfulText(text, family, false)?.reason ?? null, reason));

  it("allows the date where it is pinned, but no time stamp", () => {
    assert.equal(unfaithfulText("char *t = __DATE__;", "gcc", true), null);
    assert.equal(unfaithfulText("char *t = __TIMESTAMP__;", "gcc", true)?.reason, "date_time_macro");
  });
});
