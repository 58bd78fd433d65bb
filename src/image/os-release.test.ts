import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readOsRelease } from "./os-release.ts";

test("the system of a root folder, from the file in it and from no other", () => {
  const root = mkdtempSync(join(tmpdir(), "hpcc-os-"));
  const place = join(root, "etc/os-release");
  try {
    for (const folder of ["etc", "usr/lib"]) mkdirSync(join(root, folder), { recursive: true });
    assert.equal(readOsRelease(root).size, 0);
    symlinkSync("../../../../../../../../etc/os-release", place);
    assert.equal(readOsRelease(root).size, 0, "a link leads within the root");
    writeFileSync(
      join(root, "usr/lib/os-release"),
      "ID=alpine\nVERSION_ID='3.20'\nPRETTY_NAME=\"Alpine Linux\"\nrubbish\n",
    );
    assert.deepEqual(
      [...readOsRelease(root)],
      [
        ["ID", "alpine"],
        ["VERSION_ID", "3.20"],
        ["PRETTY_NAME", "Alpine Linux"],
      ],
    );
    rmSync(place);
    execFileSync("mkfifo", [place]);
    assert.equal(readOsRelease(root).get("ID"), "alpine", "a fifo is not waited for");
    rmSync(place);
    writeFileSync(place, `${"X".repeat(200_000)}\nID=late\n`);
    assert.equal(readOsRelease(root).size, 0, "no more than its beginning is read");
  } finally {
    rmSync(root, { recursive: true });
  }
});
