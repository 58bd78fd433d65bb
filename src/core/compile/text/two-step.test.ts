import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ascii } from "../../../base/byte-string.ts";
import { parseGnu } from "../grammar/gnu-parse.ts";
import type { GnuInvocation } from "../grammar/invocation.ts";
import { compileArgv, injectedFlags, preprocessArgv, twoStepRefusal } from "./two-step.ts";

function call(command: string): GnuInvocation {
  const argv = command.split(" ").map(ascii);
  const family = argv[0]?.startsWith("clang") ? "clang" : "gcc";
  const parsed = parseGnu(argv, { family, readResponseFile: () => null });
  if (parsed.kind !== "compile") throw new Error(`${command}: ${JSON.stringify(parsed)}`);
  return parsed.invocation;
}

const compiler = ascii("/usr/bin/cc");
const injected = [ascii("-injected")];
const first = (command: string): string =>
  preprocessArgv(call(command), { compiler, output: ascii("/t/i"), dependencyFile: ascii("/t/d"), injected }).join(" ");
const second = (command: string): string =>
  compileArgv(call(command), {
    compiler,
    sourcePath: ascii("text"),
    outputPath: ascii("/o"),
    randomSeed: ascii("5eed"),
    injected,
  }).join(" ");

describe("preprocessArgv", () => {
  it("keeps the order of what the first step needs, and makes the rest anew", () => {
    assert.equal(
      first("gcc -Iinc -O2 -DA=1 -Wall -c src/a.c -include f.h -o a.o"),
      "/usr/bin/cc -E -fdirectives-only -Iinc -O2 -DA=1 -Wall -include f.h -injected -x c src/a.c -o /t/i",
    );
    assert.equal(first("clang++ -c a.cc"), "/usr/bin/cc -E -frewrite-includes -injected -x c++ a.cc -o /t/i");
  });
  it("names dependency file and targets", () => {
    assert.equal(
      first("gcc -MMD -MP -MT x -MQ y$z -c a.c -o sub/a.o"),
      "/usr/bin/cc -E -fdirectives-only -injected -MMD -MF /t/d -MT x -MQ y$z -MP -x c a.c -o /t/i",
    );
    assert.match(first("gcc -MD -c a.c -o sub/a.o"), / -MD -MF \/t\/d -MQ sub\/a\.o -x c /);
  });
});

describe("compileArgv", () => {
  it("drops what the text already holds", () => {
    assert.equal(
      second("gcc -Iinc -O2 -DA=1 -UB -Wall -MD -c src/a.c -include f.h -o a.o"),
      "/usr/bin/cc -c -fpreprocessed -fdirectives-only -O2 -Wall -injected -frandom-seed=5eed -x c text -o /o",
    );
  });
  it("leaves macros of the command line to Clang's second step", () => {
    assert.equal(
      second("clang -Iinc -DA=1 -UB -S a.c"),
      "/usr/bin/cc -S -DA=1 -UB -injected -frandom-seed=5eed -x c text -o /o",
    );
    assert.match(second("clang -Iinc -Wp,-DA=1 -Wp,-MD,x.d -c a.c"), / -c -Wp,-DA=1 -injected /);
    assert.match(second("clang -Xpreprocessor -DA=1 -c a.c"), / -c -Xpreprocessor -DA=1 -injected /);
  });
  it("puts the prefix maps of a caller behind the injected ones", () => {
    const argv = compileArgv(call("gcc -O2 -fmacro-prefix-map=/hpcc/project/src=s -c a.c"), {
      compiler,
      sourcePath: ascii("text"),
      outputPath: ascii("/o"),
      randomSeed: ascii("5eed"),
      injected: injectedFlags("gcc"),
    }).join(" ");
    assert.match(
      argv,
      / -fdebug-prefix-map=\/hpcc\/project=\. -fmacro-prefix-map=\/hpcc\/project=\. -O2 -fmacro-prefix-map=\/hpcc\/project\/src=s -Werror=date-time -gno-record-gcc-switches /,
    );
  });
  it("keeps a seed of the user's", () => {
    assert.doesNotMatch(second("gcc -frandom-seed=mine -c a.c"), /5eed/);
    assert.match(second("gcc -frandom-seed=mine -c a.c"), /-frandom-seed=mine/);
  });
});

describe("twoStepRefusal", () => {
  const rows: readonly [string, string | null][] = [
    ["gcc -g -O2 -c a.c", null],
    ["gcc -fopenmp -c a.c", null],
    ["gcc -fopenmp-simd -c a.c", "unfaithful_preprocessing"],
    ["gcc -fopenacc -c a.c", "unfaithful_preprocessing"],
    ["clang -c a.c", null],
    ["clang -g -c a.c", "debug_file_checksums"],
    ["clang -g -g0 -c a.c", null],
    ["clang -gdwarf-4 -c a.c", null],
    ["clang -g -gdwarf-4 -c a.c", null],
    ["clang -gdwarf-4 -gdwarf-5 -c a.c", "debug_file_checksums"],
    ["clang -gline-tables-only -c a.c", "debug_file_checksums"],
    ["clang -gz -c a.c", null],
    ["clang -DNOW=__DATE__ -c a.c", "date_time_macro"],
    ["clang -w -Wp,-DNOW=__TIMESTAMP__ -c a.c", "date_time_macro"],
    ["clang -DWHERE=__BASE_FILE__ -c a.c", "unfaithful_preprocessing"],
    ["gcc -DNOW=__DATE__ -c a.c", null],
    ["clang -imacros m.h -c a.c", "unfaithful_preprocessing"],
    ["clang -fdiagnostics-parseable-fixits -c a.c", "diagnostics_format"],
  ];
  for (const [command, reason] of rows) it(command, () => assert.equal(twoStepRefusal(call(command)), reason));
});

describe("injectedFlags", () => {
  it("maps the project's root away and makes dates an error", () => {
    assert.deepEqual(injectedFlags("clang"), ["-Werror=date-time", "-ffile-prefix-map=/hpcc/project=."]);
    assert.deepEqual(injectedFlags("gcc").at(-1), "-gno-record-gcc-switches");
  });
});
