// What the daemon knows of a project that is bound to an image: its view, its compilers, its namespaces.
import type { ByteString } from "../base/byte-string.ts";
import type { ClientConfig } from "../config/client.ts";
import type { ImageLocales } from "../core/compile/grammar/environment.ts";
import type { CompilerFamily } from "../core/compile/grammar/invocation.ts";
import type { View } from "../core/compile/view/view.ts";
import type { Digest } from "../core/digest/digest.ts";
import type { NamespaceRef } from "../wire/launcher/messages.ts";
import type { RunPlace } from "./run/run-place.ts";

export interface ImageCompiler {
  /** Absolute path in the image. */
  readonly path: ByteString;
  readonly family: CompilerFamily;
}

/** Where a project stands while it is compiled, on the client and in a guest alike. */
export interface ProjectPlace {
  /** `shared`: below `/hpcc`, the same for every checkout; `own`: at its own path. */
  readonly paths: "shared" | "own";
  readonly view: View;
  /** A call's folder, given by its host path, as the namespace shows it. */
  callFiles(folder: ByteString): ByteString;
  /** The kept namespace that shows the view, made when there is none. */
  namespace(): Promise<NamespaceRef>;
  /** The same with the image's headers stripped, for lists of files alone; null while there are none. */
  listingNamespace(): Promise<NamespaceRef | null>;
}

/** A project bound to an image that is here. */
export interface Project {
  /** Host path of its folder, links resolved. */
  readonly root: ByteString;
  readonly config: ClientConfig;
  readonly imageDigest: Digest;
  /** Of what the unpacked image holds; null where that cannot be told. */
  readonly imageContents: Digest | null;
  /** Host path of the unpacked image. */
  readonly imageRoot: ByteString;
  /** Names of the top-level entries that both namespaces take from the image. */
  readonly imageEntries: ReadonlySet<string>;
  readonly locales: ImageLocales;
  /** The image's PATH, for steps whose environment is not the caller's. */
  readonly searchPath: ByteString;
  /** Host path of a file of the image by its absolute path in it, links resolved; null when there is none. */
  imageFile(path: ByteString): ByteString | null;
  readonly places: {
    readonly shared: ProjectPlace;
    /** Null where the image has the folder that the project stands in. */
    readonly own: ProjectPlace | null;
  };
  /** Host path of the folder with the folders of calls. */
  readonly callFolder: ByteString;
  /** The image's compiler that stands at a path. */
  compilerAt(path: ByteString): ImageCompiler | null;
  /** The image's compiler for a name as called; null when the image has none of that name. */
  compiler(name: ByteString): ImageCompiler | null;
  /** The image's program for a name as called, one that is no compiler included; null when the image has none of that name. */
  program(name: ByteString): ByteString | null;
  /** The kept namespace for local compiles, made when there is none. */
  localNamespace(): Promise<NamespaceRef>;
  /** Where commands of `hpcc run` stand. */
  readonly run: RunPlace;
  /** Has launchers without a daemon give this compiler no prefix maps. */
  planWithoutMaps(compiler: ImageCompiler): Promise<void>;
  /** Makes a `local` namespace without a holder: the program and its arguments are put behind it. */
  readonly sandboxArgv: readonly ByteString[];
}
