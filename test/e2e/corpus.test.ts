// A spread of the corpus through the installed programs and a real VM, in the default form: with local compiles refused, exit code,
// stderr and object are those of the image's own compiler, or the call is refused for the named reason. All of the corpus is compiled in
// corpus-files.test.ts, whose guests are sandboxes.
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ascii, type ByteString, bytesOf } from "../../src/base/byte-string.ts";
import type { CompilerFamily } from "../../src/core/compile/grammar/invocation.ts";
import { type CorpusCase, corpusCases, namesTheView, ROOT } from "../corpus/cases.ts";
import { type CallResult, compileCall, takeFiles } from "../support/compile-call.ts";
import { Farm, type RunningWorker, type User } from "../support/farm.ts";
import { jobRows } from "../support/job-rows.ts";
import { OneStep, type OneStepRan } from "../support/one-step.ts";

const FAMILIES: readonly CompilerFamily[] = ["gcc", "clang"];
const EDIT_MS = 5;
const MADE = ["main.o", "main.s"];
/** Each case takes about half a second in an emulated VM, and ten times that with C++'s own headers: every so many of the others are taken. */
const EVERY = 9;

/** Words of calls that are compiled at the project's own path, where hpcc adds no flag that shows. */
const OWN_PATHS = /^(?:--coverage|-flto|-save-temps.*)$|\.i$/;

interface Came {
  readonly call: CallResult;
  readonly plain: OneStepRan;
  readonly plainFiles: ReadonlyMap<string, Buffer | null>;
}

/** A user of his own for each compiler, so that both are tried at a time. */
class Track {
  readonly user: User;
  readonly project: string;
  readonly #imageDigest: string;
  #last: Promise<unknown> = Promise.resolve();
  jobs = 0;

  constructor(user: User, imageDigest: string) {
    this.user = user;
    this.project = join(user.folder, "project");
    this.#imageDigest = imageDigest;
    mkdirSync(this.project);
  }

  /** Tries a case after those before it. */
  try(entry: CorpusCase): Promise<Came> {
    const next = this.#last.then(() => this.#try(entry));
    this.#last = next.catch(() => undefined);
    return next;
  }

  async #try(entry: CorpusCase): Promise<Came> {
    this.#putFiles(entry);
    const [compiler = "", ...words] = entry.argv.map((word) => word.replaceAll(ROOT, this.project));
    const cwd = this.project + (entry.cwd === "" ? "" : `/${entry.cwd}`);
    const makes = MADE.map((name) => `${cwd}/${name}`);
    const call = await compileCall(this.user, [compiler, ...words], { cwd, makes, env: { HPCC_FALLBACK: "none" } });
    this.jobs += call.stats.jobs_sent;
    this.#putFiles(entry);
    using reference = new OneStep(this.#imageDigest, { [this.project]: this.project });
    const shared = words.some((word) => OWN_PATHS.test(word))
      ? []
      : [`-ffile-prefix-map=${this.project}=.`, ...(entry.family === "gcc" ? ["-gno-record-gcc-switches"] : [])];
    const plain = reference.run([compiler, ...shared, ...words], { cwd });
    return { call, plain, plainFiles: takeFiles(makes) };
  }

  #putFiles({ files, cwd }: CorpusCase): void {
    for (const name of readdirSync(this.project)) rmSync(join(this.project, name), { recursive: true });
    mkdirSync(join(this.project, cwd), { recursive: true });
    const all = [...files, { path: "hpcc.toml", bytes: Buffer.from(`image = "${this.#imageDigest}"\n`) }];
    for (const { path, bytes } of all) {
      const host = bytesOf(join(this.project, path) as ByteString);
      mkdirSync(bytesOf(dirname(join(this.project, path)) as ByteString), { recursive: true });
      writeFileSync(host, bytes);
    }
  }
}

function hasHeadersOfCxx({ files }: CorpusCase): boolean {
  return files.some(
    ({ path, bytes }) => path.endsWith(".cc") && /#\s*include\s*</.test(Buffer.from(bytes).toString("latin1")),
  );
}

let farm: Farm;
let worker: RunningWorker;
const tracks = new Map<CompilerFamily, Track>();
const cases = corpusCases()
  .filter((entry) => !entry.variant && !namesTheView(entry) && !hasHeadersOfCxx(entry))
  .filter((_, index) => index % EVERY === 0);

before(async () => {
  farm = new Farm();
  await farm.init();
  const image = await farm.image("e2e-both", ["--compiler", "gcc", "--compiler", "clang"]);
  await farm.startScheduler();
  worker = await farm.startWorker("w", { layouts: [image.layout] });
  for (const family of FAMILIES)
    tracks.set(
      family,
      new Track(await farm.addUser(family, { images: [image.digest], fallback: "none" }), image.digest),
    );
});

after(async () => {
  await farm?.close();
});

/** Cases that reached the VM. */
let reached = 0;

function check(entry: CorpusCase, { call, plain, plainFiles }: Came): void {
  assert.deepEqual(call.stats.launcher_fallbacks, {});
  if (entry.comesTo !== "remote") {
    assert.equal(call.outcome, `refused: ${entry.comesTo}`);
    assert.equal(call.code, 1);
    assert.match(call.stderr, /^hpcc: refused, /);
    return;
  }
  assert.equal(call.outcome, "remote_compiled", call.stderr);
  assert.equal(call.code, plain.code);
  assert.equal(call.stderr, plain.stderr);
  assert.equal(plain.stderr !== "", entry.speaks, "the compiler speaks");
  for (const [path, bytes] of plainFiles) assert.deepEqual(call.files.get(path), bytes, path);
  reached += 1;
}

describe("exit code, stderr and object are those of a one-step compile", { concurrency: FAMILIES.length }, () => {
  for (const family of FAMILIES)
    describe(family, () => {
      for (const entry of cases.filter((candidate) => candidate.family === family))
        test(entry.name, async () => {
          check(entry, await tracks.get(family)!.try(entry));
        });
    });
});

test("a header that is edited all the while is compiled in one step, here", async () => {
  const track = tracks.get("gcc")!;
  const versions = ["a", "b"].map((name) => `static int h(int ${name}) { char c = ${name}; return c; }\n`);
  const [entry] = corpusCases().filter(({ name }) => name.startsWith("include-chain gcc"));
  await track.try({ ...entry!, files: [{ path: ascii("main.c"), bytes: Buffer.from('#include "h.h"\n') }] });
  const header = join(track.project, "h.h");
  let edits = 0;
  const edit = () => {
    writeFileSync(`${header}.new`, versions[edits++ % 2]!);
    renameSync(`${header}.new`, header);
  };
  edit();
  const argv = ["gcc", "-Wconversion", "-c", "main.c", "-o", "main.o"];
  const timer = setInterval(edit, EDIT_MS);
  const call = (fallback: string) =>
    compileCall(track.user, argv, { cwd: track.project, env: { HPCC_FALLBACK: fallback } });
  try {
    assert.equal((await call("none")).outcome, "refused: modified_input_file");
    const editsBefore = edits;
    const local = await call("image");
    assert.equal(local.outcome, "local: modified_input_file");
    assert.equal(local.code, 0, local.stderr);
    assert.match(local.stderr, /^h\.h:1:32: warning: .*\[-Wconversion\]$/m);
    assert.ok(editsBefore > 1 && edits > editsBefore, `${editsBefore} edits, then ${edits}`);
  } finally {
    clearInterval(timer);
  }
});

test("a spread of the corpus was seen, nearly all of it in the VM, and each job has its row", async () => {
  assert.ok(cases.length >= 60, `${cases.length} cases`);
  assert.ok(reached >= 0.95 * cases.length, `${reached} of ${cases.length} reached the VM`);
  const jobs = [...tracks.values()].reduce((sum, track) => sum + track.jobs, 0);
  const rows = await jobRows(worker);
  assert.equal(rows.length, jobs);
});
