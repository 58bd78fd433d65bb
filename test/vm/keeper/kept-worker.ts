// A worker for the keeper's tests: starts machines of real Firecracker, says what it has, and waits for its end.
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { text } from "node:stream/consumers";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../../src/base/system/clock.ts";
import { sha256 } from "../../../src/core/digest/digest.ts";
import { connectKeeper } from "../../../src/vm/keeper/connect-keeper.ts";
import type { Jail } from "../../../src/vm/keeper/keeper.ts";

const MEMORY_BYTES = 256 * 1024 * 1024;

function version(jail: Jail): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { socketPath: jail.apiSocket, path: "/version" },
      (answer) => void text(answer).then(resolve, reject),
    );
    asked.on("error", reject);
    asked.end();
  });
}

const keeper = await connectKeeper(3, { clock: SYSTEM_CLOCK, logger: SILENT_LOGGER, deadlineMs: 60_000 });
const path = process.execPath;
const kernel = sha256(readFileSync(path));
await keeper.admit({ kind: "kernel", path, digest: kernel, bytesMax: 1024 * 1024 * 1024 });
const jails: Jail[] = [];
for (const vm of ["vm-1", "vm-2"]) {
  const spec = { vm, memoryBytes: MEMORY_BYTES, vcpus: 2, kernel, initramfs: kernel, rootfs: null, snapshot: null };
  jails.push(await keeper.start({ ...spec, fileBytesMax: MEMORY_BYTES }, AbortSignal.timeout(60_000)));
}
const versions = await Promise.all(jails.map(version));
console.log(JSON.stringify({ hello: keeper.hello, uids: jails.map((jail) => jail.uid), versions }));
console.error(await keeper.ended);
