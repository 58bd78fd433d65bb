// A guest whose tenant is its root (test/vm/probe/rooted.c): it boots the real agent, and a process that the agent does not know does what
// an execution asks it to.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Canary } from "./canary.ts";
import { INSTALLED } from "./vm.ts";
import { compileProbe } from "./vm-toolchain.ts";

const repository = join(import.meta.dirname, "../..");
const MARKER_BYTES = 32;

/** What rooted.c plants with "plant", in the order of its kinds. */
const PLANTED = [
  "file in a mount of the agent's namespace",
  "System V shared memory",
  "POSIX message queue",
  "System V message queue",
  "key of a keyring",
  "file in memory without a name",
  "heap of a process that ignores signals",
  "pipe",
  "socket's queue",
  "file in a mount of a private namespace",
  "deleted file that is open",
  "System V shared memory of a private namespace",
  "name of an abstract socket",
  "host name of a private namespace",
];

/** Builds the guest in a folder, which it gives. */
export function makeRootedGuest(folder: string): string {
  const program = join(folder, "rooted");
  compileProbe("rooted", program);
  const agent = readFileSync(join(INSTALLED, "agent"));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(agent.length));
  const init = join(folder, "rooted-init");
  writeFileSync(init, Buffer.concat([readFileSync(program), agent, size]));
  const guest = join(folder, "rooted-guest");
  const node = join(repository, "node_modules/.bin/node");
  execFileSync(node, ["scripts/guest/pack.ts", ".cache/guest", init, guest], { cwd: repository });
  return guest;
}

/** The markers that "plant" leaves in the guest. */
export function plantedMarkers(): Canary[] {
  return PLANTED.map((name, kind) => ({ name, bytes: markerOf(kind) }));
}

/** As make_marker of rooted.c. */
function markerOf(kind: number): Uint8Array {
  const marker = Buffer.alloc(MARKER_BYTES);
  let x = (0x9e3779b9 ^ Math.imul(kind + 1, 0x85ebca6b)) >>> 0;
  for (let at = 0; at < MARKER_BYTES; at += 1) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    marker[at] = (x >>> 11) | 1;
  }
  return marker;
}
