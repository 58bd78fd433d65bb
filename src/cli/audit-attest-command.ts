// `hpcc audit attest`, `hpcc audit check-attestation` and `hpcc ca attest-key`.
import { type FileHandle, open } from "node:fs/promises";
import type { Command } from "commander";
import { HpccError } from "../base/errors.ts";
import type { Attestation, AttestOptions, KeptBlobs } from "./audit-attest.ts";
import { json, type Output } from "./output.ts";

export interface AttestHost {
  readonly output: Output;
  /** Blobs of a worker's state folder; null where it has no store. */
  readonly keptBlobs: (stateFolder: string) => Promise<KeptBlobs | null>;
}

interface AttestFlags {
  readonly log: string[];
  readonly signKey: string;
  readonly build?: string;
  readonly principal?: string;
  readonly out?: string;
  readonly json?: true;
}

interface CheckFlags {
  readonly signer: string[];
  readonly key: string[];
  readonly json?: true;
}

const collect = (value: string, values: string[] = []): string[] => [...values, value];

export function addAttest(audit: Command, host: AttestHost, setExitCode: (code: number) => void): void {
  audit
    .command("attest")
    .description("sign in-toto statements with SLSA provenance of what rows say, one a line")
    .argument("[what...]", "rows' numbers, hashes of at least 8 hex digits, or objects' files")
    .requiredOption("--log <dir>", "the log's folder, or the worker's state folder; any number", collect)
    .requiredOption("--sign-key <file>", "the key that signs, as `hpcc ca attest-key` makes it")
    .option("--build <id>", "all rows of this build that have a result")
    .option("--principal <id>", "with --build: those of this client, by its SPIFFE id")
    .option("-o, --out <file>", "write them to this file")
    .option("--json", "print JSON, with each envelope's row and subjects")
    .action(async (what: string[], flags: AttestFlags) => runAttest(what, flags, host));
  audit
    .command("check-attestation")
    .description("check attestations without a log, and that files are what they are about")
    .argument("<bundle>", "a file of attestations, one a line")
    .argument("[files...]", "objects that an attestation must be about")
    .requiredOption("--signer <file>", "public key of those who sign attestations, in PEM; any number", collect)
    .requiredOption("--key <key>", "a log's key, as `hpcc ca log-key` prints it; any number", collect)
    .option("--json", "print JSON")
    .action(async (bundle: string, files: string[], flags: CheckFlags) => {
      const { checkBundle, isGood, printBundleCheck } = await import("./audit-check-attestation.ts");
      const check = await checkBundle(bundle, { files, attestKeys: flags.signer, logKeys: flags.key });
      host.output.out(flags.json ? json(check) : printBundleCheck(check));
      setExitCode(isGood(check) ? 0 : 1);
    });
}

async function runAttest(what: readonly string[], flags: AttestFlags, host: AttestHost): Promise<void> {
  const { build, principal = null } = flags;
  if ((what.length === 0) === (build === undefined))
    throw new HpccError("argument.invalid", "name rows, hashes or files, or a build with --build");
  const { readAttestKey } = await import("../audit/attest/attest-key-file.ts");
  const { attestBuild, attestRows } = await import("./audit-attest.ts");
  const options: AttestOptions = {
    logs: flags.log,
    signer: await readAttestKey(flags.signKey),
    openBlobs: host.keptBlobs,
    note: (text) => host.output.error(text),
  };
  const all: Attestation[] = [];
  const file = flags.out === undefined ? null : await openOut(flags.out);
  try {
    const out = async (text: string) => {
      if (file === null) host.output.out(text);
      else await file.writeFile(text);
    };
    const take = async (one: Attestation) => {
      if (flags.json) all.push(one);
      else await out(`${JSON.stringify(one.envelope)}\n`);
    };
    let count = 0;
    if (build !== undefined) count = await attestBuild({ build, principal }, options, take);
    else for (const one of await attestRows(what, options)) count += await take(one).then(() => 1);
    if (flags.json) await out(json(all));
    if (file !== null) host.output.error(`${count} attestations in ${flags.out}\n`);
  } finally {
    await file?.close();
  }
}

async function openOut(path: string): Promise<FileHandle> {
  try {
    return await open(path, "w");
  } catch (error) {
    throw new HpccError("argument.invalid", `${path} cannot be written`, { cause: error });
  }
}

export function addAttestKey(ca: Command, output: Output): void {
  ca.command("attest-key")
    .description("print the public key of those who sign attestations; with --new make a key")
    .requiredOption("--key <file>", "the private key's file")
    .option("--new", "make it")
    .action(async (options: { key: string; new?: true }) => {
      const { makeAttestKey, publicKeyText, readAttestKey } = await import("../audit/attest/attest-key-file.ts");
      output.out(publicKeyText(options.new ? await makeAttestKey(options.key) : await readAttestKey(options.key)));
    });
}
