import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { HpccError } from "../base/errors.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { loadWorkerConfig } from "../config/worker.ts";
import { openWorkerRuntime } from "./worker-runtime.ts";

const folder = mkdtempSync(join(tmpdir(), "hpcc-worker-runtime-"));
const file = join(folder, "worker.toml");
const signal = new AbortController().signal;
after(() => rmSync(folder, { recursive: true }));

function configOf(env: Readonly<Record<string, string>>, lines = "") {
  writeFileSync(
    file,
    `state_dir = "${folder}/state"\n${lines}\n[identity]\ncertificate = "/c"\nkey = "/k"\nca = "/a"\n`,
  );
  return loadWorkerConfig(env, file).config;
}

function invalid(message: RegExp, hint = /./) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof HpccError, String(error));
    assert.equal(error.code, "config.invalid");
    assert.match(error.message, message);
    assert.match(error.hint, hint);
    return true;
  };
}

test("Firecracker without a keeper is refused with the line that starts the worker", async () => {
  const config = configOf({ HPCC_RUNTIME: "firecracker" });
  assert.equal(config.keeperFd, null);
  await assert.rejects(
    openWorkerRuntime({}, config, SILENT_LOGGER, signal),
    invalid(/needs the keeper/, /keeper --user .* -- hpcc worker --config/),
  );
});

test("more processors than Firecracker gives are refused before anything starts", async () => {
  const config = configOf({ HPCC_KEEPER_FD: "3" }, "vms.vm_vcpus = 48");
  await assert.rejects(openWorkerRuntime({}, config, SILENT_LOGGER, signal), invalid(/vm_vcpus is above 32/));
});

test("a descriptor that a keeper would not name is refused", () => {
  for (const text of ["2", "-3", "3x", "99999"])
    assert.throws(() => configOf({ HPCC_KEEPER_FD: text }), invalid(/HPCC_KEEPER_FD is not/));
  assert.equal(configOf({ HPCC_KEEPER_FD: "" }).keeperFd, null);
  assert.equal(configOf({ HPCC_KEEPER_FD: "3" }).keeperFd, 3);
});
