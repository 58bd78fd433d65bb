// A session with a log in a process of its own, which tells on its standard output what its clients are told. It kills itself before
// the operation on files of the number that it is given, or in the middle of it.
// Arguments: the folder, the number (-1 for none), "half" or "nothing".
import { writeSync } from "node:fs";
import { runAuditSession, type Told } from "./audit-session.ts";
import { type Interfere, withFaultyFiles } from "./faulty-files.ts";

const [folder = "", nth = "-1", done = "nothing"] = process.argv.slice(2);

const interfere: Interfere = async (operation, { all, half }) => {
  if (operation.nth !== Number(nth)) return all();
  if (done === "half") await half();
  process.kill(process.pid, "SIGKILL");
  return new Promise(() => undefined);
};

const tell = (told: Told) => void writeSync(1, `${JSON.stringify(told)}\n`);
const refused = (error: unknown) => {
  throw error;
};

await withFaultyFiles(folder, interfere, async () => runAuditSession({ folder, tell, refused }));
