// `hpcc ca log-key` and `hpcc ca witness-key`: the keys that sign a worker's audit log, and a witness's cosignatures.
import { makeLogKey, readLogSigner } from "../audit/log-key-file.ts";
import { HpccError } from "../base/errors.ts";

/** The public key's text; makes a new key of a name when one is given. */
export async function logKey(stateFolder: string, newName: string | null): Promise<string> {
  if (newName !== null) return (await makeLogKey(stateFolder, newName)).text;
  const signer = await readLogSigner(stateFolder);
  if (signer === null)
    throw new HpccError("argument.invalid", `${stateFolder} has no key of a log; a worker makes it at its start`, {
      hint: `\`hpcc ca log-key --state ${stateFolder} --new NAME\` makes one before.`,
    });
  return signer.verifier.text;
}

/** The same of a witness. */
export async function witnessKey(stateFolder: string, newName: string | null): Promise<string> {
  if (newName !== null) return (await makeLogKey(stateFolder, newName, "cosignature")).text;
  const signer = await readLogSigner(stateFolder, "cosignature");
  if (signer === null)
    throw new HpccError("argument.invalid", `${stateFolder} has no key of a witness`, {
      hint: `\`hpcc ca witness-key --state ${stateFolder} --new NAME\` makes one.`,
    });
  return signer.verifier.text;
}
