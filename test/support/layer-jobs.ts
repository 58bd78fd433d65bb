// Jobs, answers and next layers for tests of one layer of a worker.

import { ascii } from "../../src/base/byte-string.ts";
import type { Action } from "../../src/core/action/action.ts";
import { resultKeys } from "../../src/core/action/result-keys.ts";
import { encodeResultManifest, resultDigest } from "../../src/core/action/result-manifest.ts";
import { encodeSourceManifest, sourceManifest } from "../../src/core/action/source-manifest.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import { type Principal, parseSpiffeId, spiffeId } from "../../src/core/identity/spiffe.ts";
import { fixedPolicies } from "../../src/core/tenant-policy.ts";
import type { TenantStore } from "../../src/store/action-cache.ts";
import { memoryStore } from "../../src/store/memory/memory-store.ts";
import { makePoolKey } from "../../src/vm/pool-key.ts";
import { OWN, openResult } from "../../src/worker/cached-result.ts";
import type { Answer, Job, Layer } from "../../src/worker/layers/layer.ts";
import type { JobEvent } from "../../src/worker/layers/observer.ts";
import type { Origin } from "../../src/worker/rows/job-rows.ts";

export const EMPTY_BLOB = { digest: sha256(new Uint8Array()), size: 0 };
export const IMAGE = sha256(Buffer.from("the image of layers"));
export const SOURCE = Buffer.from("int a;\n");

export function user(name: string, tenant = "acme"): Principal {
  const id = parseSpiffeId(`spiffe://test.example/tenant/${tenant}/user/${name}`);
  if (id.kind !== "user") throw new Error("bug: no user");
  return id;
}

export const ACTION: Action = {
  imageDigest: IMAGE,
  argv: [ascii("/usr/bin/gcc"), ascii("-c"), ascii("a.c")],
  environment: [],
  cwd: ascii("/hpcc/project"),
  outputs: [{ path: ascii("/hpcc/out/a.o"), required: true, kind: "object" }],
  terminalColumns: null,
  determinism: "default",
};

export const FILE = {
  kind: "file",
  path: ascii("/hpcc/project/a.c"),
  mode: 0o644,
  digest: sha256(SOURCE),
  size: SOURCE.length,
} as const;

export function testJob(changes: Partial<Job> = {}): Job {
  const principal = changes.principal ?? user("ann");
  const source = sourceManifest("files", [FILE]);
  const encodedSource = encodeSourceManifest(source);
  const policy = changes.policy ?? fixedPolicies().of(principal)!;
  return {
    principal,
    action: ACTION,
    source,
    encodedSource,
    keys: resultKeys({ action: changes.action ?? ACTION, sourceDigest: sha256(encodedSource), principal, policy }),
    policy,
    isolationMin: "qemu-tcg",
    poolKey: makePoolKey({ principal, image: IMAGE, trust: policy.life }),
    store: memoryStore(),
    signal: new AbortController().signal,
    client: {
      receive: () => {
        throw new Error("bug: this client has nothing");
      },
      progress: () => undefined,
    },
    again: false,
    build: null,
    deadlineMs: 60_000,
    ...changes,
  };
}

export interface AnswerOptions {
  readonly origin?: Partial<Origin>;
  readonly exitCode?: number;
  readonly object?: Uint8Array;
}

/** An answer whose object and manifest are in the store; `closed` counts how often it was closed. */
export async function testAnswer(
  store: TenantStore,
  options: AnswerOptions = {},
): Promise<Answer & { readonly closed: () => number; readonly rows: unknown[] }> {
  const { exitCode = 0, object = Buffer.from("an object") } = options;
  const ref = await store.blobs.putBytes(object, "cache", object.length);
  const outputs = [{ index: 0, kind: "object", executable: false, ...ref } as const];
  const manifest = { exitCode, outputs, stdout: EMPTY_BLOB, stderr: EMPTY_BLOB };
  const origin: Origin = {
    vm: "vm-1",
    worker: "w1",
    principal: spiffeId(user("ann")),
    image: IMAGE,
    madeMs: 1000,
    confirmedBy: null,
    isolation: "qemu-tcg",
    life: "session",
    compileUs: 7,
    versions: {},
    ...options.origin,
  };
  const recorded = { manifest, resultDigest: resultDigest(encodeResultManifest(manifest)), origin };
  const result = await openResult(recorded, store.blobs);
  if (result === null) throw new Error("bug: the answer's object is not there");
  let closed = 0;
  const rows: unknown[] = [];
  const close = async () => {
    closed++;
    await result.close();
  };
  return {
    outcome: "compiled",
    key: null,
    provenance: OWN,
    result: { ...result, close },
    afterRow: async (row) => void rows.push(row),
    closed: () => closed,
    rows,
  };
}

export const ROW = { line: "a row", digest: sha256(Buffer.from("a row")), sequence: 1, receipt: null };

/** A layer that does as it is told; `jobs` are those that came. */
export function nextLayer<J>(run: (job: J) => Promise<Answer>): Layer<J> & { readonly jobs: J[] } {
  const jobs: J[] = [];
  return {
    jobs,
    run: async (job) => {
      jobs.push(job);
      return run(job);
    },
  };
}

/** An observer that keeps what it saw. */
export function seen(): { readonly events: JobEvent[]; readonly observe: (event: JobEvent) => void } {
  const events: JobEvent[] = [];
  return { events, observe: (event) => void events.push(event) };
}
