import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { loadWorkerConfig, type WorkerConfig } from "../config/worker.ts";
import { isolationRefusal } from "./worker-options.ts";

const folder = mkdtempSync(join(tmpdir(), "hpcc-worker-options-"));
after(() => rmSync(folder, { recursive: true }));

function configOf(lines: string): WorkerConfig {
  const file = join(folder, "worker.toml");
  writeFileSync(file, `state_dir = "/s"\n${lines}\n[identity]\ncertificate = "/c"\nkey = "/k"\nca = "/a"\n`);
  return loadWorkerConfig({}, file).config;
}

test("an isolation is refused that isolation.allowed does not name, with what would allow it", () => {
  const config = configOf('isolation = { allowed = ["firecracker", "qemu-tcg"] }');
  for (const allowed of ["firecracker", "qemu-tcg"] as const) assert.equal(isolationRefusal(config, allowed), null);
  const refusal = isolationRefusal(config, "qemu-kvm");
  assert.match(refusal?.why ?? "", /offers qemu-kvm, which isolation\.allowed does not name/);
  assert.match(refusal?.fix ?? "", /add "qemu-kvm" to isolation\.allowed/);
});
