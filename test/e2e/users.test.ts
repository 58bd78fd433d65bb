// Two users, two checkouts: where a project lies and whose it is changes nothing of what is compiled.
import assert from "node:assert/strict";
import { chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { type CallStats, Farm, HPCC, type RunningWorker, type User } from "../support/farm.ts";
import { jobRows } from "../support/job-rows.ts";

/** Debian's nobody. */
const PLAIN_UID = 65_534;
const FILES = {
  "src/a.c": '#include <assert.h>\n#include "part.h"\nint f(int a) { assert(a); char c = a; return c; }\n',
  "src/b.c": '#include "part.h"\nconst char *where = __FILE__;\nint g(void) { return narrowed(3); }\n',
  "src/c.cc":
    '#include "part.h"\nnamespace { int hidden(int a) { return narrowed(a); } }\nint h(int a) { return hidden(a); }\n',
  "include/part.h": "static inline char narrowed(int a) { return a; }\n",
};
const OBJECTS = ["a.o", "b.o", "c.o"];

let farm: Farm;
let worker: RunningWorker;
let root: User;
let plain: User;
let imageDigest: string;

before(async () => {
  farm = new Farm();
  await farm.init();
  const image = await farm.image("e2e");
  imageDigest = image.digest;
  await farm.startScheduler();
  worker = await farm.startWorker("w", { layouts: [image.layout], policy: '[tenants.acme]\nsharing = "private"\n' });
  root = await farm.addUser("alice", { images: [imageDigest], fallback: "none" });
  plain = await farm.addUser("bob", { images: [imageDigest], fallback: "none", uid: PLAIN_UID });
});

after(async () => {
  await farm?.close();
});

function checkout(user: User, path: string): string {
  const folder = join(user.folder, path);
  for (const [name, text] of Object.entries({ "hpcc.toml": `image = "${imageDigest}"\n`, ...FILES })) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  const { uid } = user;
  for (const at of ["", "src"]) if (uid !== undefined) chownSync(join(folder, at), uid, uid);
  return folder;
}

interface Built {
  readonly stats: CallStats;
  readonly stderr: string;
  readonly objects: readonly Buffer[];
}

/** Compiles all sources with absolute paths, as a user. */
async function build(user: User, project: string): Promise<Built> {
  await user.stats(true);
  let said = "";
  for (const object of OBJECTS) {
    const source = object === "c.o" ? "c.cc" : object.replace(/o$/, "c");
    const compiler = object === "c.o" ? "g++" : "gcc";
    const flags = ["-O1", "-g", "-Wall", "-Wconversion", `-I${project}/include`];
    const argv = [HPCC, compiler, ...flags, "-c", join(project, "src", source), "-o", object];
    const { code, stderr } = await user.run(argv, { cwd: join(project, "src") });
    assert.equal(code, 0, stderr);
    said += stderr;
  }
  const stats = await user.stats();
  assert.deepEqual([stats.jobs_sent, stats.reasons, stats.launcher_fallbacks], [OBJECTS.length, {}, {}]);
  const objects = OBJECTS.map((name) => readFileSync(join(project, "src", name)));
  return { stats, stderr: said.replaceAll(project, "@"), objects };
}

test("two checkouts of two users share every source digest, of one principal every object", async () => {
  const first = await build(root, checkout(root, "one"));
  assert.equal(first.stats.outcomes["remote_compiled"], OBJECTS.length);
  assert.match(first.stderr, /@\/src\/a\.c: In function[^]*@\/include\/part\.h/);

  const second = await build(root, checkout(root, "a/longer way/to two"));
  assert.equal(second.stats.outcomes["remote_hit"], OBJECTS.length, "one principal shares every object");
  assert.equal(second.stats.source_bytes, 0);

  const other = await build(plain, checkout(plain, "three"));
  assert.equal(
    other.stats.outcomes["remote_compiled"],
    OBJECTS.length,
    "with `private`, another principal shares no result",
  );

  // Two users of the machine who are one principal, as a person on two machines is.
  const carol = await farm.addUser("carol", {
    images: [imageDigest],
    fallback: "none",
    uid: PLAIN_UID,
    principal: "alice",
  });
  const same = await build(carol, checkout(carol, "four"));
  assert.equal(same.stats.outcomes["remote_hit"], OBJECTS.length, "one principal shares every object with himself");

  for (const { objects, stderr } of [second, other, same]) {
    assert.equal(stderr, first.stderr);
    for (const [at, object] of objects.entries()) assert.ok(object.equals(first.objects[at]!), OBJECTS[at]);
  }
  const rows = await jobRows(worker);
  assert.equal(rows.length, 4 * OBJECTS.length);
  for (const at of OBJECTS.keys()) {
    const equal = [0, 1, 2, 3].map((build) => rows[at + build * OBJECTS.length]!);
    assert.equal(new Set(equal.map(({ sourceDigest }) => sourceDigest)).size, 1, OBJECTS[at]);
    assert.equal(new Set(equal.map(({ outputDigest }) => outputDigest)).size, 1, OBJECTS[at]);
    assert.equal(new Set(equal.map(({ flags }) => flags)).size, 1, OBJECTS[at]);
  }
  assert.equal(new Set(rows.map(({ sourceDigest }) => sourceDigest)).size, OBJECTS.length);
});
