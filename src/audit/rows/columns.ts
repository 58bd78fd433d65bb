// Which of the nine columns the rows of each kind have. Pure.
import { HpccError } from "../../base/errors.ts";
import type { AuditRow } from "../row.ts";
import type { AuditKind } from "./bodies.ts";

/** Columns that may be "-". `worker` never is, and `duration` is a number. */
const OPEN_COLUMNS = ["imageDigest", "sourceDigest", "flags", "outputDigest", "tenant", "vm", "exit"] as const;
type OpenColumn = (typeof OPEN_COLUMNS)[number];

interface Columns {
  readonly always: readonly OpenColumn[];
  readonly perhaps: readonly OpenColumn[];
}

const COMPILED: Columns = {
  always: ["tenant", "imageDigest", "sourceDigest", "flags", "vm", "exit"],
  perhaps: ["outputDigest"],
};
const UNDONE: Columns = { always: ["tenant"], perhaps: ["imageDigest", "sourceDigest", "flags", "vm"] };
const NOTHING: Columns = { always: [], perhaps: [] };

const COLUMNS: Readonly<Record<AuditKind, Columns>> = {
  compile: COMPILED,
  hit: COMPILED,
  confirm: COMPILED,
  denied: UNDONE,
  failed: UNDONE,
  vm: { always: ["tenant", "imageDigest"], perhaps: ["vm"] },
  revoke: { always: [], perhaps: ["tenant", "imageDigest", "vm"] },
  policy: NOTHING,
  host: NOTHING,
  log: NOTHING,
  prune: { always: ["tenant"], perhaps: [] },
  hold: { always: [], perhaps: ["tenant", "imageDigest"] },
};

/** Throws `audit.corrupt` where a row has a column that its kind has not, or lacks one. */
export function checkColumns(row: AuditRow, kind: AuditKind): void {
  const { always, perhaps } = COLUMNS[kind];
  for (const column of OPEN_COLUMNS) {
    const absent = row[column] === null || row[column] === "-";
    if (absent ? always.includes(column) : !always.includes(column) && !perhaps.includes(column))
      throw new HpccError("audit.corrupt", `an audit row of kind ${kind} ${absent ? "lacks" : "has"} ${column}`);
  }
}
