// A result of a peer against compiling it again: what a job that misses pays for asking, and what it saves. Two workers on loopback with
// mutual TLS and real stores; the compile is the machine's own gcc, without any VM.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { type Member, PeerSite, siteJob } from "../test/support/peer-site.ts";

const ROUNDS = 100;
const AT_ONCE = 1_000;
const KIB = 1024;
const MIB = 1024 * KIB;

const ends: (() => Promise<void>)[] = [];
const site = await PeerSite.open({ after: (end) => void ends.push(end) });
const [maker, asker] = [await site.add("w1"), await site.add("w2", { answerMs: 10_000, fetchMs: 60_000 })];
let next = 0;

function median(times: readonly number[]): string {
  return `${times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)]!.toFixed(2)} ms`;
}

/** Milliseconds of each job, one after the other. */
async function timed(run: (at: number) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const at = next++;
    const startMs = performance.now();
    await run(at);
    times.push(performance.now() - startMs);
  }
  return times;
}

async function shared(objectBytes: number, count: number): Promise<number[]> {
  const jobs = Array.from({ length: count }, () => next++);
  for (const at of jobs) {
    const object = randomBytes(objectBytes / 2).toString("hex");
    await maker.share(siteJob(at), { result: (await maker.make(siteJob(at), object)).result });
  }
  return jobs;
}

async function taken(member: Member, at: number): Promise<void> {
  const { provenance, result } = await member.run(siteJob(at));
  await result.close();
  if (provenance.from !== "w1") throw new Error("not a peer's hit");
}

function compile(source: string): number[] {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-bench-"));
  try {
    writeFileSync(join(folder, "a.cc"), source);
    return Array.from({ length: 5 }, () => {
      const startMs = performance.now();
      execFileSync("g++", ["-O2", "-c", "a.cc", "-o", "a.o"], { cwd: folder });
      return performance.now() - startMs;
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const misses = await timed(async (at) => (await asker.run(siteJob(at))).result.close());
await asker.peers.settled();
console.log(`asked in vain, and an empty compile: ${median(misses)}`);
for (const bytes of [20 * KIB, MIB / 2]) {
  const jobs = await shared(bytes, ROUNDS);
  const hits = await timed(() => taken(asker, jobs.shift()!));
  console.log(`a peer's result with an object of ${bytes / KIB} KiB that does not shrink: ${median(hits)}`);
}
const many = await shared(20 * KIB, AT_ONCE);
const beforeBytes = process.memoryUsage().rss;
const startMs = performance.now();
await Promise.all(many.map((at) => taken(asker, at)));
const seconds = (performance.now() - startMs) / 1000;
const grownMib = (process.memoryUsage().rss - beforeBytes) / MIB;
console.log(
  `${AT_ONCE} keys at once: ${(AT_ONCE / seconds).toFixed(0)}/s, both workers in one process grew by ${grownMib.toFixed(0)} MiB`,
);
console.log(`g++ -O2, two lines: ${median(compile("int a;\nint f() { return a; }\n"))}`);
console.log(
  `g++ -O2, <map>, <string>, <regex>: ${median(compile('#include <map>\n#include <regex>\n#include <string>\nstd::regex r("a");\n'))}`,
);
for (const end of ends) await end();
