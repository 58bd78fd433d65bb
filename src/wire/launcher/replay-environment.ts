// Which environment variables are part of a replay record's name: those on which a compile, or what is decided of it, may depend. What is not
// named here must be unable to change either (docs/specs/replay.md). The Rust crate `hpcc-frames` holds the same lists.
import type { ByteString } from "../../base/byte-string.ts";

/** In the order of their bytes. */
export const REPLAY_VARIABLES = [
  "AS_SECURE_LOG_FILE",
  "BASH_ENV",
  "CHARSET",
  "CL",
  "CLICOLOR",
  "CLICOLOR_FORCE",
  "COLORTERM",
  "COLUMNS",
  "COMPILER_PATH",
  "CPATH",
  "CXX_MODULE_MAPPER",
  "DEPENDENCIES_OUTPUT",
  "ENV",
  "EXPERIMENTAL_SARIF_SOCKET",
  "EXTERNAL_INCLUDE",
  "FORCE_COLOR",
  "GCONV_PATH",
  "GLIBC_TUNABLES",
  "GNUTARGET",
  "HOME",
  "ICCCFG",
  "ICPCCFG",
  "ICPXCFG",
  "ICXCFG",
  "INCLUDE",
  "LANG",
  "LANGUAGE",
  "LDEMULATION",
  "LIB",
  "LIBPATH",
  "LIBRARY_PATH",
  "LINES",
  "LOCPATH",
  "LPATH",
  "NLSPATH",
  "NO_COLOR",
  "OBJECT_MODE",
  "OUTPUT_CHARSET",
  "PATH",
  "POSIXLY_CORRECT",
  "PWD",
  "QA_OVERRIDE_GCC3_OPTIONS",
  "SCE_ORBIS_SDK_DIR",
  "SCE_PROSPERO_SDK_DIR",
  "SDKROOT",
  "SOURCE_DATE_EPOCH",
  "SUNPRO_DEPENDENCIES",
  "SUNPRO_OUTPUT",
  "TEMP",
  "TERM",
  "TERM_PROGRAM",
  "TERM_PROGRAM_VERSION",
  "TERM_URLS",
  "TMP",
  "TMPDIR",
  "TZ",
  "TZDIR",
  "UNICODE_VERSION",
  "VTE_VERSION",
  "XDG_CACHE_HOME",
  "XDG_CONFIG_DIRS",
  "XDG_CONFIG_HOME",
  "XDG_DATA_DIRS",
  "XDG_DATA_HOME",
  "XDG_RUNTIME_DIR",
  "XDG_STATE_HOME",
  "ZERO_AR_DATE",
  "_CL_",
  "_LINK_",
  "_PYTHON_HOST_PLATFORM",
] as const;

export const REPLAY_VARIABLE_PREFIXES = [
  "CCACHE_",
  "CCC_",
  "CC_LOG_",
  "CC_PRINT_",
  "CLANG_",
  "COLLECT_",
  "COLORGCC",
  "DEB_BUILD_",
  "DISTCC_",
  "EMCC_",
  "EM_",
  "FAKED_",
  "FAKEROOT",
  "FORCE_CLANG_",
  "GCC_",
  "GXX_",
  "HPCC_",
  "ICECC_",
  "LC_",
  "LD_",
  "LIBCLANG_",
  "LLVM_",
  "MALLOC_",
  "NIX_",
  "NVCC_",
  "PERL5",
  "PYTHON",
  "RC_DEBUG_",
  "SCCACHE_",
  "VSCMD_",
] as const;

export const REPLAY_VARIABLE_SUFFIXES = ["SAN_OPTIONS", "_DEPLOYMENT_TARGET", "_INCLUDE_PATH"] as const;

/** Of these prefixes, and yet no part: the name of a build is for the audit log alone. */
export const REPLAY_VARIABLES_APART = ["HPCC_BUILD_ID"] as const;

const NAMES: ReadonlySet<string> = new Set(REPLAY_VARIABLES);
const APART: ReadonlySet<string> = new Set(REPLAY_VARIABLES_APART);

/** The name within an entry: all of it when there is no `=`. */
export function variableName(entry: ByteString): ByteString {
  return entry.split("=", 1)[0] as ByteString;
}

/** Whether a variable of this name is part of a record's name. */
export function countsForReplay(name: string): boolean {
  if (APART.has(name)) return false;
  return (
    NAMES.has(name) ||
    REPLAY_VARIABLE_PREFIXES.some((prefix) => name.startsWith(prefix)) ||
    REPLAY_VARIABLE_SUFFIXES.some((suffix) => name.endsWith(suffix))
  );
}
