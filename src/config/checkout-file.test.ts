// A checkout's configuration files that are links to something else: nothing waits for them or reads without end.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { byteStringOfText } from "../base/byte-string.ts";
import { plannedConfiguration } from "../daemon/project-files.ts";
import { loadClientConfig } from "./client.ts";

test("a device, a fifo, a folder or too large a file in the place of hpcc.toml or hpcc.lock is named and refused", () => {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-checkout-"));
  try {
    execFileSync("mkfifo", [join(folder, "fifo")]);
    writeFileSync(join(folder, "large"), Buffer.alloc(1024 * 1024 + 1, "#"));
    const root = byteStringOfText(folder);
    const load = () => loadClientConfig({ env: { HOME: folder }, projectRoot: root }).config;
    for (const target of ["/dev/zero", join(folder, "fifo"), folder, join(folder, "large")]) {
      for (const name of ["hpcc.toml", "hpcc.lock"]) {
        if (name === "hpcc.lock") writeFileSync(join(folder, "hpcc.toml"), 'image = "r.example.com/team/gcc:12"\n');
        symlinkSync(target, join(folder, name));
        assert.throws(load, { code: "config.invalid", message: new RegExp(`/${name.replace(".", "\\.")}`) }, target);
        plannedConfiguration(root);
        rmSync(join(folder, name));
        rmSync(join(folder, "hpcc.toml"), { force: true });
      }
    }
    assert.equal(load().image.kind, "none");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
