// The corpus of small programs that warn or fail, through a whole hpcc. With local compiles refused, exit code and stderr are those
// of a one-step compile, or the call is refused for the listed reason; with local compiles allowed, they are in every case.
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ascii, type ByteString, bytesOf } from "../../src/base/byte-string.ts";
import type { CompilerFamily } from "../../src/core/compile/grammar/invocation.ts";
import { injectedFlags } from "../../src/core/compile/text/two-step.ts";
import { type CorpusCase, corpusCases, ROOT } from "../corpus/cases.ts";
import { type CallResult, compileCall } from "../support/compile-call.ts";
import { Farm, type RunningWorker, type User } from "../support/farm.ts";
import { jobRows } from "../support/job-rows.ts";
import { OneStep, type OneStepRan } from "../support/one-step.ts";

const FAMILIES: readonly CompilerFamily[] = ["gcc", "clang"];
const VIEW = "/hpcc/project";
const EDIT_MS = 5;
const MADE = ["main.o", "main.s"];
/** What hpcc's injected flags do not change here: they only forbid dates, for which a local compile has no need. */
const LOCAL_INJECTED: Readonly<Record<CompilerFamily, readonly string[]>> = {
  gcc: [`-ffile-prefix-map=${VIEW}=.`, "-gno-record-gcc-switches"],
  clang: [`-ffile-prefix-map=${VIEW}=.`],
};

interface Came {
  readonly remote: CallResult;
  readonly local: CallResult;
  readonly oneStep: OneStepRan;
  readonly plain: OneStepRan;
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
    const words = (root: string) => entry.argv.map((word) => word.replaceAll(ROOT, root));
    const below = entry.cwd === "" ? "" : `/${entry.cwd}`;
    const call = (fallback: string) =>
      compileCall(this.user, words(this.project), {
        cwd: this.project + below,
        makes: MADE.map((name) => join(this.project, name)),
        env: { HPCC_FALLBACK: fallback },
      });
    const remote = await call("none");
    const local = await call("image");
    this.jobs += remote.stats.jobs_sent + local.stats.jobs_sent;
    using reference = new OneStep(this.#imageDigest, { [VIEW]: this.project });
    const oneStep = (flags: readonly string[]) => reference.run([...words(VIEW), ...flags], { cwd: VIEW + below });
    return {
      remote,
      local,
      oneStep: oneStep(injectedFlags(entry.family)),
      plain: oneStep(LOCAL_INJECTED[entry.family]),
    };
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

let farm: Farm;
let worker: RunningWorker;
const tracks = new Map<CompilerFamily, Track>();
const cases = corpusCases().filter((entry) => !entry.variant);

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
let refused = 0;

function check(entry: CorpusCase, track: Track, { remote, local, oneStep, plain }: Came): void {
  const shown = (text: string) => text.replaceAll(VIEW, track.project);
  if (entry.expected === "equal" || entry.expected === "listed") {
    assert.equal(remote.stats.jobs_sent, 1, `${remote.outcome}: ${remote.stderr}`);
    assert.deepEqual(remote.stats.reasons, {});
    assert.equal(remote.code, oneStep.code);
    if (entry.expected === "equal") assert.equal(remote.stderr, shown(oneStep.stderr));
    else assert.notEqual(remote.stderr, shown(oneStep.stderr));
    reached += 1;
  } else {
    assert.equal(remote.outcome, `refused: ${entry.expected}`);
    assert.equal(remote.code, 1);
    assert.match(remote.stderr, /^hpcc: refused, /);
    refused += 1;
  }
  assert.deepEqual(remote.stats.launcher_fallbacks, {});
  assert.deepEqual(local.stats.launcher_fallbacks, {});
  if (entry.expected === "listed") return;
  const reference = local.outcome.startsWith("local: ") ? plain : oneStep;
  assert.equal(local.code, reference.code, local.outcome);
  // A source may itself name a path of the view.
  assert.equal(local.stderr.replaceAll(track.project, VIEW), reference.stderr, local.outcome);
  if (entry.speaks && entry.expected !== "date_time_macro") assert.notEqual(local.stderr, "");
}

describe("exit code and stderr are those of a one-step compile", { concurrency: FAMILIES.length }, () => {
  for (const family of FAMILIES)
    describe(family, () => {
      for (const entry of cases.filter((candidate) => candidate.family === family))
        test(entry.name, async () => {
          const track = tracks.get(family)!;
          check(entry, track, await track.try(entry));
        });
    });
});

test("a header that is edited all the while is compiled in one step, here", async () => {
  const track = tracks.get("gcc")!;
  const versions = ["a", "b"].map((name) => `static int h(int ${name}) { char c = ${name}; return c; }\n`);
  const [entry] = cases.filter(({ name }) => name.startsWith("include-chain gcc"));
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

test("the corpus was seen, and each job has its row", async () => {
  assert.ok(cases.length >= 160, `${cases.length} cases`);
  assert.ok(reached >= 120, `${reached} reached the VM`);
  assert.equal(reached + refused, cases.length);
  const jobs = [...tracks.values()].reduce((sum, track) => sum + track.jobs, 0);
  const rows = await jobRows(worker);
  assert.equal(rows.length, jobs);
});
