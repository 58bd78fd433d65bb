// Calls are told apart by the build that they belong to.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, test } from "node:test";
import type { ByteString } from "../../base/byte-string.ts";
import { type Logger, SILENT_LOGGER } from "../../base/log.ts";
import { Builds, type Process, type ReadProcess, readProcess } from "./builds.ts";

/** Processes by id; each began at its own id. */
function table(processes: Readonly<Record<number, readonly [name: string, parent: number]>>): ReadProcess {
  return (pid) => {
    const found = processes[pid];
    return found === undefined ? null : { name: found[0], parent: found[1], started: String(pid) };
  };
}

function buildsOf(read: ReadProcess, logger: Logger = SILENT_LOGGER): Builds {
  return new Builds({ logger, read, machine: () => "this machine" });
}

const call = (pid: number, ...environment: string[]) => ({ pid, environment: environment as ByteString[] });

test("the caller's environment names the build, and no other process does", () => {
  const builds = buildsOf(table({ 9: ["gcc", 8], 8: ["make", 7], 7: ["bash", 1] }));
  for (const name of ["a", "jenkins/app #7", "x\\ty", `"; DROP TABLE rows`, "~".repeat(128)])
    assert.deepEqual(builds.of(call(9, "A=b", `HPCC_BUILD_ID=${name}`)), { build: name, warning: null });
  assert.equal(builds.of(call(9, "XHPCC_BUILD_ID=a", "HPCC_BUILD_IDS=b", "HPCC_BUILD_ID=")).warning, null);
});

test("a bad name is told once, and the build has one all the same", () => {
  const said: unknown[] = [];
  const logger = { ...SILENT_LOGGER, warn: (event: string, fields?: unknown) => void said.push([event, fields]) };
  const builds = buildsOf(table({ 9: ["gcc", 8], 8: ["make", 1] }), logger);
  const { build } = builds.of(call(9));
  assert.match(build ?? "", /^make-[0-9a-f]{24}$/);
  for (const bad of ["a\tb", "a\nb", "\u00e9", "\u007f", "\u001b[31m", "a".repeat(129)]) {
    const first = builds.of(call(9, `HPCC_BUILD_ID=${bad}`));
    assert.match(first.warning ?? "", /^HPCC_BUILD_ID is not printable ASCII of at most 128 characters; [ -~]*$/);
    assert.equal(first.build, build);
    assert.deepEqual(builds.of(call(9, `HPCC_BUILD_ID=${bad}`)), { build, warning: null });
  }
  assert.deepEqual(said[0], ["build_id.refused", { length: 3 }]);
  assert.equal(said.length, 6);
});

describe("without a name", () => {
  const processes = table({
    2: ["bash", 1],
    10: ["make", 2],
    11: ["sh", 10],
    12: ["ninja", 11],
    13: ["hpcc", 12],
    14: ["hpcc", 11],
    20: ["make", 2],
    21: ["hpcc", 20],
    30: ["hpcc", 2],
    40: ["hpcc", 39],
    50: ["make", 2],
  });

  test("a build is the topmost build tool above the compiler", () => {
    // In any order, as what is known of one process must not be taken for another.
    const orders = [
      [13, 14, 21, 30],
      [30, 21, 14, 13],
      [21, 30, 13, 14],
    ];
    for (const order of orders) {
      const builds = buildsOf(processes);
      const ids = new Map(order.map((pid) => [pid, builds.of(call(pid)).build]));
      assert.equal(ids.get(13), ids.get(14));
      assert.notEqual(ids.get(13), ids.get(21));
      assert.equal(ids.get(30), null, "a shell is no build");
    }
    const builds = buildsOf(processes);
    for (const pid of [40, 41, 2, 0]) assert.equal(builds.of(call(pid)).build, null);
    assert.equal(builds.of(call(50)).build, null, "a compiler is no build tool, whatever its name");
  });

  test("another machine, or another process of the same id, is another build", () => {
    const id = buildsOf(processes).of(call(21)).build;
    const elsewhere = new Builds({ logger: SILENT_LOGGER, read: processes, machine: () => "another" });
    assert.notEqual(elsewhere.of(call(21)).build, id);
    let started = "20";
    const builds = buildsOf((pid) => (pid === 20 ? { name: "make", parent: 2, started } : processes(pid)));
    assert.equal(builds.of(call(21)).build, id);
    started = "77";
    assert.notEqual(builds.of(call(21)).build, id);
  });

  test("processes that go round in a circle end somewhere", () => {
    const builds = buildsOf((pid): Process => ({ name: "x", parent: pid === 9 ? 8 : 9, started: "1" }));
    assert.equal(builds.of(call(9)).build, null);
  });
});

test("this machine's processes are read, whatever their name is", async () => {
  const own = readProcess(process.pid);
  assert.equal(own?.parent, process.ppid);
  assert.match(own.started, /^[0-9]+$/);
  const child = spawn("/bin/sh", ["-c", "printf ') x (' > /proc/$$/comm; echo; read line"]);
  await once(child.stdout, "data");
  assert.deepEqual({ ...readProcess(child.pid!), started: "" }, { name: ") x (", parent: process.pid, started: "" });
  child.stdin.end("\n");
  await once(child, "close");
  assert.equal(readProcess(child.pid!), null);
});
