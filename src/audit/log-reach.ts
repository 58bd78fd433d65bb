// Whether a log that was read reaches as far as its checkpoint says, for those who print rows. It looks at no signature and at no root:
// that is the verification's matter. UNTRUSTED: a log.
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { readCheckpoint } from "../core/note/checkpoint.ts";
import { CHECKPOINT_FILE, readLogKey } from "./log-tree.ts";
import { readPlainFile } from "./plain-file.ts";
import { listSegments, partsOf, readSegment } from "./read-log.ts";
import { hasLaterGroup, segmentSequence } from "./segment.ts";

/** What a checkpoint says before the rows are read: a worker may write more of both meanwhile. */
export type ClaimedRows =
  | { readonly t: "rows"; readonly rows: number }
  | { readonly t: "bad"; readonly error: HpccError };

export async function claimedRows(folder: string): Promise<ClaimedRows> {
  try {
    const note = await readPlainFile(join(folder, CHECKPOINT_FILE)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return null;
      throw new HpccError("audit.io", `cannot read the checkpoint of ${folder}`, { cause: error });
    });
    if (note !== null) return { t: "rows", rows: readCheckpoint(note.toString("utf8")).size };
    if ((await readLogKey(folder)) === null) return { t: "rows", rows: 0 };
    throw new HpccError("audit.corrupt", `${folder} has a key and no checkpoint: nothing says how many rows there are`);
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    return { t: "bad", error };
  }
}

/** Throws `audit.corrupt` where the last segment is damaged, or ends before the claimed row. What a crash has left behind that is no damage. */
export async function checkReach(folder: string, claimed: ClaimedRows): Promise<void> {
  const last = (await listSegments(folder)).at(-1);
  let [row, end] = [last === undefined ? 0 : segmentSequence(last)! - 1, 0];
  if (last !== undefined) {
    const bytes = await readSegment(folder, last);
    for (const { first, rows, part } of partsOf(bytes, last, { torn: true })) [row, end] = [first + rows - 1, part.end];
    if (end < bytes.length && hasLaterGroup(bytes, end, row + 1))
      throw new HpccError("audit.corrupt", `${last} is damaged at byte ${end}, after row ${row}`);
  }
  if (claimed.t === "bad") throw claimed.error;
  if (row < claimed.rows)
    throw new HpccError(
      "audit.corrupt",
      `the audit log can be read to row ${row}, and its checkpoint was made for ${claimed.rows} rows`,
      { hint: "It was cut off, or is damaged there. `hpcc audit verify` says more." },
    );
}
