// The printed lines, told to the real debuggers: programs are compiled with the flags that hpcc injects, then debugged elsewhere.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { byteStringOfText } from "../base/byte-string.ts";
import { sha256 } from "../core/digest/digest.ts";
import { type DebugMapInput, debugMap, printDebugMap } from "./debug-map.ts";

const MAIN = '#include "../inc/deep.h"\nint main(void)\n{\n  return deep(2) - 6; /* in main */\n}\n';
const HEADER = "static inline int deep(int x)\n{\n  return x * 3; /* in deep */\n}\n";
const DEBUGGER_MS = 60_000;

/** How builds call a compiler: where, and with which name of the source. */
const CALLS = [
  { name: "make in the root", folder: ".", source: "src/app.c" },
  { name: "make in a folder of sources", folder: "src", source: "app.c" },
  { name: "a relative name from a build folder", folder: "build", source: "../src/app.c" },
  { name: "an absolute name from a build folder", folder: "build", source: null },
] as const;

describe("debug-map", () => {
  let root = "";
  let elsewhere = "";
  before(() => {
    root = join(realpathSync(mkdtempSync(join(tmpdir(), "hpcc-map-"))), 'a "project" of ann');
    elsewhere = mkdtempSync(join(tmpdir(), "hpcc-elsewhere-"));
    for (const folder of ["src", "inc", "build"]) mkdirSync(join(root, folder), { recursive: true });
    writeFileSync(join(root, "src/app.c"), MAIN);
    writeFileSync(join(root, "inc/deep.h"), HEADER);
    // What a debugger finds that seeks a name in the root alone.
    writeFileSync(join(root, "app.c"), "/* another one */\n");
  });
  after(() => {
    rmSync(join(root, ".."), { recursive: true, force: true });
    rmSync(elsewhere, { recursive: true, force: true });
  });

  function mapOf(changes: Partial<DebugMapInput["config"]> = {}, folders: readonly string[] = [root]) {
    const image = { kind: "allowed", digest: sha256(Buffer.from("image")), name: null } as const;
    const config = { extraRoots: [], image, paths: "shared", sourceForm: "files", ...changes } as const;
    return debugMap({ root: byteStringOfText(root), config, folders });
  }

  function run(command: string, args: readonly string[], cwd: string): string {
    const { error, status, stdout, stderr } = spawnSync(command, args, { cwd, timeout: DEBUGGER_MS, encoding: "utf8" });
    assert.equal(error, undefined, command);
    // lldb ends with 1 when it finds no source, as it must without the lines.
    assert.ok(status === 0 || command === "lldb", `${command}: ${stderr}`);
    return stdout;
  }

  function compile(compiler: string, dwarf: number, call: (typeof CALLS)[number]): string {
    const program = join(elsewhere, "program");
    const flags = ["-g", `-gdwarf-${dwarf}`, `-ffile-prefix-map=${root}=.`];
    run(compiler, [...flags, call.source ?? join(root, "src/app.c"), "-o", program], join(root, call.folder));
    return program;
  }

  function gdbShows(program: string, lines: readonly string[]): string {
    const commands = [...lines, "list main", "list deep"].flatMap((line) => ["-ex", line]);
    return run("gdb", ["-nx", "-batch", ...commands, program], elsewhere);
  }

  function lldbShows(program: string, lines: readonly string[]): string {
    const commands = [...lines, "source list -n main", "source list -n deep"].flatMap((line) => ["-o", line]);
    return run("lldb", ["--no-lldbinit", "-b", ...commands, program], elsewhere);
  }

  for (const compiler of ["gcc", "clang"])
    for (const dwarf of [4, 5])
      for (const call of CALLS)
        test(`${compiler}, DWARF ${dwarf}, ${call.name}`, () => {
          const program = compile(compiler, dwarf, call);
          const { gdb, lldb } = mapOf({}, [join(root, call.folder)]);
          for (const [shows, lines] of [
            [gdbShows, gdb],
            [lldbShows, lldb],
          ] as const) {
            assert.doesNotMatch(shows(program, []), /in (main|deep) \*\/$/m);
            const shown = shows(program, lines);
            assert.match(shown, /in main \*\/$/m);
            assert.match(shown, /in deep \*\/$/m);
          }
        });

  test("an editor that drives gdb by its machine interface gets the source's own path", () => {
    const program = compile("gcc", 5, CALLS[3]);
    const text = printDebugMap(mapOf(), "vscode");
    const { setupCommands, initCommands } = JSON.parse(
      `{${text
        .split("\n")
        .filter((line) => line.startsWith('"'))
        .join(",")}}`,
    ) as { setupCommands: { text: string }[]; initCommands: string[] };
    const input = [...setupCommands.map((command) => command.text), `-file-exec-and-symbols ${program}`];
    const asked = [...input, "-symbol-list-lines ./src/app.c", "-break-insert main", "-gdb-exit"].join("\n");
    const { stdout } = spawnSync("gdb", ["-nx", "--interpreter=mi"], {
      cwd: elsewhere,
      input: `${asked}\n`,
      timeout: DEBUGGER_MS,
      encoding: "utf8",
    });
    const fullname = `fullname=${JSON.stringify(join(root, "src/app.c"))}`;
    assert.ok(stdout.includes(fullname), stdout);
    assert.equal(initCommands.length, 1);
  });

  test("extra roots are mapped, and folders in them", () => {
    const host = realpathSync(elsewhere);
    const { gdb, lldb } = mapOf({ extraRoots: [{ name: "build", host: byteStringOfText(elsewhere) }] }, [elsewhere]);
    assert.ok(gdb.includes(`set substitute-path /hpcc/roots/build ${host}`), gdb.join("\n"));
    assert.match(gdb[0] ?? "", /^set substitute-path \/hpcc\/roots\/build\/\. "\//);
    assert.match(lldb[0] ?? "", new RegExp(` /hpcc/roots/build ${host} /hpcc/roots/build "/`));
    assert.throws(() => mapOf({}, [elsewhere]), /neither in the project nor in an extra root/);
    assert.throws(() => mapOf({}, [join(root, "absent")]), /there is no folder/);
  });

  test("no map where objects name sources by their own paths; preprocessed text always has one", () => {
    for (const changes of [{ paths: "own" }, { image: { kind: "none" } }] as const) {
      const map = mapOf(changes);
      assert.deepEqual([map.gdb, map.lldb], [[], []]);
      for (const format of ["gdb", "lldb"] as const) assert.match(printDebugMap(map, format), /^# No map is needed: /);
      assert.match(printDebugMap(map, "vscode"), /^\/\/ No map is needed: /);
      assert.notEqual((JSON.parse(printDebugMap(map, "json")) as { unneeded: unknown }).unneeded, null);
    }
    assert.equal(mapOf({ paths: "own", sourceForm: "text" }).unneeded, null);
  });

  test("a path that would end a debugger's line is refused", () => {
    const config = { extraRoots: [], image: { kind: "none" }, paths: "shared", sourceForm: "files" } as const;
    assert.throws(
      () => debugMap({ root: byteStringOfText("/a\nshell id"), config, folders: [] }),
      /no debugger can be told the path/,
    );
  });
});
