// What a person can do about calls whose results are not kept, by reason; reasons about which nothing need be done are left out, and so are those
// whose own words say it all.
import type { BypassReason } from "../compile/bypass-reasons.ts";

const NOTHING = "Nothing to do: such calls are never kept.";

const ADVICE: Readonly<Partial<Record<BypassReason, string>>> = {
  called_for_link: NOTHING,
  called_for_preprocessing: NOTHING,
  compiler_query: NOTHING,
  syntax_only: NOTHING,
  no_input_file: NOTHING,
  standard_input:
    "Mostly a test of a build, of what the compiler understands. Write the source to a file to have it kept.",
  output_to_stdout: "Write the output to a file with -o.",
  multiple_source_files: "Compile one source per call, with -c.",
  compile_failed: "Failures are not kept; the compiler's own words say what is wrong.",
  compiler_report: "Leave the option out of builds that need no such report.",
  could_not_use_modules: "Modules are compiled locally; keep them in files of their own.",
  could_not_use_precompiled_header: "Build without precompiled headers (CMake: CMAKE_DISABLE_PRECOMPILE_HEADERS=ON).",
  date_time_macro: "Keep the date in one small source, or take it from the build system with -D.",
  debug_file_checksums: 'Add -gdwarf-4, or use source_form = "files".',
  diagnostics_format: "Leave the format of diagnostics out, or let it go to stderr.",
  native_architecture: "Name the processor, as in -march=x86-64-v3.",
  recorded_switches: "Leave the option out that records them, such as -frecord-gcc-switches.",
  side_outputs: "Leave the option out that writes further files, or name them the compiler's own way.",
  unsupported_compiler_option:
    'Run with daemon.log_level = "debug" to see the option; leave it out if it does nothing for you.',
  unsupported_environment_variable: "Unset the variable for the build.",
  unsupported_locale: "Build with LC_ALL=C.UTF-8.",
  unsupported_response_file: "Pass the words on the command line, or one flat response file.",
  outside_view: "Name the folder in [extra_roots] of your configuration.",
  no_image: "Set local.enabled = true, or bind the project to an image in hpcc.toml.",
  image_unusable: "Run `hpcc doctor` in the project's folder.",
  image_fetching: "Wait a little; `hpcc doctor` shows how far it is.",
  compiler_not_in_image: "Build the image with that compiler: `hpcc image build --from-host --compiler NAME`.",
  own_program: "Call the image's compiler by its name.",
  unknown_driver: "Call gcc, g++, clang or clang++ itself.",
  unknown_compiler: "Name GCC or Clang itself in CC, not a script or another cache's link.",
  mount_namespace: "Start the build outside of the container or sandbox, or run a daemon inside of it.",
  terminal_diagnostics:
    "See that /dev/ptmx and /dev/pts are there, or let the build tool collect the words (ninja, `make -O`).",
  overlapping_outputs: "Let no two calls of a build write one file.",
  storage_unavailable: "Run `hpcc doctor`: it tells which folder is full or cannot be written.",
  modified_input_file: "Files were written while they were compiled; building again keeps the result.",
  source_too_large: "Such a source is compiled locally; nothing is wrong.",
  remote_failed: "Look at the worker's log; its limits are in [execution] of its configuration.",
  remote_unavailable: "Run `hpcc doctor`: it tells which scheduler or worker does not answer.",
  internal_error: "Look at ~/.local/state/hpcc/daemon.log, and report what it says.",
};

/** Null where nothing is known that would help. */
export function adviceFor(reason: string): string | null {
  return Object.hasOwn(ADVICE, reason) ? (ADVICE[reason as BypassReason] ?? null) : null;
}
