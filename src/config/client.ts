// The client's configuration (daemon and commands): user and machine files, and the project's hpcc.toml, which may only
// tune and name an image and a policy that the user allows.
import { type ByteString, byteStringOfText, bytesOf } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { DETERMINISM_POLICIES, type DeterminismPolicy } from "../core/action/action.ts";
import { type Digest, parseDigest } from "../core/digest/digest.ts";
import { type HostPort, parseHostPort } from "../core/identity/host-port.ts";
import type { RepositoryPattern } from "../core/image/repository-pattern.ts";
import type { TrustRule } from "../core/image/trust.ts";
import { ISOLATIONS, type Isolation } from "../core/isolation.ts";
import { type Directories, type Environment, resolveDirectories } from "./directories.ts";
import { type Loaded, loadConfig } from "./load.ts";
import { type ProjectImage, parseBoundImage, projectImage } from "./project-image.ts";
import { REPOSITORY, TRUST_RULE } from "./trust-rule.ts";
import { BOOLEAN, byteSize, integer, listOf, oneOf, optional, PATH, tableOf, text } from "./value.ts";

/** The project's configuration file, in its root. */
export const PROJECT_CONFIG = "hpcc.toml";

export const FALLBACKS = ["image", "host", "none"] as const;

/** What runs when a compile cannot be remote: the image's compiler, else the host's, or nothing (an error). */
export type Fallback = (typeof FALLBACKS)[number];

export const SOURCE_FORMS = ["files", "text"] as const;
export type SourceForm = (typeof SOURCE_FORMS)[number];

export const PATHS = ["shared", "own"] as const;
export type Paths = (typeof PATHS)[number];

const NESTED_PROJECTS = ["own", "outer"] as const;

export interface IdentityFiles {
  readonly certificate: string;
  readonly key: string;
  readonly ca: string;
}

export interface ClientConfig {
  /** False: never dial a scheduler or worker. */
  readonly remote: boolean;
  readonly schedulers: readonly HostPort[];
  /** Null when no certificate is configured: then nothing is remote. */
  readonly identity: IdentityFiles | null;
  readonly image: ProjectImage;
  /** Repositories that a project's image is pulled from without being asked for, beside those of `trust`; null where none are. */
  readonly pullFrom: readonly RepositoryPattern[] | null;
  /** Size of all images here at which the longest unused go. */
  readonly imageBytesMax: number;
  /** Whose signatures count for which repositories. */
  readonly trust: readonly TrustRule[];
  /** Whose image the projects below this one's folder are bound to: their own, or this outer one's. */
  readonly nestedProjects: (typeof NESTED_PROJECTS)[number];
  readonly fallback: Fallback;
  readonly determinism: DeterminismPolicy;
  /** What travels to a worker: the files that a call reads, or preprocessed text. */
  readonly sourceForm: SourceForm;
  /** Where the project stands while it is compiled: `shared` at one place for all checkouts, `own` at its own path. */
  readonly paths: Paths;
  readonly isolationMin: Isolation;
  /** Folders beside the project that compiles may see, at /hpcc/roots/<name>. */
  readonly extraRoots: readonly { readonly name: string; readonly host: ByteString }[];
  /** How long the daemon waits for a remote compile. */
  readonly deadlineMs: number;
  /** Remote jobs that the daemon keeps open at the same time. */
  readonly jobsMax: number;
  /** The user's own store of results on this machine. */
  readonly local: {
    readonly enabled: boolean;
    readonly sizeBytesMax: number;
    /** Whether launchers may answer calls from records of earlier ones. */
    readonly replay: boolean;
  };
  /** After how long without a call the daemon ends; 0 never. */
  readonly daemonIdleMs: number;
  readonly logLevel: "debug" | "info" | "warn" | "error";
}

const MEBIBYTE = 1024 ** 2;
const GIBIBYTE = 1024 ** 3;
const EXTRA_ROOT_NAME = {
  pattern: /^[a-z0-9][a-z0-9_-]{0,31}$/,
  rule: "1 to 32 of a-z, 0-9, '_' and '-', first a letter or digit",
};
const DIGEST = text('a digest, "sha256:" and 64 hex digits', (value) => parseDigest(value, "image"));
/** A digest, or a registry's name for an image, which hpcc.lock pins to one. */
const IMAGE = text(
  'a digest, "sha256:" and 64 hex digits, or a name with its registry, "registry.example.com/team/toolchain:12"',
  parseBoundImage,
);
const NO_ROOTS: ReadonlyMap<string, string> = new Map();
const NO_DIGESTS: readonly Digest[] = [];
const NO_RULES: readonly TrustRule[] = [];
const NO_REPOSITORIES: readonly RepositoryPattern[] = [];
const NO_ADDRESSES: readonly HostPort[] = [];

export const ADDRESS = text('"host:port"', parseHostPort);

export const CLIENT_SCHEMA = {
  remote: { kind: BOOLEAN, fallback: true, variable: "HPCC_REMOTE" },
  schedulers: { kind: listOf(ADDRESS), fallback: NO_ADDRESSES, variable: "HPCC_SCHEDULERS" },
  "identity.certificate": { kind: optional(PATH), fallback: null, variable: "HPCC_IDENTITY_CERTIFICATE" },
  "identity.key": { kind: optional(PATH), fallback: null, variable: "HPCC_IDENTITY_KEY" },
  "identity.ca": { kind: optional(PATH), fallback: null, variable: "HPCC_IDENTITY_CA" },
  image: { kind: optional(IMAGE), fallback: null, variable: "HPCC_IMAGE", project: true },
  nested_projects: {
    kind: oneOf(NESTED_PROJECTS),
    fallback: "own",
    variable: "HPCC_NESTED_PROJECTS",
    project: true,
  },
  "images.allowed": { kind: listOf(DIGEST), fallback: NO_DIGESTS, variable: "HPCC_IMAGES_ALLOWED" },
  "images.trust": { kind: listOf(TRUST_RULE), fallback: NO_RULES },
  "images.size_max": {
    kind: byteSize(GIBIBYTE, 1024 ** 5),
    fallback: 30 * GIBIBYTE,
    variable: "HPCC_IMAGES_SIZE_MAX",
  },
  "images.pull": { kind: BOOLEAN, fallback: true, variable: "HPCC_IMAGES_PULL" },
  "images.repositories": { kind: listOf(REPOSITORY), fallback: NO_REPOSITORIES },
  fallback: { kind: oneOf(FALLBACKS), fallback: "image", variable: "HPCC_FALLBACK" },
  determinism: {
    kind: oneOf(DETERMINISM_POLICIES.names),
    fallback: "default",
    variable: "HPCC_DETERMINISM",
    project: true,
  },
  policies_allowed: {
    kind: listOf(oneOf(DETERMINISM_POLICIES.names)),
    fallback: DETERMINISM_POLICIES.names,
    variable: "HPCC_POLICIES_ALLOWED",
  },
  source_form: { kind: oneOf(SOURCE_FORMS), fallback: "files", variable: "HPCC_SOURCE_FORM" },
  paths: { kind: oneOf(PATHS), fallback: "shared", variable: "HPCC_PATHS", project: true },
  isolation_min: { kind: oneOf(ISOLATIONS), fallback: "qemu-kvm", variable: "HPCC_ISOLATION_MIN" },
  extra_roots: { kind: tableOf(EXTRA_ROOT_NAME, PATH), fallback: NO_ROOTS, variable: "HPCC_EXTRA_ROOTS" },
  "limits.deadline_ms": {
    kind: integer(1_000, 3_600_000),
    fallback: 300_000,
    variable: "HPCC_DEADLINE_MS",
    project: true,
  },
  "limits.jobs_max": { kind: integer(1, 1_000), fallback: 256, variable: "HPCC_JOBS_MAX", project: true },
  "local.enabled": { kind: BOOLEAN, fallback: true, variable: "HPCC_LOCAL" },
  "local.replay": { kind: BOOLEAN, fallback: true, variable: "HPCC_LOCAL_REPLAY" },
  "local.size_max": { kind: byteSize(MEBIBYTE, 1024 ** 5), fallback: 5 * 1024 ** 3, variable: "HPCC_LOCAL_SIZE_MAX" },
  "daemon.idle_ms": { kind: integer(0, 86_400_000), fallback: 3_600_000, variable: "HPCC_DAEMON_IDLE_MS" },
  "daemon.log_level": {
    kind: oneOf(["debug", "info", "warn", "error"]),
    fallback: "info",
    variable: "HPCC_LOG_LEVEL",
  },
} as const;

export interface ClientConfigInput {
  readonly env: Environment;
  /** The project's root, links resolved; null outside of any project. */
  readonly projectRoot: ByteString | null;
  /** Values of flags, by key. */
  readonly flags?: Readonly<Record<string, string>>;
  /** For tests; else resolved from `env`. */
  readonly directories?: Directories;
}

export interface LoadedClientConfig {
  readonly config: ClientConfig;
  /** Every value as it was set, and where; for `hpcc config show`. */
  readonly loaded: Loaded<typeof CLIENT_SCHEMA>;
}

/** Reads the client's configuration for one project. Throws `config.invalid`, naming file and key. */
export function loadClientConfig(input: ClientConfigInput): LoadedClientConfig {
  const directories = input.directories ?? resolveDirectories(input.env, process.getuid?.() ?? 0);
  const loaded = loadConfig(CLIENT_SCHEMA, {
    flags: input.flags ?? {},
    env: input.env,
    files: [
      ...(input.projectRoot === null
        ? []
        : [
            {
              source: "project",
              path: Buffer.concat([bytesOf(input.projectRoot), Buffer.from(`/${PROJECT_CONFIG}`)]),
            } as const,
          ]),
      { source: "user", path: directories.userConfig, required: (input.env["HPCC_CONFIG"] ?? "") !== "" },
      { source: "system", path: directories.systemConfig },
    ],
  });
  const { values, origins } = loaded;
  const image = projectImage({
    image: values.image,
    byProject: origins.image.source === "project",
    allowed: values["images.allowed"],
    trust: values["images.trust"],
    pullFrom: pullFrom(values),
    projectRoot: input.projectRoot,
    imageFolder: directories.images,
  });
  return { config: toConfig(loaded, image), loaded };
}

function pullFrom(values: Loaded<typeof CLIENT_SCHEMA>["values"]): readonly RepositoryPattern[] | null {
  return values["images.pull"] ? values["images.repositories"] : null;
}

function toConfig(loaded: Loaded<typeof CLIENT_SCHEMA>, image: ProjectImage): ClientConfig {
  const { values, origins } = loaded;
  if (origins.determinism.source === "project" && !values.policies_allowed.includes(values.determinism))
    throw new HpccError(
      "config.invalid",
      `${origins.determinism.where}: determinism ${values.determinism} is not in the user's policies_allowed`,
    );
  return {
    remote: values.remote,
    schedulers: values.schedulers,
    identity: identityFiles(values["identity.certificate"], values["identity.key"], values["identity.ca"]),
    image,
    trust: values["images.trust"],
    pullFrom: pullFrom(values),
    imageBytesMax: values["images.size_max"],
    nestedProjects: values.nested_projects,
    fallback: values.fallback,
    determinism: values.determinism,
    sourceForm: values.source_form,
    paths: values.paths,
    isolationMin: values.isolation_min,
    extraRoots: [...values.extra_roots].map(([name, path]) => ({ name, host: byteStringOfText(path) })),
    deadlineMs: values["limits.deadline_ms"],
    jobsMax: values["limits.jobs_max"],
    local: {
      enabled: values["local.enabled"],
      sizeBytesMax: values["local.size_max"],
      replay: values["local.replay"],
    },
    daemonIdleMs: values["daemon.idle_ms"],
    logLevel: values["daemon.log_level"],
  };
}

/** The three files of an identity; all or none. */
export function identityFiles(certificate: string | null, key: string | null, ca: string | null): IdentityFiles | null {
  if (certificate === null && key === null && ca === null) return null;
  if (certificate === null || key === null || ca === null)
    throw new HpccError("config.invalid", "identity.certificate, identity.key and identity.ca must be set together");
  return { certificate, key, ca };
}
