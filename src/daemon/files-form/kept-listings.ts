// Lists of the files that calls read, kept for the next such call: with what they rest on unchanged, no compiler is asked again. In memory,
// bounded by bytes, packed: a list of a C++ file names hundreds of headers.
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { stepEnvironment } from "../../core/compile/grammar/environment.ts";
import { listingArgv, oneStepInjected } from "../../core/compile/grammar/gnu-one-step.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import type { PreparedCall } from "../call/prepared-call.ts";

export interface KeptListing {
  readonly names: readonly ByteString[];
  readonly dependencyText: ByteString | null;
  /** What the list rests on, as it was when it was made. */
  readonly basis: Digest;
}

interface Packed {
  readonly basis: Digest;
  readonly bytes: Buffer;
}

const OPTIONS = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** What an entry takes beside its bytes. */
const ENTRY_BYTES = 400;
const UNPACKED_BYTES_MAX = 64 * 1024 * 1024;

export class KeptListings {
  readonly #entries = new Map<Digest, Packed>();
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get(key: Digest): KeptListing | null {
    const packed = this.#entries.get(key);
    if (packed === undefined) return null;
    this.#entries.delete(key);
    this.#entries.set(key, packed);
    const text = zstdDecompressSync(packed.bytes, { maxOutputLength: UNPACKED_BYTES_MAX }).toString("latin1");
    const { names, dependencyText } = JSON.parse(text) as Omit<KeptListing, "basis">;
    return { names, dependencyText, basis: packed.basis };
  }

  set(key: Digest, { names, dependencyText }: Omit<KeptListing, "basis">, basis: Digest): void {
    this.#forget(key);
    const bytes = zstdCompressSync(Buffer.from(JSON.stringify({ names, dependencyText }), "latin1"), OPTIONS);
    this.#entries.set(key, { basis, bytes });
    this.#bytes += bytes.length + ENTRY_BYTES;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#forget(oldest);
    }
  }

  #forget(key: Digest): void {
    const packed = this.#entries.get(key);
    if (packed === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= packed.bytes.length + ENTRY_BYTES;
  }
}

/** All that a list depends on beside files. */
export function listingKey({ request, place, project, compiler }: PreparedCall): Digest {
  const { mapped, plan, includePaths } = request;
  const argv = listingArgv(mapped, {
    compiler: compiler.path,
    file: ascii("listing"),
    headers: "all",
    tree: false,
    injected: oneStepInjected({ family: compiler.family, ownPaths: place.paths === "own", pinned: true }),
  });
  const words = [
    project.imageDigest,
    project.root,
    place.paths,
    place.view.roots.map(({ host, guest }) => [host, guest]),
    argv,
    mapped.source,
    mapped.language,
    mapped.dependencies,
    stepEnvironment(plan, { includePaths }),
    [request.cwd, request.hostCwd, request.pwd],
  ];
  return sha256(Buffer.from(JSON.stringify(words), "latin1"));
}
