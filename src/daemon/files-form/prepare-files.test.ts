import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, symlinkSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HostProject, type HostProjectOptions } from "../../../test/support/host-project.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { decodeSourceManifest } from "../../core/action/source-manifest.ts";
import type { PreparedJob } from "../call/remote-job.ts";
import type { Stage } from "../call/stage.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import type { ProjectPlace } from "../project.ts";
import { prepareFiles } from "./prepare-files.ts";

interface Asked extends HostProjectOptions {
  readonly argv: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly prepare?: (root: string) => void;
  readonly paths?: ProjectPlace["paths"];
  readonly environment?: readonly string[];
  /** Working directory below the project. */
  readonly below?: string;
}

async function jobOf(asked: Asked): Promise<Stage<PreparedJob> & { readonly base: string }> {
  const { argv, files = {}, prepare, paths = "own", environment = [], below = "", ...options } = asked;
  using made = new HostProject(options);
  made.write({ "a.c": "int x;\n", "a.s": ".text\n", "a.i": "int x;\n", ...files });
  prepare?.(made.root);
  const call = made.call([made.compiler.family, ...argv.split(" ")], environment, below);
  const prepared = made.prepare(call, paths);
  if (prepared.kind === "bypass") return { ...prepared, base: made.base };
  // The clock is ahead, so that all files are older than the call.
  const clock = { ...SYSTEM_CLOCK, wallMs: () => Date.now() + 60_000 };
  const headers = new HeaderHints({ logger: SILENT_LOGGER });
  return { ...(await prepareFiles(prepared.value, { ...made.caches, headers, clock })), base: made.base };
}

/** A job's outputs and where they go, or why there is none. */
async function outputs(asked: Asked): Promise<string[]> {
  const job = await jobOf(asked);
  if (job.kind === "bypass") return [job.reason];
  const { action, deliveries } = job.value;
  return action.outputs.map(({ path }, index) =>
    `${path} to ${deliveries[index]?.destination}`.replaceAll(job.base, "@"),
  );
}

test("an object whose name nothing embeds has one name for all", async () => {
  assert.deepEqual(await outputs({ argv: "-c a.c -o out/x.o" }), ["/hpcc/out/object to out/x.o"]);
});

test("side outputs stand where the caller's folder leads, and argv spells it as he does", async () => {
  const asked: Asked = {
    argv: "-c a.c -o link/x.o -fstack-usage",
    prepare: (root) => {
      mkdirSync(join(root, "real/deep"), { recursive: true });
      symlinkSync("real/deep", join(root, "link"));
    },
  };
  assert.deepEqual(await outputs(asked), ["@/p/real/deep/x.o to link/x.o", "@/p/real/deep/x.su to link/x.su"]);
  const shared = await jobOf({ ...asked, argv: "-c a.s -o link/x.o -save-temps=obj", paths: "shared" });
  assert.ok(shared.kind === "next");
  assert.ok(shared.value.action.outputs.every(({ path }) => /^\/hpcc\/project\/(?:real\/deep\/)?[^/]+$/.test(path)));
  assert.ok(shared.value.action.argv.includes("link/x.o" as never));
  const { entries } = decodeSourceManifest(shared.value.source.manifest);
  assert.deepEqual(
    entries.filter(({ kind }) => kind !== "file").map(({ kind, path }) => `${kind} ${path}`),
    ["link /hpcc/project/link", "folder /hpcc/project/real/deep"],
  );
});

test("a listing of the assembler goes to a folder below", async () => {
  const prepare = (root: string) => mkdirSync(join(root, "lists"));
  assert.deepEqual(await outputs({ argv: "-c a.s -o x.o -Wa,-a=lists/x.lst", prepare }), [
    "@/p/x.o to x.o",
    "@/p/lists/x.lst to lists/x.lst",
  ]);
  assert.deepEqual(await outputs({ argv: "-c a.s -o x.o -Wa,-a=../x.lst", prepare, below: "" }), ["side_outputs"]);
});

test("side outputs that leave the project stay here", async () => {
  assert.deepEqual(await outputs({ argv: "-c a.c -o ../x.o -fstack-usage" }), ["outside_view"]);
  assert.deepEqual(await outputs({ argv: "-c a.c -o none/x.o -fstack-usage" }), ["outside_view"]);
  const prepare = (root: string) => symlinkSync("..", join(root, "up"));
  assert.deepEqual(await outputs({ argv: "-c a.c -o up/x.o -fstack-usage", prepare }), ["outside_view"]);
});

test("two extra roots take part in a call, sources and outputs alike", async () => {
  const asked: Asked = {
    argv: "-c a.c -I../lib -o ../build/x.o -fstack-usage",
    files: { "a.c": '#include "l.h"\n', "../lib/l.h": "int l;\n" },
    extraRoots: ["build", "lib"],
  };
  assert.deepEqual(await outputs(asked), ["@/build/x.o to ../build/x.o", "@/build/x.su to ../build/x.su"]);
  const job = await jobOf(asked);
  assert.ok(job.kind === "next");
  const { entries } = decodeSourceManifest(job.value.source.manifest);
  assert.deepEqual(
    entries.map(({ kind, path }) => `${kind} ${path}`.replace(job.base, "@")),
    ["folder @/build", "file @/lib/l.h", "file @/p/a.c"],
  );
});

test("a source that is not preprocessed is read as any file: not a fifo, not what is missing or too large", async () => {
  for (const name of ["f.i", "f.s"]) {
    const fifo = (root: string) => void execFileSync("mkfifo", [join(root, name)]);
    assert.deepEqual(await outputs({ argv: `-c ${name}`, prepare: fifo }), ["outside_view"]);
    assert.deepEqual(await outputs({ argv: `-c ${name}` }), ["modified_input_file"]);
    const large = (root: string) => truncateSync(join(root, name), 33 * 1024 * 1024);
    assert.deepEqual(await outputs({ argv: `-c ${name}`, files: { [name]: "" }, prepare: large }), [
      "source_too_large",
    ]);
  }
});

test("files that line markers name go along with preprocessed text", async () => {
  const files = { "a.i": '# 1 "x.h"\nint x;\n# 1 "/usr/include/stdio.h"\n# 1 "none.h"\n# 1 "<built-in>"\n', "x.h": "" };
  const job = await jobOf({ argv: "-c a.i", files });
  assert.ok(job.kind === "next");
  const { entries } = decodeSourceManifest(job.value.source.manifest);
  assert.deepEqual(
    entries.map(({ path }) => path.replace(job.base, "@")),
    ["@/p/a.i", "@/p/x.h"],
  );
});

test("the date of a guest is the caller's, the policy's, or an error", async () => {
  const epoch = async (asked: Omit<Asked, "argv">) => {
    const job = await jobOf({ argv: "-c a.c", ...asked });
    assert.ok(job.kind === "next");
    return job.value.action.environment.find((entry) => entry.startsWith("SOURCE_DATE_EPOCH="))?.split("=")[1];
  };
  const own = ["SOURCE_DATE_EPOCH=77"];
  assert.equal(await epoch({}), "dates-are-not-reproducible");
  assert.equal(await epoch({ environment: own }), "77");
  assert.equal(await epoch({ config: { determinism: "pin" } }), "0");
  assert.equal(await epoch({ config: { determinism: "pin" }, environment: own }), "77");
  assert.equal(await epoch({ config: { determinism: "strict" }, environment: own }), "dates-are-not-reproducible");
  assert.equal(await epoch({ family: "clang" }), undefined);
});

test("the seed is injected where checkouts share results, and where the compiler would draw one", async () => {
  const seeded = async (argv: string, paths: "own" | "shared") => {
    const job = await jobOf({ argv, paths });
    assert.ok(job.kind === "next", JSON.stringify(job));
    return job.value.action.argv.some((word) => word.startsWith("-frandom-seed="));
  };
  assert.equal(await seeded("-c a.c", "own"), false);
  assert.equal(await seeded("-c a.c --coverage", "own"), true);
  assert.equal(await seeded("-c a.i", "shared"), true);
  assert.equal(await seeded("-c a.s", "shared"), false);
});
