// `hpcc ca log-key`: the key that signs a worker's audit log.
import { makeLogKey, readLogSigner } from "../audit/log-key-file.ts";
import { HpccError } from "../base/errors.ts";

/** The public key's text; makes a new key of a name when one is given. */
export async function logKey(stateFolder: string, newName: string | null): Promise<string> {
  if (newName !== null) return (await makeLogKey(stateFolder, newName)).text;
  const signer = await readLogSigner(stateFolder);
  if (signer === null)
    throw new HpccError(
      "argument.invalid",
      `${stateFolder} has no key of a log; a worker makes it, or --new NAME does`,
    );
  return signer.verifier.text;
}
