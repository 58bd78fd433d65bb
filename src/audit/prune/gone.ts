// How much of a log is gone, for whoever looks for something and does not find it.
import { readStub } from "../pruned-stub.ts";
import { listPrunes } from "./stub-files.ts";

/** Rows of a tenant, or of all for null, that were pruned, as the stubs beside the log say. */
export async function prunedRowsOf(folder: string, tenant: string | null): Promise<number> {
  const stubs = await listPrunes(folder, tenant);
  return stubs.reduce((sum, { note }) => sum + readStub(note.toString("utf8")).rows, 0);
}
