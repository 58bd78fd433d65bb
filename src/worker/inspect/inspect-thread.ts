// The thread that keeps the index of a worker's log and answers questions about hashes: they read files and may take long, and the worker's
// event loop serves builds meanwhile.
import { parentPort, workerData } from "node:worker_threads";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { DiskStore } from "../../store/disk/disk-store.ts";
import { Inspector } from "./inspection.ts";
import type { FromThread, ThreadFolders, ToThread } from "./messages.ts";

/** How often it is told how far a long reading of the log is. */
const TELL_MS = 1000;

const port = parentPort;
if (port === null) throw new Error("bug: this is no program of its own");
const folders = workerData as ThreadFolders;
const say = (message: FromThread) => port.postMessage(message);

const disk = await DiskStore.open({ root: folders.store, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
const inspector = new Inspector({
  auditFolder: folders.audit,
  store: disk.tenant.bind(disk),
  keep: true,
  warn: (event, error) => say({ t: "warn", event, error: String(error) }),
});

function failed(error: unknown): void {
  say({ t: "warn", event: "audit.index.failed", error: String(error) });
}

let told = -1;
const telling = setInterval(() => {
  void inspector.sequence().then(
    (sequence) => {
      if (sequence !== told) say({ t: "at", sequence });
      told = sequence;
    },
    () => undefined,
  );
}, TELL_MS);

port.on("message", (message: ToThread) => void hear(message));

async function hear(message: ToThread): Promise<void> {
  switch (message.t) {
    case "find":
      try {
        say({ t: "found", inspection: await inspector.find(message.hash, message.tenant, message.sequenceMax) });
      } catch (error) {
        const code = error instanceof HpccError ? error.code : "audit.io";
        say({ t: "failed", code, message: error instanceof Error ? error.message : String(error) });
      }
      return;
    case "catch up":
      await inspector.catchUp(message.sequenceMax).catch(failed);
      return;
    case "forget":
      await inspector.forget().catch(failed);
      return;
    case "close":
      clearInterval(telling);
      await inspector.close();
      port?.close();
  }
}
