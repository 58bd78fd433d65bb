// `hpcc ca`: the small CA's files. Keys are 0600 from the first byte on, nothing is overwritten.
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { HpccError } from "../base/errors.ts";
import { type Identity, spiffeId, type TrustDomain } from "../core/identity/spiffe.ts";
import { createAuthority, type IssueOptions, issueCertificate, type PemPair } from "./ca-authority.ts";

const CA_CERTIFICATE = "ca.crt";
const CA_KEY = "ca.key";

export interface CaCreated {
  readonly directory: string;
  readonly trustDomain: TrustDomain;
}

export interface Issued {
  readonly spiffeId: string;
  /** The folder and the files in it that a configuration's [identity] names. */
  readonly directory: string;
  readonly certificate: string;
  readonly key: string;
  readonly ca: string;
}

/** Makes a CA in a folder that must be absent or empty. */
export async function initAuthority(directory: string, trustDomain: TrustDomain, nowMs: number): Promise<CaCreated> {
  const authority = await createAuthority(trustDomain, nowMs);
  await writeNew(directory, { [CA_CERTIFICATE]: authority.certificate, [CA_KEY]: authority.key });
  return { directory: resolve(directory), trustDomain };
}

/** Issues a certificate into a folder that must be absent or empty; by default one below the CA's. */
export async function issueIdentity(
  caDirectory: string,
  identity: Identity,
  options: IssueOptions & { readonly out?: string },
): Promise<Issued> {
  const authority = await readAuthority(caDirectory);
  const issued = await issueCertificate(authority, identity, options);
  const directory = resolve(options.out ?? join(caDirectory, "issued", folderOf(identity)));
  await writeNew(directory, { "cert.pem": issued.certificate, "key.pem": issued.key, "ca.pem": authority.certificate });
  return {
    spiffeId: spiffeId(identity),
    directory,
    certificate: join(directory, "cert.pem"),
    key: join(directory, "key.pem"),
    ca: join(directory, "ca.pem"),
  };
}

/** Reads a CA's folder. */
export async function readAuthority(directory: string): Promise<PemPair> {
  try {
    const certificate = await readFile(join(directory, CA_CERTIFICATE), "utf8");
    const mode = (await stat(join(directory, CA_KEY))).mode & 0o777;
    if ((mode & 0o077) !== 0)
      throw new HpccError("identity.invalid", `${join(directory, CA_KEY)} can be read by others`, {
        hint: `Run \`chmod 600 ${join(directory, CA_KEY)}\`; whoever read it before can issue certificates.`,
      });
    return { certificate, key: await readFile(join(directory, CA_KEY), "utf8") };
  } catch (error) {
    if (error instanceof HpccError) throw error;
    throw new HpccError("identity.invalid", `no CA in ${directory || '""'}: ${(error as Error).message}`, {
      cause: error,
      hint: "`hpcc ca init FOLDER` makes one.",
    });
  }
}

function folderOf(identity: Identity): string {
  return identity.kind === "user" ? `tenant/${identity.tenant}/${identity.user}` : `${identity.kind}/${identity.name}`;
}

/** Writes a whole folder or nothing; an existing folder with anything in it stays as it is. */
async function writeNew(directory: string, files: Readonly<Record<string, string>>): Promise<void> {
  if (directory === "") throw new HpccError("argument.invalid", "the folder to write has an empty name");
  const target = resolve(directory);
  const staging = `${target}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await mkdir(dirname(target), { recursive: true });
    await mkdir(staging, { mode: 0o700 });
    for (const [name, content] of Object.entries(files)) {
      const mode = content.includes("PRIVATE KEY") ? 0o600 : 0o644;
      await writeFile(join(staging, name), content, { mode, flag: "wx", flush: true });
    }
    await rename(staging, target);
  } catch (error) {
    // What hinders this is what failed before, and is told.
    await rm(staging, { recursive: true, force: true }).catch(() => undefined);
    const { code, syscall } = error as NodeJS.ErrnoException;
    const isInTheWay = code === "ENOTEMPTY" || code === "EEXIST" || code === "ENOTDIR";
    if (isInTheWay && !existsSync(target))
      throw new HpccError("argument.invalid", `${dirname(target)} is no folder to put ${target} into`, {
        cause: error,
      });
    if (isInTheWay && syscall === "rename")
      throw new HpccError("argument.invalid", `${target} is there already; nothing was overwritten`, { cause: error });
    throw new HpccError("store.io", `cannot write ${target}: ${(error as Error).message}`, { cause: error });
  }
}
