// Real projects that none of us wrote, from the distribution's source packages: every source is equal in one step and in two.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { runProject } from "./project-run.ts";

const CACHE = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "hpcc-test-sources");
const FETCH = join(import.meta.dirname, "../../scripts/fetch-debian-source.sh");

function fetched(name: string): string {
  execFileSync(FETCH, [name, CACHE], { stdio: ["ignore", "inherit", "inherit"] });
  return join(CACHE, name);
}

/** Does for json-c's templates what its CMake files do on Linux. */
function configureJsonC(folder: string): void {
  const absent = /^(ENABLE_|OVERRIDE_|HAS_GNU_WARNING|HAVE_XLOCALE|HAVE_BSD|HAVE_DOPRNT|HAVE_DECL__|const$|size_t$)/;
  const sizes: Record<string, string> = { SIZEOF_INT: "4", SPEC___THREAD: "__thread", strtoll: "strtoll" };
  const filled = (template: string): string =>
    readFileSync(join(folder, template), "utf8")
      .replaceAll(/^#cmakedefine (\w+)(.*)$/gm, (_, name: string, value: string) =>
        absent.test(name) ? `/* #undef ${name} */` : `#define ${name}${value}`,
      )
      .replaceAll("@JSON_H_JSON_POINTER@", '#include "json_pointer.h"')
      .replaceAll("@json_c_strtoll@", "strtoll")
      .replaceAll("@json_c_strtoull@", "strtoull")
      .replaceAll(/@(\w*)@/g, (_, name: string) => sizes[name] ?? (name.startsWith("SIZEOF") ? "8" : "1"));
  writeFileSync(join(folder, "config.h"), filled("cmake/config.h.in"));
  writeFileSync(join(folder, "json_config.h"), filled("cmake/json_config.h.in"));
  writeFileSync(join(folder, "json.h"), filled("json.h.cmakein"));
  writeFileSync(join(folder, "apps_config.h"), "#define HAVE_SYS_RESOURCE_H\n#define HAVE_GETRUSAGE\n");
}

const FLAGS = "-O2 -Wall -Wextra -Wconversion".split(" ");

interface Run {
  readonly name: string;
  readonly folder: () => string;
  readonly sources: string;
  readonly command: readonly string[];
  readonly sourcesMin: number;
  readonly warnedMin: number;
}

const runs: readonly Run[] = [
  ...[
    ["gcc", "-g"],
    ["clang", "-gdwarf-4"],
  ].map((command) => ({
    name: `lua 5.4, ${command.join(" ")}`,
    folder: () => fetched("lua5.4"),
    sources: "src/*.c",
    command: [...command, ...FLAGS],
    sourcesMin: 32,
    warnedMin: 20,
  })),
  {
    name: "json-c, gcc -g",
    folder: () => {
      const folder = fetched("json-c");
      configureJsonC(folder);
      return folder;
    },
    sources: "{*.c,tests/*.c,apps/*.c}",
    command: ["gcc", "-g", "-I.", "-DHAVE_CONFIG_H", ...FLAGS],
    sourcesMin: 35,
    warnedMin: 20,
  },
  {
    name: "leveldb (C++), g++ -g",
    folder: () => fetched("leveldb"),
    sources: "table/{block,block_builder,format,iterator,merger,table,two_level_iterator}.cc",
    command: ["g++", "-g", "-I.", "-Iinclude", "-DLEVELDB_PLATFORM_POSIX=1", "-std=c++17", ...FLAGS],
    sourcesMin: 7,
    warnedMin: 3,
  },
];

describe("all sources of a project are equal, none is refused", () => {
  for (const run of runs)
    it(run.name, () => {
      const folder = run.folder();
      const sources = globSync(run.sources, { cwd: folder }).sort();
      assert.ok(sources.length >= run.sourcesMin, `${sources.length} sources`);
      const count = runProject(folder, sources, run.command);
      assert.deepEqual(count.different, []);
      assert.deepEqual([...count.refused], []);
      assert.equal(count.equal, sources.length);
      assert.equal(count.failed, 0);
      assert.ok(count.warned >= run.warnedMin, `${count.warned} warned`);
    });
});
