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
  PLAN_VERSION,
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

/** The project's configuration file as the plan was made from it: another content makes the plan void. */
export interface PlannedConfiguration {
  readonly path: ByteString;
  /** SHA-256 of its content, in hex; null when there was no such file. */
  readonly digest: string | null;
}

/** A project without an image: the host's compiler is its real one. */
export interface HostPlan {
  readonly kind: "host";
  readonly projectRoot: ByteString;
  readonly configuration: PlannedConfiguration;
}

/** What may run when neither a worker nor the image can be had, by its number in the file. */
const FALLBACK_NUMBERS = { image: 0, host: 1, none: 2 } as const;
type PlanFallback = keyof typeof FALLBACK_NUMBERS;

/** A project bound to an image. */
export interface ImagePlan {
  readonly kind: "image";
  readonly projectRoot: ByteString;
  readonly configuration: PlannedConfiguration;
  /** `sha256:<hex>` */
  readonly imageDigest: string;
  /** The kept `local` namespace; null when none was made. */
  readonly namespace: NamespaceRef | null;
  /** Makes such a namespace anew: the compiler's path and arguments are put behind it. */
  readonly sandboxArgv: readonly ByteString[];
  readonly compilers: readonly PlanCompiler[];
  /** `image`: no image, no compile. `host`: the host's compiler with a warning. `none`: nothing, as only workers compile. */
  readonly fallback: PlanFallback;
  /** Host path of the unpacked image. */
  readonly imageRoot: ByteString;
  /** Folders in the image in which it keeps its programs, in the order of its PATH. */
  readonly programFolders: readonly ByteString[];
}

export type Plan = HostPlan | ImagePlan;

/** Name of a project's plan file in `<state>/plans/`. */
export function planFileName(projectRoot: ByteString): string {
  return createHash("sha256").update(bytesOf(projectRoot)).digest("hex");
}

/** The bytes of a plan file. */
export function encodePlan(plan: Plan): Buffer {
  const { path, digest } = plan.configuration;
  const fields = new FieldWriter().u32(1, PLAN_VERSION).string(2, plan.projectRoot, PATH_BYTES_MAX);
  fields.string(3, path, PATH_BYTES_MAX);
  if (digest !== null) fields.text(4, digest, TEXT_BYTES_MAX);
  if (plan.kind === "host") return fields.frame(PLAN_TYPE);
  if (plan.compilers.length > PLAN_COMPILERS_MAX) throw codingError("value-limit", "PLAN, compilers");
  fields.text(5, plan.imageDigest, TEXT_BYTES_MAX);
  if (plan.namespace !== null) fields.group(6, namespaceFields(plan.namespace));
  const compilers = plan.compilers.map((compiler) =>
    new FieldWriter()
      .string(1, compiler.name, PATH_BYTES_MAX)
      .string(2, compiler.path, PATH_BYTES_MAX)
      .strings(3, compiler.arguments, ITEM_BYTES_MAX)
      .finish(),
  );
  return fields
    .strings(7, plan.sandboxArgv, ITEM_BYTES_MAX)
    .list(8, compilers, FRAME_BYTES_MAX)
    .u8(9, FALLBACK_NUMBERS[plan.fallback])
    .string(10, plan.imageRoot, PATH_BYTES_MAX)
    .strings(11, plan.programFolders, PATH_BYTES_MAX)
    .frame(PLAN_TYPE);
}

/** Decodes a plan file. Throws `peer.protocol` on anything that is none, or of another version. */
export function decodePlan(bytes: Uint8Array): Plan {
  const frame = parseFrame(bytes);
  if (frame.type !== PLAN_TYPE) throw codingError("type-unknown", `type ${frame.type}`);
  const fields = new FieldReader(frame.fields, "PLAN");
  if (fields.u32(1) !== PLAN_VERSION) throw codingError("value-range", "PLAN, tag 1");
  const projectRoot = absolute(fields.string(2, PATH_BYTES_MAX));
  const configuration = {
    path: absolute(fields.string(3, PATH_BYTES_MAX)),
    digest: fields.optionalText(4, TEXT_BYTES_MAX),
  };
  const imageDigest = fields.optionalText(5, TEXT_BYTES_MAX);
  if (imageDigest === null) {
    fields.end();
    return { kind: "host", projectRoot, configuration };
  }
  const plan: ImagePlan = {
    kind: "image",
    projectRoot,
    configuration,
    imageDigest,
    namespace: decodeNamespace(fields.optionalGroup(6)),
    sandboxArgv: fields.strings(7, ITEM_BYTES_MAX),
    compilers: fields.list(8, PLAN_COMPILERS_MAX, FRAME_BYTES_MAX).map(decodeCompiler),
    fallback: fallbackOf(fields.u8(9, 2)),
    imageRoot: absolute(fields.string(10, PATH_BYTES_MAX)),
    programFolders: fields.strings(11, PATH_BYTES_MAX),
  };
  fields.end();
  return plan;
}

function fallbackOf(number: number): PlanFallback {
  const names = Object.keys(FALLBACK_NUMBERS) as PlanFallback[];
  return names.find((name) => FALLBACK_NUMBERS[name] === number) ?? "image";
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
