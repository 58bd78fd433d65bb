import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CompilerFolder, FAMILIES } from "../../../../test/support/real-compiler.ts";
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import {
  decideLocale,
  type EnvironmentDecision,
  type ImageLocales,
  readEnvironment,
  stepEnvironment,
} from "./environment.ts";
import { parseGnu } from "./gnu-parse.ts";
import type { CompilerFamily } from "./invocation.ts";

const IMAGE: ImageLocales = {
  hasLocale: (name) => ["en_US.UTF-8", "de_DE.UTF-8", "en_US", "ja_JP.eucJP", "fr_FR.utf8@euro"].includes(name),
  translates: (name) => /^(?:de|ja)/.test(name),
};

function environmentOf(text: string): Map<string, ByteString> {
  const entries = text.split(" ").filter((entry) => entry !== "");
  return new Map(entries.map((entry) => [entry.split("=", 1)[0] ?? "", ascii(entry.slice(entry.indexOf("=") + 1))]));
}

function decide(
  text: string,
  line = "gcc -c a.c",
  terminal = false,
  inputColumns: number | null = null,
): EnvironmentDecision {
  const words = line.split(" ").map(ascii);
  const family: CompilerFamily = line.startsWith("clang") ? "clang" : "gcc";
  const parsed = parseGnu(words, { family, readResponseFile: () => null });
  assert.ok(parsed.kind === "compile");
  const { invocation } = parsed;
  const environment = environmentOf(text);
  return readEnvironment({
    invocation,
    environment,
    terminal,
    inputColumns,
    image: IMAGE,
    searchPath: ascii("/opt/bin:/usr/bin"),
  });
}

describe("decideLocale", () => {
  const rows: readonly (readonly [string, string | null])[] = [
    ["", "C"],
    ["LANG=C", "C"],
    ["LANG=POSIX", "C"],
    ["LANG=C.UTF-8", "C.UTF-8"],
    ["LANG=C.utf8", "C.UTF-8"],
    ["LC_ALL=C LANG=de_DE.UTF-8", "C"],
    ["LC_ALL= LANG=en_US.UTF-8", "C.UTF-8"],
    ["LC_CTYPE=C LANG=en_US.UTF-8", "C"],
    ["LC_CTYPE=en_US.UTF-8", "C.UTF-8"],
    ["LC_CTYPE=en_US", null],
    ["LC_MESSAGES=C LC_CTYPE=de_DE.UTF-8", "C.UTF-8"],
    ["LANG=fr_FR.utf8@euro", "C.UTF-8"],
    // Translated messages.
    ["LANG=de_DE.UTF-8", null],
    ["LC_MESSAGES=de_DE.UTF-8", null],
    ["LANG=en_US.UTF-8 LANGUAGE=fr:de", null],
    ["LANG=C.UTF-8 LANGUAGE=de", null],
    ["LANG=C LANGUAGE=de", "C"],
    ["LANGUAGE=de", "C"],
    // Another character set.
    ["LANG=en_US", null],
    ["LC_CTYPE=ja_JP.eucJP", null],
    // What the image lacks acts as C.
    ["LANG=pt_BR.UTF-8", "C"],
    ["LC_ALL=nonsense", "C"],
    ["LC_ALL=pt_BR.UTF-8 LANGUAGE=de", "C"],
  ];
  for (const [text, locale] of rows)
    it(`gcc: ${text === "" ? "nothing" : text}`, () =>
      assert.equal(decideLocale(environmentOf(text), "gcc", IMAGE), locale));
  it("clang's messages depend on none", () =>
    assert.equal(decideLocale(environmentOf("LANG=de_DE.UTF-8"), "clang", IMAGE), "C"));
});

describe("decideLocale against the compilers", () => {
  for (const family of FAMILIES) {
    it(`${family}: stderr in the decided locale is stderr in the caller's`, () => {
      using folder = new CompilerFolder({ "a.c": 'int f(void) { return "\u00e4" + undeclared; }\n', k: "" });
      const installed = new Set(folder.run("locale", ["-a"]).stdout.split("\n"));
      const image: ImageLocales = {
        hasLocale: (name) => installed.has(name) || installed.has(name.replace(/\.UTF-8$/i, ".utf8")),
        translates: () => false,
      };
      let seen = 0;
      for (const text of [
        "",
        "LANG=C",
        "LANG=C.UTF-8",
        "LC_CTYPE=C.utf8",
        "LANG=xx_XX.UTF-8",
        "LC_ALL=POSIX LANG=C.UTF-8",
        "LC_MESSAGES=C.UTF-8",
      ]) {
        const locale = decideLocale(environmentOf(text), family, image);
        assert.ok(locale !== null);
        const caller = folder.run(family, ["-c", "a.c"], { LC_ALL: "", ...Object.fromEntries(environmentOf(text)) });
        assert.notEqual(caller.stderr, "");
        assert.equal(caller.stderr, folder.run(family, ["-c", "a.c"], { LC_ALL: locale, LANG: locale }).stderr, text);
        seen++;
      }
      assert.equal(seen, 7);
    });
  }
});

describe("readEnvironment", () => {
  const refusing: readonly (readonly [string, string])[] = [
    ["DEPENDENCIES_OUTPUT=", "gcc -c a.c"],
    ["SUNPRO_DEPENDENCIES=x", "gcc -c a.c"],
    ["GCC_EXEC_PREFIX=/x", "gcc -c a.c"],
    ["COMPILER_PATH=/x", "gcc -c a.c"],
    ["CXX_MODULE_MAPPER=|cmd", "gcc -c a.c"],
    ["GCC_COMPARE_DEBUG=1", "gcc -c a.c"],
    ["COLLECT_GCC_OPTIONS=x", "gcc -c a.c"],
    ["GCC_EXTRA_DIAGNOSTIC_OUTPUT=fixits-v2", "gcc -c a.c"],
    ["CL=/O2", "gcc -c a.c"],
    ["CCC_OVERRIDE_OPTIONS=+-O3", "clang -c a.c"],
    ["CC_PRINT_OPTIONS=1", "clang -c a.c"],
    ["QA_OVERRIDE_GCC3_OPTIONS=x", "clang -c a.c"],
    ["SDKROOT=/x", "clang -c a.c"],
    ["IPHONEOS_DEPLOYMENT_TARGET=14.0", "clang -c a.c"],
    ["WATCHOS_DEPLOYMENT_TARGET=4.0", "clang -c a.c"],
    ["SCE_ORBIS_SDK_DIR=/x", "clang -c a.c"],
    ["NCC_C_INCLUDE_PATH=/x", "clang -c a.c"],
    ["OBJECT_MODE=64", "clang -c a.c"],
    ["LLVM_OVERRIDE_PRODUCER=x", "clang -c a.c"],
    ["AS_SECURE_LOG_FILE=x", "clang -c a.c"],
  ];
  for (const [text, line] of refusing) {
    it(`refuses ${text} for ${line}`, () => {
      const decision = decide(text, line);
      assert.deepEqual(decision, {
        kind: "bypass",
        reason: "unsupported_environment_variable",
        detail: text.split("=", 1)[0],
      });
    });
  }

  it("passes what compilers do not read", () => {
    const harmless =
      "PATH=/x HOME=/h CC=gcc CFLAGS=-O3 MAKEFLAGS=-j LIBRARY_PATH=/l LD_LIBRARY_PATH=/l TMPDIR=/t LC_TIME=de_DE.UTF-8";
    const decision = decide(harmless);
    assert.ok(decision.kind === "plan");
    assert.deepEqual(decision.plan, {
      locale: "C",
      searchPath: "/opt/bin:/usr/bin",
      includePaths: [],
      sourceDateEpoch: null,
      appearance: [],
    });
  });

  it("takes the include paths of the language", () => {
    const text = "CPATH=a:b C_INCLUDE_PATH=c CPLUS_INCLUDE_PATH=d OBJC_INCLUDE_PATH=e";
    const paths = (line: string): unknown => {
      const decision = decide(text, line);
      return decision.kind === "plan" && decision.plan.includePaths.map(([name]) => name);
    };
    assert.deepEqual(paths("gcc -c a.c"), ["CPATH", "C_INCLUDE_PATH"]);
    assert.deepEqual(paths("gcc -c a.cc"), ["CPATH", "CPLUS_INCLUDE_PATH"]);
    assert.deepEqual(paths("g++ -c a.c"), ["CPATH", "CPLUS_INCLUDE_PATH"]);
  });

  it("says standard input's width to gcc under a terminal, unless COLUMNS says one", () => {
    const columns = (text: string, line: string, terminal = true, width: number | null = 100) => {
      const decision = decide(text, line, terminal, width);
      assert.ok(decision.kind === "plan");
      return decision.plan.appearance.find(([name]) => name === "COLUMNS")?.[1] ?? null;
    };
    assert.equal(columns("", "gcc -c a.c"), "100");
    assert.equal(columns("COLUMNS=55", "gcc -c a.c"), "55");
    assert.equal(columns("COLUMNS=wide", "gcc -c a.c"), "100");
    assert.equal(columns("", "gcc -c a.c", true, null), null);
    assert.equal(columns("", "gcc -c a.c", false), null);
    assert.equal(columns("", "clang -c a.c"), null);
  });

  it("keeps terminal settings under a terminal, colour settings where colours are asked for", () => {
    const text = "TERM=xterm GCC_COLORS=error=31 COLUMNS=80 NO_COLOR=1 GCC_URLS=st SOURCE_DATE_EPOCH=5";
    const names = (line: string, terminal: boolean): unknown => {
      const decision = decide(text, line, terminal);
      return decision.kind === "plan" && decision.plan.appearance.map(([name]) => name).join();
    };
    assert.equal(names("gcc -c a.c", true), "COLUMNS,GCC_COLORS,GCC_URLS,NO_COLOR,TERM");
    assert.equal(names("gcc -c a.c", false), "");
    assert.equal(names("gcc -fdiagnostics-color=always -c a.c", false), "GCC_COLORS,GCC_URLS");
  });

  it("names an unsupported locale", () => {
    assert.deepEqual(decide("LANG=de_DE.UTF-8"), {
      kind: "bypass",
      reason: "unsupported_locale",
      detail: "de_DE.UTF-8",
    });
  });
});

describe("stepEnvironment", () => {
  it("holds nothing of the caller's but the plan", () => {
    const decision = decide("LANG=C.UTF-8 PATH=/evil HOME=/h CPATH=x SOURCE_DATE_EPOCH=7 TZ=CET TERM=xterm");
    assert.ok(decision.kind === "plan");
    const fixed = [
      ["HOME", "/nonexistent"],
      ["LANG", "C.UTF-8"],
      ["LC_ALL", "C.UTF-8"],
      ["PATH", "/opt/bin:/usr/bin"],
      ["TZ", "UTC"],
    ];
    assert.deepEqual(stepEnvironment(decision.plan), fixed);
    const includePaths = [[ascii("CPATH"), ascii("/hpcc/project/x")] as const];
    assert.deepEqual(stepEnvironment(decision.plan, { includePaths, pinnedEpoch: ascii("7") }), [
      ["CPATH", "/hpcc/project/x"],
      ...fixed.slice(0, 4),
      ["SOURCE_DATE_EPOCH", "7"],
      ["TZ", "UTC"],
    ]);
  });
});
