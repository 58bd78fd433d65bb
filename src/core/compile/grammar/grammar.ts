// The port behind which stands all that depends on a compiler's command line: what a call asks for, how its files are listed, what a
// guest runs, what is written. Its users know no compiler family.
import type { ByteString } from "../../../base/byte-string.ts";
import type { OutputKind } from "../../action/action.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import type { Dependencies } from "../view/dependency-file.ts";
import type { FailedCompile, FailedOutput } from "./gnu-failed-output.ts";
import type { NativeAnswer } from "./gnu-native.ts";
import type { InjectedOptions, ListingOptions, OneStepOptions } from "./gnu-one-step.ts";
import type { DependencyRequest, GnuInvocation, ParseResult } from "./invocation.ts";
import type { ReadResponseFile } from "./response-file.ts";

/** What a compiler does that decides what a guest must be given. */
export interface Habits {
  /** Files of equal content and time are one under `#pragma once`, and are listed once. */
  readonly readsEqualFilesOnce: boolean;
  /** Hard links to one file are one file. */
  readonly readsHardLinksOnce: boolean;
  /** Lines are quoted from the files that line directives name. */
  readonly quotesNamedFiles: boolean;
  /** System headers are listed by their real paths where these are shorter. */
  readonly listsRealPaths: boolean;
  /** Pragmas change predefined macros in a compile, and not in a list. */
  readonly pragmasChangeMacros: boolean;
  /** Names of precompiled headers that it reads beside headers. */
  readonly readsPrecompiled: RegExp;
  /** It checks them by what they were made of and with, and not by times that a guest has not. */
  readonly takesPrecompiled: boolean;
  /** SOURCE_DATE_EPOCH sets the date, and makes it an error where it holds none; else dates must be found in the texts. */
  readonly datesByEnvironment: boolean;
  /** Header that a compile includes before its source, unless that is assembler; null for none. */
  readonly includesFirst: ByteString | null;
  /** Another program assembles, and can list what it reads. */
  readonly assemblerLists: boolean;
  /** A file in the folder of `-isysroot` that the driver reads for some targets, and that no list names; null for none. */
  readonly describesRoot: ByteString | null;
  /** A file in place of an include folder may say where headers are. */
  readonly readsHeaderMaps: boolean;
  readonly driver: DriverHabits;
}

/** What a driver says of itself when it is asked, and where it finds its parts. */
export interface DriverHabits {
  /** It says by which name it was called, and finds its parts by that. */
  readonly saysItsName: boolean;
  /** It is the compiler proper, too. */
  readonly compilesItself: boolean;
  /** It looks below roots that it is named for folders to search, and does not say which it has not found. */
  readonly seeksRoots: boolean;
  /** Files that change what it does, where they are: beside the driver, or beside the compiler proper. */
  readonly setUpBy: { readonly beside: "driver" | "compiler"; readonly names: readonly ByteString[] };
}

/** Whose manner of writing an output has, by the names of the launcher protocol. */
export type WritingManner = "assembler" | "text" | "clang";

/** The list of the files that a call reads, as the compiler makes it. */
export interface ListingGrammar {
  argv(invocation: GnuInvocation, options: ListingOptions): ByteString[];
  /** Whether one list tells both all headers and those that are not the system's. */
  listsBoth(invocation: GnuInvocation): boolean;
  /** Whether the command line itself includes files. */
  hasForcedIncludes(invocation: GnuInvocation): boolean;
  /** Headers that the compiler named while it entered them. */
  entered(words: ByteString): ByteString[];
  /** Null when the list cannot be understood. */
  read(text: ByteString, request: DependencyRequest): Dependencies | null;
  /** The dependency file with other names; null when it cannot be understood. */
  rewrite(text: ByteString, request: DependencyRequest, map: (name: ByteString) => ByteString): ByteString | null;
}

/** Whether words of a text's compile must not be shown, and what its steps are given. */
export interface TextGrammar {
  refusal(invocation: GnuInvocation): BypassReason | null;
  injected(pinned: boolean): ByteString[];
  diagnosticsRefusal(invocation: GnuInvocation, stderr: ByteString): BypassReason | null;
}

/** Options that mean the processor which the compiler runs on. */
export interface NativeGrammar {
  /** The words that make the compiler say what they mean; null for a call without them. */
  question(invocation: GnuInvocation): ByteString[] | null;
  /** The call with the answer in their place; null where it cannot be told. */
  expand(invocation: GnuInvocation, answer: NativeAnswer): GnuInvocation | null;
}

export interface Grammar {
  /** Ends of the names of profiles that a call may seek in a folder. */
  profileNames(invocation: GnuInvocation): string[];
  readonly habits: Habits;
  readonly listing: ListingGrammar;
  readonly text: TextGrammar;
  readonly native: NativeGrammar;
  /** Reads a whole command line, argv[0] included. */
  parse(argv: readonly ByteString[], readResponseFile: ReadResponseFile): ParseResult;
  /** The call's own command line, for a guest. */
  oneStepArgv(invocation: GnuInvocation, options: OneStepOptions): ByteString[];
  /** What is added to it, and shown. */
  oneStepInjected(options: Omit<InjectedOptions, "family">): ByteString[];
  /** What is added to a compile on this machine whose outputs are to show these maps of paths. */
  localInjected(maps: readonly ByteString[]): ByteString[];
  manner(invocation: Pick<GnuInvocation, "produce">, kind: OutputKind): WritingManner;
  failedOutput(compile: FailedCompile): FailedOutput;
}
