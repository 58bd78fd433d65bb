// The worker's audit log, and who is asked to cosign it.
import { AuditLog, type AuditLogOptions } from "../audit/audit-log.ts";
import { Witnessing, type WitnessingOptions } from "../audit/witness/witnessing.ts";

/** Who is asked, and certificates of authorities that theirs may be of. */
export type WitnessSettings = Pick<WitnessingOptions, "witnesses" | "ca">;

export interface WitnessedLog {
  readonly log: AuditLog;
  /** Null where nobody is asked. */
  readonly witnessing: Witnessing | null;
  /** Ends the log, and then has its last checkpoint cosigned if that is quick. */
  close(): Promise<void>;
}

export async function openWitnessedLog(
  options: AuditLogOptions,
  settings: WitnessSettings | undefined,
): Promise<WitnessedLog> {
  let witnessing: Witnessing | null = null;
  const log = await AuditLog.open({ ...options, published: () => witnessing?.published() });
  const { folder, clock, logger } = options;
  if (settings !== undefined && settings.witnesses.length > 0)
    witnessing = Witnessing.start({ folder, clock, logger, mendTiles: async () => log.mendTiles(), ...settings });
  const close = async () => {
    await log.close();
    await witnessing?.close();
  };
  return { log, witnessing, close };
}
