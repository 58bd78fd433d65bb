// The plan file: what the launcher needs to run the project's real compiler without the daemon. One frame of type 64,
// written atomically by the daemon, one per project root, read by the launcher.
// UNTRUSTED: launcher (the decoder; the file lies in the user's own state folder)
import { createHash } from "node:crypto";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { absolute, decodeNamespace, parseFrame } from "./decode.ts";
import { namespaceFields } from "./encode.ts";
import { codingError, FieldReader, FieldWriter } from "./fields.ts";
import {
  FRAME_BYTES_MAX,
  ITEM_BYTES_MAX,
  PATH_BYTES_MAX,
  PLAN_COMPILERS_MAX,
  PROTOCOL_VERSION,
  TEXT_BYTES_MAX,
} from "./limits.ts";
import { type NamespaceRef, PLAN_TYPE } from "./messages.ts";

export interface PlanCompiler {
  /** What the caller writes: `gcc`, `x86_64-linux-gnu-g++-12`. */
  readonly name: ByteString;
  /** Absolute path in the image. */
  readonly path: ByteString;
  /** Put behind argv[0], ahead of the caller's arguments: flags that every compile of the project gets. */
  readonly arguments: readonly ByteString[];
}

/** A project without an image: the host's compiler is its real one. */
export interface HostPlan {
  readonly kind: "host";
  readonly projectRoot: ByteString;
}

/** A project bound to an image. */
export interface ImagePlan {
  readonly kind: "image";
  readonly projectRoot: ByteString;
  /** `sha256:<hex>` */
  readonly imageDigest: string;
  /** The kept `local` namespace; null when none was made. */
  readonly namespace: NamespaceRef | null;
  /** Makes such a namespace anew: the compiler's path and arguments are put behind it. */
  readonly sandboxArgv: readonly ByteString[];
  readonly compilers: readonly PlanCompiler[];
  /** `image`: no image, no compile. `host`: the host's compiler with a warning. */
  readonly fallback: "image" | "host";
}

export type Plan = HostPlan | ImagePlan;

/** Name of a project's plan file in `<state>/plans/`. */
export function planFileName(projectRoot: ByteString): string {
  return createHash("sha256").update(bytesOf(projectRoot)).digest("hex");
}

/** The bytes of a plan file. */
export function encodePlan(plan: Plan): Buffer {
  const fields = new FieldWriter().u32(1, PROTOCOL_VERSION).string(2, plan.projectRoot, PATH_BYTES_MAX);
  if (plan.kind === "host") return fields.frame(PLAN_TYPE);
  if (plan.compilers.length > PLAN_COMPILERS_MAX) throw codingError("value-limit", "PLAN, compilers");
  fields.text(3, plan.imageDigest, TEXT_BYTES_MAX);
  if (plan.namespace !== null) fields.group(4, namespaceFields(plan.namespace));
  const compilers = plan.compilers.map((compiler) =>
    new FieldWriter()
      .string(1, compiler.name, PATH_BYTES_MAX)
      .string(2, compiler.path, PATH_BYTES_MAX)
      .strings(3, compiler.arguments, ITEM_BYTES_MAX)
      .finish(),
  );
  return fields
    .strings(5, plan.sandboxArgv, ITEM_BYTES_MAX)
    .list(6, compilers, FRAME_BYTES_MAX)
    .u8(7, plan.fallback === "image" ? 0 : 1)
    .frame(PLAN_TYPE);
}

/** Decodes a plan file. Throws `peer.protocol` on anything that is none, or of another version. */
export function decodePlan(bytes: Uint8Array): Plan {
  const frame = parseFrame(bytes);
  if (frame.type !== PLAN_TYPE) throw codingError("type-unknown", `type ${frame.type}`);
  const fields = new FieldReader(frame.fields, "PLAN");
  if (fields.u32(1) !== PROTOCOL_VERSION) throw codingError("value-range", "PLAN, tag 1");
  const projectRoot = absolute(fields.string(2, PATH_BYTES_MAX));
  const imageDigest = fields.optionalText(3, TEXT_BYTES_MAX);
  if (imageDigest === null) {
    fields.end();
    return { kind: "host", projectRoot };
  }
  const namespace = decodeNamespace(fields.optionalGroup(4));
  const sandboxArgv = fields.strings(5, ITEM_BYTES_MAX);
  const compilers = fields.list(6, PLAN_COMPILERS_MAX, FRAME_BYTES_MAX).map(decodeCompiler);
  const fallback = fields.u8(7, 1) === 0 ? "image" : "host";
  fields.end();
  return { kind: "image", projectRoot, imageDigest, namespace, sandboxArgv, compilers, fallback };
}

function decodeCompiler(bytes: Uint8Array): PlanCompiler {
  const fields = new FieldReader(bytes, "PLAN, compiler");
  const compiler = {
    name: fields.string(1, PATH_BYTES_MAX),
    path: absolute(fields.string(2, PATH_BYTES_MAX)),
    arguments: fields.strings(3, ITEM_BYTES_MAX),
  };
  fields.end();
  return compiler;
}
