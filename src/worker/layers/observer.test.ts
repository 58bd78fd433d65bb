import assert from "node:assert/strict";
import { test } from "node:test";
import { seen, testJob, user } from "../../../test/support/layer-jobs.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { JobCounts } from "./count.ts";
import { observers } from "./observer.ts";

test("an observer that fails stops neither the job nor the others, and is logged", () => {
  const logged: string[] = [];
  const logger = { ...SILENT_LOGGER, error: (event: string) => void logged.push(event) };
  const { events, observe } = seen();
  const all = observers([() => assert.fail("broken"), observe], logger);
  all({ t: "admitted", job: testJob() });
  assert.equal(events.length, 1);
  assert.deepEqual(logged, ["worker.observer.bug"]);
});

test("each job is counted once, by how it ended", () => {
  const { counters, observe } = new JobCounts();
  const principal = user("ann");
  const error = new HpccError("vm.lost", "gone");
  for (const outcome of ["compiled", "hit", "hit", "joined"] as const) {
    observe({ t: "arrived", principal });
    observe({ t: "answered", principal, outcome });
  }
  for (const t of ["denied", "failed", "unrecorded"] as const) {
    observe({ t: "arrived", principal });
    observe({ t, principal, error });
  }
  assert.deepEqual(counters, { jobs: 7, compiled: 1, hits: 2, joined: 1, denied: 1, failed: 1, unrecorded: 1 });
});
