// The corpus through a whole hpcc in its default form, whose guests are sandboxes: each case is compiled once through hpcc and once by
// the image's own compiler at the same path, and leaves the same files, words and exit code. With the project at its own path the plain
// side has no flag of hpcc's. The VM's share of the corpus is in corpus.test.ts.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { byteStringOf } from "../../src/base/byte-string.ts";
import type { CompilerFamily } from "../../src/core/compile/grammar/invocation.ts";
import { type CorpusCase, corpusCases, namesTheView } from "../corpus/cases.ts";
import { Differential, type Scenario } from "../support/differential.ts";
import { HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";
import { type ReproductionCounts, reproduceRows } from "../support/reproduced-rows.ts";

const FAMILIES: readonly CompilerFamily[] = ["gcc", "clang"];
/** At the shared place a project's cases are the same but for prefix maps: every so many are tried there. */
const SHARED_EVERY = 8;
/** Snippets, which may have a case for each compiler. */
const SNIPPETS_MIN = 300;
const REMOTE_SHARE_MIN = 0.98;
/** Rows of each compiler that are made again. */
const REPRODUCED_ROWS = Number(process.env["HPCC_TEST_REPRODUCED_ROWS"] ?? 30);

/** A farm and a project of its own for each compiler, so that both are tried at a time. */
class Track {
  readonly #farm: QuickFarm;
  readonly #differential: Differential;
  /** Cases that were equal, with the project at its own path, by what became of them. */
  readonly equal = { remote: 0, local: 0 };
  #last: Promise<unknown> = Promise.resolve();

  private constructor(farm: QuickFarm, image: string) {
    this.#farm = farm;
    this.#differential = new Differential(farm, image, "project");
  }

  static async start(image: string): Promise<Track> {
    return new Track(await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image] }), image);
  }

  /** Tries a case after those before it. */
  try(entry: CorpusCase, place: "own" | "shared"): Promise<void> {
    const next = this.#last.then(() => this.#try(entry, place));
    this.#last = next.catch(() => undefined);
    return next;
  }

  async #try(entry: CorpusCase, place: "own" | "shared"): Promise<void> {
    const { outcomes, what, plain } = await this.#differential.compareMiss(scenarioOf(entry), place);
    // Both compile here, a second apart perhaps: the time itself differs.
    const isTimed = (line: string) => entry.comesTo === "date_time_macro" && line.startsWith("miss main.o:");
    assert.deepEqual(
      what.filter((line) => !isTimed(line)),
      [],
    );
    assert.equal(outcomes[0], entry.comesTo === "remote" ? "remote_compiled" : `local: ${entry.comesTo}`);
    assert.equal(plain.stderr !== "", entry.speaks, "the compiler speaks");
    if (place === "own") this.equal[entry.comesTo === "remote" ? "remote" : "local"] += 1;
  }

  /** Rows of what was compiled, drawn at random, made again in fresh sandboxes. */
  reproduce(count: number): Promise<ReproductionCounts> {
    return reproduceRows(join(this.#farm.folder, "worker"), (image) => this.#farm.rootfs(image), count);
  }

  close(): Promise<void> {
    return this.#farm.close();
  }
}

function scenarioOf({ name, argv, cwd, files }: CorpusCase): Scenario {
  return {
    name,
    argv,
    files: Object.fromEntries(files.map(({ path, bytes }) => [path, byteStringOf(bytes)])),
    ...(cwd !== "" && { cwd }),
    distinct: true,
  };
}

const cases = corpusCases();
const snippets = cases.filter(({ variant }) => !variant);
const tracks = new Map<CompilerFamily, Track>();

before(async () => {
  const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const compilers = ["--compiler", "gcc", "--compiler", "clang"];
  const argv = [HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet", ...compilers];
  const built = await runCommand(argv, { env });
  assert.equal(built.code, 0, built.stderr);
  for (const family of FAMILIES) tracks.set(family, await Track.start(built.stdout.trim()));
});

after(async () => {
  for (const track of tracks.values()) await track.close();
});

function run(title: string, place: "own" | "shared", entries: readonly CorpusCase[]): void {
  describe(title, { concurrency: FAMILIES.length }, () => {
    for (const family of FAMILIES)
      describe(family, () => {
        for (const entry of entries.filter((candidate) => candidate.family === family))
          test(entry.name, async () => {
            await tracks.get(family)!.try(entry, place);
          });
      });
  });
}

run("at its own path", "own", snippets);
run(
  "at the shared place",
  "shared",
  // A preprocessed source is compiled at its own path anyway, and was.
  cases.filter(
    (entry, index) => index % SHARED_EVERY === 0 && !namesTheView(entry) && !entry.name.startsWith("preprocessed "),
  ),
);

for (const family of FAMILIES)
  test(`rows of ${family}, drawn at random, come to the same bytes, words and exit code again`, async () => {
    const { rows, equal, others } = await tracks.get(family)!.reproduce(REPRODUCED_ROWS);
    assert.deepEqual(others, []);
    assert.equal(rows, REPRODUCED_ROWS);
    assert.equal(equal, rows);
  });

test("nearly all of the corpus is compiled in the guest", () => {
  const names = new Set(snippets.map(({ name }) => name.split(" ")[0]));
  assert.ok(names.size >= SNIPPETS_MIN, `${names.size} snippets`);
  const counts = [...tracks.values()].map(({ equal }) => equal);
  const remote = counts.reduce((sum, count) => sum + count.remote, 0);
  const local = counts.reduce((sum, count) => sum + count.local, 0);
  assert.equal(remote + local, snippets.length, "every case was equal");
  assert.ok(remote >= REMOTE_SHARE_MIN * snippets.length, `${remote} of ${snippets.length} in the guest`);
});
