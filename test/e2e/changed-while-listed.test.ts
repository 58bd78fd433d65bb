// Files that change at every point between a call's list and its sending: what is sent is one state of the files that existed, never a
// part of one and a part of another. Real compiler, real files; where nothing can be known the call is compiled locally.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { zstdDecompressSync } from "node:zlib";
import { decodeSourceManifest } from "../../src/core/action/source-manifest.ts";
import type { Digest } from "../../src/core/digest/digest.ts";
import type { PreparedJob } from "../../src/daemon/call/remote-job.ts";
import { ImageStore } from "../../src/image/image-store.ts";
import { HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { type Point, PreparedRace } from "../support/prepared-race.ts";

const FILES = {
  "a.c": [
    '#include "k.h"',
    '#include "l.h"',
    '#if __has_include("opt.h")',
    '#include "with.h"',
    "#else",
    '#include "without.h"',
    "#endif",
    '#include "cur/v.h"',
    "int all = K + L + V;",
    "",
  ].join("\n"),
  "inc/k.h": "#define K 1\n",
  "inc/l.h": "#define L 1\n",
  "inc/opt.h": "",
  "inc/with.h": "#define W 1\n",
  "inc/without.h": "#define W 0\n",
  "other/k.h": '#define K 2\n#include "more.h"\n',
  "other/l.h": "#define L 2\n",
  "other/with.h": "#define W 2\n",
  "other/without.h": "#define W 3\n",
  "other/more.h": "#define MORE 2\n",
  "v1/v.h": "#define V 1\n",
  "v2/v.h": '#define V 2\n#include "extra.h"\n',
  "v2/extra.h": "#define EXTRA 2\n",
  "kept.h": "#define L 3\n",
};
/** In `first/`, a folder of the path before `inc/`, there is nothing. */
const ARGV = ["gcc", "-c", "a.c", "-Ifirst", "-Iinc", "-MD"];
const SETUP =
  "mkdir first; ln -s v1 cur; ln -s v2 next; cp -rp . ../project.b; cp other/* ../project.b/inc;" +
  "cd ../..; cp -rp up up2; cp up2/project/other/* up2/project/inc";
/** Clang lists files as GCC does: these show that it is asked in the same way. */
const WITH_CLANG = new Set([
  "two files",
  "folders change places",
  "a link by an old one",
  "what was asked for vanishes",
]);

const CHANGES: Readonly<Record<string, string>> = {
  "one file": "echo '#define K 5' > inc/k.h",
  "the source": "echo 'int more;' >> a.c",
  "two files": "echo '#define K 5' > inc/k.h; echo '#define L 5' > inc/l.h",
  "a file by another": "echo '#define K 5' > new; mv new inc/k.h",
  "a file by an old one": "mv kept.h inc/l.h",
  "the same size and time": "touch -r inc/k.h s; echo '#define K 8' > inc/k.h; touch -r s inc/k.h; rm s",
  "folders change places": "mv inc tmp; mv other inc; mv tmp other",
  "a link leads elsewhere": "ln -sfn v2 cur",
  "a link by an old one": "mv -T next cur",
  "what was asked for vanishes": "rm inc/opt.h",
  "a file vanishes": "rm inc/l.h; mv kept.h first/l.h",
  "a file before another": "echo '#define L 4' > first/l.h",
  "an old file before another": "mv kept.h first/l.h",
  "an old folder before another": "rmdir first; mv other first",
  "a folder in a file's place": "rm inc/l.h; mkdir inc/l.h; mv kept.h first/l.h",
  "the whole project": "cd ..; mv project project.a; mv project.b project",
  "the folder above": "cd ../..; mv up up1; mv up2 up",
};

let race: PreparedRace;

before(async () => {
  const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const argv = [HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet"];
  const built = await runCommand([...argv, "--compiler", "gcc", "--compiler", "clang"], { env });
  assert.equal(built.code, 0, built.stderr);
  race = new PreparedRace(await new ImageStore(IMAGE_FOLDER).rootfs(built.stdout.trim() as Digest));
});

after(() => race?.[Symbol.dispose]());

function script(text: string): void {
  const { status, stderr } = spawnSync("/bin/sh", ["-ec", text], { cwd: race.root });
  assert.equal(status, 0, String(stderr));
}

async function anew(compiler: string): Promise<string[]> {
  for (const name of ["up", "up1", "up2"]) rmSync(join(race.folder, name), { recursive: true, force: true });
  mkdirSync(race.root, { recursive: true });
  race.write(FILES);
  script(SETUP);
  await race.settle();
  return [compiler, ...ARGV.slice(1)];
}

/** What is sent, blobs and all, once `late` has changed what it changes. */
async function sent({ source, dependencyText }: PreparedJob, late = () => {}): Promise<string> {
  late();
  const parts = [dependencyText ?? ""];
  for (const entry of decodeSourceManifest(source.manifest).entries) {
    const blob = entry.kind === "file" && entry.size > 0 ? zstdDecompressSync(await source.openBlob(entry.digest)) : "";
    parts.push(`${entry.path} ${entry.kind === "link" ? entry.target : entry.kind} ${blob.toString()}`);
  }
  return parts.join("\n");
}

/** What is sent of a state that holds still; a reason where that is not sent. */
async function still(argv: readonly string[], at: (point: Point) => void = () => {}): Promise<string> {
  const prepared = await race.prepare(argv, at);
  return "job" in prepared ? sent(prepared.job) : prepared.local;
}

describe("a change at every point", () => {
  for (const compiler of ["gcc", "clang"])
    for (const [name, change] of Object.entries(CHANGES)) {
      if (compiler === "clang" && !WITH_CLANG.has(name)) continue;
      test(`${compiler}: ${name}`, async () => {
        const points: Point[] = [];
        const before = await still(await anew(compiler), (point) => void points.push(point));
        script(change);
        await race.settle();
        const states = [before, await still([compiler, ...ARGV.slice(1)])];
        assert.ok(points.length >= 7, points.join());
        for (const point of [...points, "sent"]) {
          const argv = await anew(compiler);
          let changed = false;
          const make = (reached: Point) => {
            if (reached !== point || changed) return;
            changed = true;
            script(change);
          };
          const prepared = await race.prepare(argv, make);
          const came = "job" in prepared ? await sent(prepared.job, () => make("sent")) : prepared.local;
          assert.ok(changed, `the call never came to ${point}`);
          assert.ok(
            [...states, "modified_input_file"].includes(came),
            `changed at ${point}: ${came}\nstates: ${states.join("\n--\n")}`,
          );
        }
      });
    }
});
