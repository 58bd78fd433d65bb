// The name of a build, as a client gives it: rows of one build are found by it. It is a client's word and proves nothing. Pure.

export type BuildId = string & { readonly __brand: "BuildId" };

/** Longest name in characters, which are bytes. */
export const BUILD_ID_LENGTH_MAX = 128;

/** A variable of the caller's environment that names the build. */
export const BUILD_ID_VARIABLE = "HPCC_BUILD_ID";

const BUILD_ID = new RegExp(`^[ -~]{1,${BUILD_ID_LENGTH_MAX}}$`);

/** UNTRUSTED: whoever calls a compiler, a client, a log. */
export function isBuildId(text: string): text is BuildId {
  return BUILD_ID.test(text);
}
