import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { type ByteString, byteStringOfText } from "../../base/byte-string.ts";
import { PROJECT_ROOT, type View } from "../../core/compile/view/view.ts";
import { SourceTree } from "./source-tree.ts";

let base = "";
const bytes = (text: string) => byteStringOfText(text);
const view = (place: "shared" | "own"): View => ({
  roots: [
    { host: bytes(`${base}/p`), guest: place === "own" ? bytes(`${base}/p`) : PROJECT_ROOT },
    { host: bytes(`${base}/build`), guest: bytes(place === "own" ? `${base}/build` : "/hpcc/roots/build") },
  ],
});

before(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-tree-")));
  const files = ["p/a.c", "p/inc/real/deep.h", "p/inc/x.h", "build/g.h", "image/usr/include/s.h", "outside.h"];
  for (const name of files) {
    mkdirSync(dirname(join(base, name)), { recursive: true });
    writeFileSync(join(base, name), "");
  }
  const links = {
    "p/near": "inc/real",
    "p/chain": "near",
    "p/up": "../build",
    "p/absolute": "/hpcc/project/inc",
    "p/host": `${base}/p/inc`,
    "p/out": `${base}/outside.h`,
    "p/system": "/usr/include",
    "p/loop": "pool",
    "p/pool": "loop",
    "p/self": ".",
    "p/nothing": "missing.h",
    "image/usr/inc": "include",
    "image/usr/leave": "/hpcc/project/a.c",
  };
  for (const [name, target] of Object.entries(links)) symlinkSync(target, join(base, name));
  execFileSync("mkfifo", [join(base, "p/fifo")]);
});
after(() => rmSync(base, { recursive: true }));

function tree(place: "shared" | "own" = "shared"): SourceTree {
  const cwd = place === "own" ? bytes(`${base}/p`) : PROJECT_ROOT;
  const imageRoot = bytes(join(base, "image"));
  return new SourceTree({ view: view(place), cwd, imageRoot, imageEntries: new Set(["usr"]) });
}

/** What a name leads to: kind and place, in few words. */
function leads(name: string, from = tree()): string {
  const found = from.look(bytes(name));
  const where = "guest" in found ? ` ${found.guest}` : "path" in found ? ` ${found.path}` : "";
  return `${found.kind}${where}`.replaceAll(base, "@");
}

test("names lead to files, folders, the image, nothing or elsewhere", () => {
  const rows: Record<string, string> = {
    "a.c": "file /hpcc/project/a.c",
    "./inc//x.h": "file /hpcc/project/inc/x.h",
    inc: "folder /hpcc/project/inc",
    "inc/": "folder /hpcc/project/inc",
    "/hpcc/project/a.c": "file /hpcc/project/a.c",
    "/hpcc/roots/build/g.h": "file /hpcc/roots/build/g.h",
    "missing.h": "absent",
    "a.c/x": "absent",
    "a.c/..": "absent",
    nothing: "absent",
    fifo: "outside",
    "/usr/include/s.h": "image /usr/include/s.h",
    "/usr/inc/s.h": "image /usr/include/s.h",
    "/usr/include/none.h": "absent",
    "/usr/leave": "file /hpcc/project/a.c",
    "/etc/passwd": "outside",
    "/home": "outside",
  };
  assert.deepEqual(Object.fromEntries(Object.keys(rows).map((name) => [name, leads(name)])), rows);
});

test("links are followed as a compiler in the view would follow them", () => {
  const rows: Record<string, string> = {
    "near/deep.h": "file /hpcc/project/inc/real/deep.h",
    "chain/deep.h": "file /hpcc/project/inc/real/deep.h",
    // Beside where the link leads, not beside the link.
    "near/../x.h": "file /hpcc/project/inc/x.h",
    "chain/../../a.c": "file /hpcc/project/a.c",
    // The view has the folder elsewhere than the host.
    "up/g.h": "outside",
    "absolute/x.h": "file /hpcc/project/inc/x.h",
    "host/x.h": "outside",
    out: "outside",
    "system/s.h": "image /usr/include/s.h",
    "system/../include/s.h": "image /usr/include/s.h",
    loop: "outside",
    "self/self/self/a.c": "file /hpcc/project/a.c",
    [`${"self/".repeat(40)}a.c`]: "file /hpcc/project/a.c",
    [`${"self/".repeat(41)}a.c`]: "outside",
  };
  assert.deepEqual(Object.fromEntries(Object.keys(rows).map((name) => [name, leads(name)])), rows);
});

test("at their own paths folders above a root are passed through, and links between roots hold", () => {
  const own = () => tree("own");
  assert.equal(leads(`${base}/p/a.c`, own()), "file @/p/a.c");
  assert.equal(leads("../build/g.h", own()), "file @/build/g.h");
  assert.equal(leads("up/g.h", own()), "file @/build/g.h");
  assert.equal(leads("host/x.h", own()), "file @/p/inc/x.h");
  assert.equal(leads("out", own()), "outside");
  assert.equal(leads("../outside.h", own()), "outside");
  assert.equal(leads("absolute/x.h", own()), "outside");
});

test("what is taken are the files, each link on the way, and the folders passed", () => {
  const taken = tree();
  for (const name of ["chain/deep.h", "near/../x.h", "system/s.h", "inc/x.h", "inc"]) taken.add(bytes(name));
  const files = ["a.c", "inc", "inc/real/deep.h", "inc/x.h", "near/deep.h"];
  assert.deepEqual(
    files.filter((name) => taken.has(`${PROJECT_ROOT}/${name}` as ByteString)),
    ["inc/real/deep.h", "inc/x.h"],
  );
  assert.deepEqual(taken.links, [
    { path: "/hpcc/project/chain", target: "near" },
    { path: "/hpcc/project/near", target: "inc/real" },
    { path: "/hpcc/project/system", target: "/usr/include" },
  ]);
  assert.deepEqual(taken.folders.toSorted(), ["/hpcc/project", "/hpcc/project/inc", "/hpcc/project/inc/real"]);
});

test("a look takes nothing", () => {
  const looked = tree();
  for (const name of ["chain/deep.h", "inc/x.h", "inc"]) looked.look(bytes(name));
  assert.deepEqual([looked.has(`${PROJECT_ROOT}/inc/x.h` as ByteString), looked.links], [false, []]);
  assert.deepEqual(looked.folders, [PROJECT_ROOT]);
});
