// A signed log of any rows of all kinds, of few tenants, principals, images and so on, so that questions find some of them.
import * as fc from "fast-check";
import { AuditLog } from "../../src/audit/audit-log.ts";
import type { AuditRow } from "../../src/audit/row.ts";
import type { EnvelopeBody } from "../../src/audit/rows/bodies.ts";
import { checkColumns } from "../../src/audit/rows/columns.ts";
import { ManualClock } from "../../src/base/clock.ts";
import type { HpccError } from "../../src/base/errors.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import type { NoteSigner } from "../../src/core/note/signed-note.ts";
import { BODIES } from "./audit-envelopes.ts";

export const TENANTS = ["acme", "beta"] as const;
export const PRINCIPALS = ["acme/user/ann", "acme/user/bob", "beta/user/eve"].map(
  (name) => `spiffe://x.example/tenant/${name}`,
);
export const BUILDS = ["nightly", "release 7"];
export const VMS = ["vm-1", "vm-2", "vm-3"];
export const DIGESTS = Array.from({ length: 8 }, (_, at) => sha256(Buffer.from(`digest ${at}`)));
export const FIRST_MS = Date.UTC(2027, 0, 1);
export const DAYS = 30;
const DAY_MS = 86_400_000;

/** A log names a key only where it changes. */
const { "log key": _, ...others } = BODIES;
const anyBody = fc.oneof(...Object.values(others));
const digest = fc.constantFrom(...DIGESTS);
const row: fc.Arbitrary<AuditRow> = fc.record({
  imageDigest: fc.option(digest, { nil: null }),
  sourceDigest: fc.option(digest, { nil: null }),
  flags: fc.constantFrom('["env","-i","-C","/","/usr/bin/gcc","-DX=\\"a\\\\b\\""]', null),
  outputDigest: fc.option(digest, { nil: null }),
  tenant: fc.constantFrom(...TENANTS, "-"),
  worker: fc.constant("w1"),
  vm: fc.constantFrom(...VMS, null),
  durationUs: fc.nat(),
  exit: fc.constantFrom(0, 1, null),
});

const endMs = fc.nat(DAYS * DAY_MS).map((ms) => FIRST_MS + ms);
const body = fc
  .tuple(anyBody, endMs, fc.constantFrom(...PRINCIPALS), fc.constantFrom(...BUILDS, null), fc.boolean())
  .map(
    ([any, ended, principal, build, isOwn]): EnvelopeBody =>
      ({
        ...any,
        endMs: ended,
        ...("principal" in any && !isOwn && { principal }),
        ...("build" in any && !isOwn && { build }),
      }) as EnvelopeBody,
  );

/** The row with the columns that its kind has. */
function fitted(any: AuditRow, { kind }: EnvelopeBody): AuditRow {
  const filled = {
    imageDigest: DIGESTS[0],
    sourceDigest: DIGESTS[1],
    flags: '["x"]',
    outputDigest: DIGESTS[2],
    tenant: "acme",
    vm: "vm-1",
    exit: 0,
  };
  for (let fits = any; ; ) {
    try {
      checkColumns(fits, kind);
      return fits;
    } catch (error) {
      const [, how, column = ""] = /(has|lacks) (\w+)$/.exec((error as HpccError).message) ?? [];
      const absent = column === "tenant" ? "-" : null;
      fits = { ...fits, [column]: how === "has" ? absent : filled[column as keyof typeof filled] };
    }
  }
}

export interface GeneratedLog {
  readonly folder: string;
  readonly signer: NoteSigner;
  readonly rows: number;
  readonly seed: number;
}

/** Appends so many rows, beside those of keys. */
export async function growLog({ folder, signer, rows, seed }: GeneratedLog): Promise<void> {
  const options = {
    folder,
    worker: "w1",
    clock: new ManualClock(),
    logger: SILENT_LOGGER,
    signer,
    segmentBytesMax: 30_000,
  };
  const log = await AuditLog.open(options);
  const drawn = fc.sample(fc.tuple(row, body), { numRuns: rows, seed });
  for (let at = 0; at < drawn.length; at += 50)
    await Promise.all(drawn.slice(at, at + 50).map(async ([any, own]) => log.append(fitted(any, own), own)));
  await log.close();
}
