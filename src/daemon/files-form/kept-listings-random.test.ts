// Random edits of a small project, each followed by a call: what an earlier list gives is held against a new list after every one.
// HPCC_LIST_STEPS sets how many edits there are; a run on its own draws a new seed, and prints it when it fails.
import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { HostProject } from "../../../test/support/host-project.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import type { CompilerFamily } from "../../core/compile/grammar/invocation.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import { KeptListings } from "./kept-listings.ts";
import { prepareFiles } from "./prepare-files.ts";

const STEPS = Number(process.env["HPCC_LIST_STEPS"] ?? 30);
const FOLDERS = ["", "one", "two", "two/sub"] as const;
const NAMES = ["x.h", "y.h", "z.h", "sub/x.h"] as const;

/** Lines that a file may consist of. */
const LINES = [
  "int a;",
  "static int b = 1;",
  "/* a comment",
  "*/",
  "/* on one line */ // and more",
  's = "a /* b";',
  '#include "x.h"',
  "#include <y.h>",
  "#include <sub/x.h>",
  '#include "z.h"',
  "#define A 1",
  "#undef A",
  "#ifdef A",
  "#if __LINE__ > 6",
  '#if __has_include("z.h")',
  "#else",
  "#endif",
  "#endif",
  "#pragma once",
  "#define COUNT __COUNTER__",
  "int n = COUNT;",
  '#pragma push_macro("A")',
  '_Pragma("pop_macro(\\"A\\")")',
  'const char *r = R"(',
  ')";',
  "#define LONG \\",
  "??=include <y.h>",
] as const;

const line = fc.nat({ max: LINES.length - 1 });
const place = fc.record({ folder: fc.constantFrom(...FOLDERS), name: fc.constantFrom(...NAMES) });
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant("code" as const), in: fc.constantFrom("a.c", "two/x.h"), n: fc.nat() }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant("edit" as const), at: fc.nat({ max: 9 }), line, insert: fc.boolean() }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("header" as const), place, lines: fc.array(line, { maxLength: 5 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("remove" as const), place }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("swap" as const),
      one: fc.constantFrom("one", "two"),
      other: fc.constantFrom("two/sub", "spare"),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("link" as const), place, to: place }) },
);

async function shown(made: HostProject, listings: KeptListings) {
  const call = made.call([made.compiler.family, ..."-x c++ -c a.c -Ione -Itwo -MD".split(" ")]);
  const prepared = made.prepare(call);
  assert.ok(prepared.kind === "next");
  // The clock is ahead, so that all files are older than the call.
  const clock = { ...SYSTEM_CLOCK, wallMs: () => Date.now() + 60_000 };
  const headers = new HeaderHints({ logger: SILENT_LOGGER });
  const job = await prepareFiles(prepared.value, { ...made.caches, listings, headers, clock });
  const kept = call.ran.length === 0;
  if (job.kind === "bypass") return { kept, is: { reason: job.reason } };
  const { source, action, dependencyText } = job.value;
  const manifest = Buffer.from(source.manifest).toString("latin1");
  return {
    kept,
    is: { manifest, dependencyText, argv: action.argv.filter((word) => !word.startsWith("-frandom-seed")) },
  };
}

for (const family of ["gcc", "clang"] as const satisfies CompilerFamily[])
  test(`${family}: what a kept list gives is what a new one gives, whatever was edited`, async () => {
    let [kept, calls] = [0, 0];
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 10 }), async (steps) => {
        using made = new HostProject({ family });
        const listings = new KeptListings(1024 * 1024);
        const text = ["#include <y.h>", '#include "x.h"', "int x;"];
        const at = (name: string) => join(made.root, name);
        const put = (path: string, content: readonly string[]) => {
          mkdirSync(join(path, ".."), { recursive: true });
          writeFileSync(path, content.map((one) => `${one}\n`).join(""));
        };
        put(at("a.c"), text);
        put(at("two/y.h"), ["#define A 1"]);
        put(at("two/x.h"), ["int i;"]);
        for (const now of steps) {
          try {
            if (now.do === "code") appendFileSync(at(now.in), `int v${now.n};\n`);
            else if (now.do === "edit") {
              text.splice(Math.min(now.at, text.length), now.insert ? 0 : 1, LINES[now.line]!);
              put(at("a.c"), text);
            } else if (now.do === "header")
              put(
                at(join(now.place.folder, now.place.name)),
                now.lines.map((n) => LINES[n]!),
              );
            else if (now.do === "remove") rmSync(at(join(now.place.folder, now.place.name)), { force: true });
            else if (now.do === "swap") swap(at(now.one), at(now.other), at("between"));
            else symlinkSync(at(join(now.to.folder, now.to.name)), at(join(now.place.folder, now.place.name)));
          } catch (error) {
            // A step that cannot be taken leaves things as they are.
            if (
              !["EEXIST", "ENOENT", "ENOTDIR", "EINVAL", "ELOOP", "EISDIR", "ENOTEMPTY"].includes(
                (error as NodeJS.ErrnoException).code!,
              )
            )
              throw error;
          }
          const mine = await shown(made, listings);
          const fresh = await shown(made, new KeptListings(0));
          calls += 1;
          if (mine.kept) kept += 1;
          assert.deepEqual(mine.is, fresh.is);
        }
      }),
      { numRuns: Math.ceil(STEPS / 10) },
    );
    assert.ok(kept > 0, `${kept} of ${calls} lists were kept`);
  });

function swap(one: string, other: string, between: string): void {
  if (!existsSync(one) || !existsSync(other)) return;
  renameSync(one, between);
  renameSync(other, one);
  renameSync(between, other);
}
