// The result manifest: what an execution left (docs/specs/manifest.md). One value has one encoding, and the decoder takes
// no other.
import { type Digest, sha256 } from "../digest/digest.ts";
import { OUTPUT_KINDS, OUTPUTS_MAX, type OutputKind } from "./action.ts";
import { FieldReader, FieldWriter } from "./fields.ts";

export interface BlobRef {
  /** Digest of the uncompressed bytes. */
  readonly digest: Digest;
  /** Uncompressed size in bytes. */
  readonly size: number;
}

export interface ResultOutput extends BlobRef {
  /** Index in `Action.outputs`. */
  readonly index: number;
  readonly kind: OutputKind;
  readonly executable: boolean;
}

export interface ResultManifest {
  /** 0 to 255; 128 plus the signal's number when a signal ended the compiler. */
  readonly exitCode: number;
  /** Outputs that are there, by growing index. */
  readonly outputs: readonly ResultOutput[];
  readonly stdout: BlobRef;
  readonly stderr: BlobRef;
}

const SCHEMA = "hpcc.result.v1";
const EXIT_CODE_MAX = 255;

export function encodeResultManifest(manifest: ResultManifest): Uint8Array {
  const fields = new FieldWriter().ascii(1, SCHEMA).u32(2, manifest.exitCode);
  for (const output of manifest.outputs)
    fields.record(3, (entry) =>
      entry
        .u32(1, output.index)
        .u32(2, OUTPUT_KINDS.numberOf(output.kind))
        .digest(3, output.digest)
        .u64(4, output.size)
        .u32(5, output.executable ? 1 : 0),
    );
  const blob = (ref: BlobRef) => (entry: FieldWriter) => void entry.digest(3, ref.digest).u64(4, ref.size);
  return fields.record(4, blob(manifest.stdout)).record(5, blob(manifest.stderr)).finish();
}

/** UNTRUSTED: stores. */
export function decodeResultManifest(bytes: Uint8Array): ResultManifest {
  const fields = new FieldReader(bytes, "the result manifest");
  if (fields.byteString(1) !== SCHEMA) fields.fail("has another schema");
  const exitCode = fields.u32(2);
  if (exitCode > EXIT_CODE_MAX) fields.fail("has an exit code above 255");
  const outputs: ResultOutput[] = [];
  while (fields.peek() === 3) {
    const output = fields.record(3, decodeOutput);
    if (output.index <= (outputs.at(-1)?.index ?? -1)) fields.fail("has outputs that are not in strict order");
    if (outputs.push(output) > OUTPUTS_MAX) fields.fail(`has more than ${OUTPUTS_MAX} outputs`);
  }
  const blob = (entry: FieldReader): BlobRef => ({ digest: entry.digest(3), size: entry.u64(4) });
  const manifest = { exitCode, outputs, stdout: fields.record(4, blob), stderr: fields.record(5, blob) };
  fields.end();
  return manifest;
}

/** Digest of a manifest's encoding. */
export function resultDigest(encoded: Uint8Array): Digest {
  return sha256(encoded);
}

/** The object of a result, whose digest is an audit row's output_digest. */
export function objectOf(manifest: ResultManifest): ResultOutput | null {
  return manifest.outputs.find((output) => output.kind === "object") ?? null;
}

function decodeOutput(fields: FieldReader): ResultOutput {
  const index = fields.u32(1);
  const kind = OUTPUT_KINDS.nameOf(fields.u32(2)) ?? fields.fail("has an output of no known kind");
  return {
    index,
    kind,
    digest: fields.digest(3),
    size: fields.u64(4),
    executable: fields.flag(5),
  };
}
