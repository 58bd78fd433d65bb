import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { byteStringOfText } from "../../base/byte-string.ts";
import { FolderNamesCache } from "../inputs/folder-names.ts";
import { waysTo } from "./ways.ts";

test("links on the way and behind each other are named, and the folders that they lead to", () => {
  const root = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-ways-")));
  try {
    mkdirSync(join(root, "real/deep"), { recursive: true });
    writeFileSync(join(root, "real/deep/f.h"), "");
    symlinkSync("real", join(root, "link"));
    symlinkSync("../link/deep/f.h", join(root, "real/g.h"));
    symlinkSync("loop", join(root, "loop"));
    const at = (name: string) => byteStringOfText(join(root, name));
    const plain = waysTo([at("real/deep/f.h")]);
    assert.deepEqual([[...plain.folders], [...plain.links]], [[at("real/deep")], []]);
    assert.deepEqual([...waysTo([byteStringOfText(`${root}/link/deep/.`)]).folders], [at("real/deep")]);
    const linked = waysTo([at("link/g.h")]);
    assert.deepEqual(
      [[...linked.folders], [...linked.links].sort()],
      [[at("real/deep")], [at("link"), at("real/g.h")]],
    );
    const up = waysTo([byteStringOfText(`${root}/link/../real/deep/f.h`)]);
    assert.deepEqual([[...up.folders], [...up.links]], [[at("real/deep")], [at("link")]]);
    assert.deepEqual([...waysTo([at("loop/x")]).links], [at("loop")]);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test("folders whose names are known say the same, and a link that comes later is seen", () => {
  const root = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-ways-")));
  try {
    mkdirSync(join(root, "real"));
    for (const name of ["f.h", "g.h"]) writeFileSync(join(root, "real", name), "");
    symlinkSync("real", join(root, "link"));
    const at = (name: string) => byteStringOfText(join(root, name));
    const names = new FolderNamesCache({ wallMs: () => Date.now() + 60_000 });
    for (const folder of [root, join(root, "real")]) names.read(byteStringOfText(folder));
    const paths = ["link/f.h", "real/g.h", "link/../real/f.h", "none/x.h"].map(at);
    assert.deepEqual(waysTo(paths, names), waysTo(paths));
    rmSync(join(root, "real/g.h"));
    symlinkSync("f.h", join(root, "real/g.h"));
    assert.deepEqual([...waysTo([at("real/g.h")], names).links], [at("real/g.h")]);
  } finally {
    rmSync(root, { recursive: true });
  }
});
