// `hpcc audit check-attestation`: statements held against the keys of those who signed them and of the logs, and files against statements.
import { readFile, stat } from "node:fs/promises";
import { readAttestPublicKey } from "../audit/attest/attest-key-file.ts";
import { checkAttestation } from "../audit/attest/check-attestation.ts";
import { HpccError } from "../base/errors.ts";
import { digestHex } from "../core/digest/digest.ts";
import { parseVerifier } from "../core/note/signed-note.ts";
import { digestOfFile } from "./audit-attest.ts";
import { printable } from "./output.ts";

const BUNDLE_BYTES_MAX = 1024 * 1024 * 1024;

export interface AttestationCheck {
  readonly good: number;
  /** What is wrong, by lines of the bundle. */
  readonly problems: readonly { readonly line: number; readonly problem: string }[];
  /** Files of which a good statement tells the row, and those of which none does. */
  readonly files: readonly { readonly file: string; readonly invocation: string | null }[];
}

export interface CheckAttestationOptions {
  readonly files: readonly string[];
  /** Files with public keys. */
  readonly attestKeys: readonly string[];
  /** Texts of logs' keys. */
  readonly logKeys: readonly string[];
}

export async function checkBundle(bundle: string, options: CheckAttestationOptions): Promise<AttestationCheck> {
  const attestation = await Promise.all(options.attestKeys.map(readAttestPublicKey));
  const keys = { attestation, log: options.logKeys.map(parseVerifier) };
  const lines = (await readBundle(bundle)).split("\n").filter((line) => line !== "");
  if (lines.length === 0) throw new HpccError("argument.invalid", `${bundle} holds no attestation`);
  const problems: { line: number; problem: string }[] = [];
  const subjects = new Map<string, string>();
  for (const [at, line] of lines.entries())
    try {
      const { statement, record } = checkAttestation(line, keys);
      for (const { digest } of statement.subject)
        subjects.set(digest.sha256, `row ${record.envelope.sequence} of ${record.row.worker}`);
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      problems.push({ line: at + 1, problem: error.message });
    }
  const files: { file: string; invocation: string | null }[] = [];
  for (const file of options.files)
    files.push({ file, invocation: subjects.get(digestHex(await digestOfFile(file))) ?? null });
  return { good: lines.length - problems.length, problems, files };
}

async function readBundle(path: string): Promise<string> {
  try {
    if ((await stat(path)).size > BUNDLE_BYTES_MAX) throw new HpccError("limit.exceeded", `${path} is too large`);
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof HpccError) throw error;
    throw new HpccError("argument.invalid", `${path} cannot be read`, { cause: error });
  }
}

const PROBLEMS_SHOWN = 20;

export function isGood({ problems, files }: AttestationCheck): boolean {
  return problems.length === 0 && files.every(({ invocation }) => invocation !== null);
}

export function printBundleCheck(check: AttestationCheck): string {
  const { good, problems, files } = check;
  const lines = [`${good} attestations hold: each says what a row says that its log has signed`];
  for (const { line, problem } of problems.slice(0, PROBLEMS_SHOWN)) lines.push(`attestation ${line}: ${problem}`);
  if (problems.length > PROBLEMS_SHOWN) lines.push(`and ${problems.length - PROBLEMS_SHOWN} more that do not hold`);
  for (const { file, invocation } of files)
    lines.push(invocation === null ? `${file}: NO ATTESTATION THAT HOLDS IS ABOUT IT` : `${file}: ${invocation}`);
  return lines.map((line) => `${printable(line)}\n`).join("");
}
