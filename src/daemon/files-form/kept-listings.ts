// Lists of the files that calls read, kept for the next such call: with what they rest on unchanged, no compiler is asked again. In memory,
// bounded by bytes, packed, as a list of a C++ file names hundreds of headers; and in the local store, for the next daemon.
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import type { Logger } from "../../base/log.ts";
import { FieldReader, FieldWriter } from "../../core/action/fields.ts";
import { stepEnvironment } from "../../core/compile/grammar/environment.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import type { LocalStore } from "../../store/local/local-store.ts";
import type { PreparedCall } from "../call/prepared-call.ts";

export interface KeptListing {
  readonly names: readonly ByteString[];
  readonly dependencyText: ByteString | null;
  /** What the list rests on, as it was when it was made. */
  readonly basis: Digest;
}

interface Packed {
  readonly basis: Digest;
  /** What is written to the local store, too. */
  readonly bytes: Uint8Array;
}

export interface ListingRecords {
  readonly store: LocalStore;
  readonly logger: Logger;
}

/** Changes with what is in a record. */
const SCHEMA = "hpcc.list.v1";
const OPTIONS = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** What an entry takes beside its bytes. */
const ENTRY_BYTES = 400;
const UNPACKED_BYTES_MAX = 64 * 1024 * 1024;

export class KeptListings {
  readonly #entries = new Map<Digest, Packed>();
  readonly #bytesMax: number;
  readonly #records: ListingRecords | null;
  #bytes = 0;

  /** `records`: where lists outlive the daemon. */
  constructor(bytesMax: number, records: ListingRecords | null = null) {
    this.#bytesMax = bytesMax;
    this.#records = records;
  }

  async get(key: Digest): Promise<KeptListing | null> {
    const packed = this.#entries.get(key);
    const bytes = packed?.bytes ?? (await this.#recorded(key));
    const listing = bytes === null ? null : unpack(bytes);
    if (listing !== null) this.#keep(key, { basis: listing.basis, bytes: bytes! });
    return listing;
  }

  /** `project`: whose call it was. */
  set(key: Digest, listing: KeptListing, project: ByteString): void {
    const known = this.#entries.get(key);
    if (known?.basis === listing.basis) return;
    const bytes = pack(listing);
    this.#keep(key, { basis: listing.basis, bytes });
    if (this.#records === null) return;
    const { store, logger } = this.#records;
    store
      .writeRecord(recordKey(key), bytes, project, [])
      .catch((error: unknown) => logger.debug("list.not_recorded", { error: String(error) }));
  }

  async #recorded(key: Digest): Promise<Uint8Array | null> {
    if (this.#records === null) return null;
    const { store, logger } = this.#records;
    try {
      return await store.readRecord(recordKey(key));
    } catch (error) {
      logger.debug("list.not_read", { error: String(error) });
      return null;
    }
  }

  #keep(key: Digest, packed: Packed): void {
    this.#forget(key);
    this.#entries.set(key, packed);
    this.#bytes += packed.bytes.length + ENTRY_BYTES;
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

/** Records of the local store are of several kinds: each has keys of its own. */
function recordKey(key: Digest): Digest {
  return sha256(new FieldWriter().ascii(1, SCHEMA).digest(2, key).finish());
}

function pack({ names, dependencyText, basis }: KeptListing): Uint8Array {
  const fields = new FieldWriter().ascii(1, SCHEMA).digest(2, basis);
  if (dependencyText !== null) fields.byteString(3, dependencyText);
  for (const name of names) fields.byteString(4, name);
  return zstdCompressSync(fields.finish(), OPTIONS);
}

/** UNTRUSTED: whoever can write the user's cache folder. Null for what is no list. */
function unpack(bytes: Uint8Array): KeptListing | null {
  try {
    const fields = new FieldReader(zstdDecompressSync(bytes, { maxOutputLength: UNPACKED_BYTES_MAX }), "the list");
    if (fields.byteString(1) !== SCHEMA) return null;
    const basis = fields.digest(2);
    const dependencyText = fields.peek() === 3 ? fields.byteString(3) : null;
    const names: ByteString[] = [];
    while (fields.peek() !== null) names.push(fields.byteString(4));
    if (names.some((name) => name === "" || name.includes("\0"))) return null;
    return { names, dependencyText, basis };
  } catch {
    return null;
  }
}

/** All that a list depends on beside files. */
export function listingKey({ request, place, project, compiler }: PreparedCall): Digest {
  const { mapped, plan, includePaths } = request;
  const grammar = grammarOf(compiler);
  const argv = grammar.listing.argv(mapped, {
    compiler: compiler.path,
    file: ascii("listing"),
    headers: "all",
    tree: false,
    injected: grammar.oneStepInjected({ ownPaths: place.paths === "own", pinned: true }),
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
