// Finds the result of a call whose inputs are as they were: the newest whose files have the same content and whose absent names are absent.
// UNTRUSTED: the store's records may be damaged.

import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { KeptFile, LocalStore } from "../../store/local/local-store.ts";
import type { KeptOutput } from "../call/answered-call.ts";
import type { FileDigests } from "./file-digests.ts";
import type { FoundInput } from "./find-inputs.ts";
import { decodeRecord, type LocalRecord, type Variant } from "./local-record.ts";
import { sameFiles } from "./same-files.ts";
import type { SeenNames } from "./seen-names.ts";

export interface LookUpParts {
  readonly store: LocalStore;
  readonly files: FileDigests;
  readonly logger: Logger;
}

export interface LocalHit {
  readonly variant: Variant;
  /** In the variant's order. */
  readonly inputs: readonly FoundInput[];
  readonly outputs: readonly KeptOutput[];
}

/** What is recorded under a key; nothing for a record that cannot be read. */
export async function readVariants(key: Digest, { store, logger }: LookUpParts): Promise<LocalRecord> {
  const bytes = await store.readRecord(key);
  if (bytes === null) return [];
  try {
    return decodeRecord(bytes);
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    logger.warn("local.record_damaged", { key, message: error.message });
    return [];
  }
}

/** The result that holds; null for none, or when the store has lost a file of it. */
export async function lookUp(record: LocalRecord, seen: SeenNames, parts: LookUpParts): Promise<LocalHit | null> {
  const known = new Map<string, FoundInput | null>();
  const holding = (variant: Variant): FoundInput[] | null => {
    const inputs: FoundInput[] = [];
    for (const { path, digest } of variant.files) {
      let input = known.get(path);
      if (input === undefined) {
        const file = parts.files.digest(seen.absolute(path));
        input = file === null ? null : { path, ...file };
        known.set(path, input);
      }
      if (input?.digest !== digest) return null;
      inputs.push(input);
    }
    const isAbsent = variant.absent.every(({ folder, names }) =>
      names.every((name) => seen.kind(folder, name) === "absent"),
    );
    return isAbsent && sameFiles(inputs).join() === variant.same.join() ? inputs : null;
  };
  for (const variant of record) {
    const inputs = holding(variant);
    if (inputs === null) continue;
    const outputs = await keptOutputs(variant, parts.store);
    if (outputs !== null) return { variant, inputs, outputs };
  }
  return null;
}

async function keptOutputs({ outputs }: Variant, store: LocalStore): Promise<KeptOutput[] | null> {
  const found: (KeptFile | null)[] = await Promise.all(outputs.map(({ digest }) => store.find(digest)));
  const kept: KeptOutput[] = [];
  for (const [at, { destination, digest, manner }] of outputs.entries()) {
    const file = found[at];
    if (file === null || file === undefined) return null;
    kept.push({ destination, digest, path: file.path, executable: false, manner });
  }
  return kept;
}
