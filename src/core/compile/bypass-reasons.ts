// The closed list of reasons why a call is compiled locally, in the image, rather than remotely. Each is counted and shown by
// `hpcc stats`; names follow ccache's statistics where it has one. docs/bypass-reasons.md is checked against this list.

export const BYPASS_REASONS = {
  // What the call asks for.
  bad_compiler_arguments: "The command line is one that the compiler itself would refuse or complain about.",
  bad_output_file: "The output or the dependency file is a device, a folder or otherwise not a plain file.",
  called_for_link: "The call links; it has neither `-c` nor `-S`.",
  called_for_preprocessing: "The call only preprocesses or lists dependencies (`-E`, `-M`, `-MM`).",
  compiler_query: "The call asks about the compiler (`--version`, `-v`, `-###`, `-print-*`, `-dump*`).",
  compiler_report: "The compiler would report on its own work, in figures that change (`-ftime-report`, `-Q`).",
  multiple_source_files: "The call names more than one input file.",
  no_input_file: "The call names no source file.",
  output_to_stdout: "The output or the dependency file goes to standard output.",
  standard_input: "The source comes from standard input, or is `/dev/null` or the like.",
  syntax_only: "The call only checks syntax (`-fsyntax-only`), so there is nothing to keep.",
  // Languages and inputs.
  assembler_source: "Text form only: the source is assembler; preprocessing does not see its `.include` and `.incbin`.",
  could_not_use_modules: "The call makes or uses C++ modules, header units or Clang modules.",
  could_not_use_precompiled_header:
    "The call makes a precompiled header, of which GCC writes no two alike, or uses one of Clang, which checks times that a guest has not; in the text form, any.",
  extra_input_file:
    "The call names a further input that is not followed (overlays, embedded files, header maps, `/dev/fd/3`).",
  hard_linked_input: "Clang reads one file by two names that are hard links, which it takes for one file.",
  preprocessed_source: "Text form only: the source is preprocessed text already.",
  profile_guided:
    "The call uses an execution profile that no option names (`-fprofile-use` alone), or, in the text form, any.",
  unsupported_code_directive:
    "A file is read whose name only the compiler can tell (a computed `.incbin`, `__has_include` or `#line`, `#pragma GCC dependency`).",
  unsupported_response_file:
    "A response file that compilers read differently, that is nested too deep, or that only the caller can read (`/dev/fd/3`).",
  unsupported_source_encoding:
    "The source's character set is one in which bytes of ASCII are other signs (`-finput-charset`), or, in the text form, any but UTF-8.",
  unsupported_source_language: "The source is not C or C++.",
  // Options.
  debug_file_checksums:
    "Text form only: Clang's DWARF 5 holds digests of the source files, which only one step sees (`-gdwarf-4` has none).",
  diagnostics_format:
    "Diagnostics are asked for in a format that is written to a file, or, in the text form, in any machine format.",
  macro_debug_info: "Text form only: debug information holds macros (`-g3`), which preprocessed text no longer has.",
  native_architecture:
    "What `-march=native` means cannot be told, or GCC's object would show its options in another order (`-g`, `-flto` at own paths).",
  preprocessing_control:
    "An option changes what preprocessing is (`-fpreprocessed`, `-remap`), or, in the text form, its text (`-C`).",
  recorded_switches: "The command line itself is recorded in the object.",
  side_outputs:
    "The call writes files whose names hpcc cannot tell, or that hold the command line (`-MJ`), or, in the text form, any besides the object.",
  traditional_preprocessing: "Text form only: `-traditional-cpp` has no form of preprocessing that hides nothing.",
  unsupported_compiler_option: "An option that is not on the list of understood options.",
  unused_macros_warning: "Text form only: `-Wunused-macros` needs the definitions that preprocessing has consumed.",
  // Surroundings.
  unsupported_environment_variable: "The environment holds a variable that changes what the compiler does.",
  unsupported_locale: "The locale of messages is neither C nor C.UTF-8.",
  outside_view: "A path leads to neither the project, nor its extra roots, nor the image.",
  no_image: "The project is bound to no image.",
  image_unusable: "The project's image is not here, is not allowed, or cannot be used.",
  image_fetching: "The project's image is on its way to the worker, or to this machine.",
  compiler_not_in_image: "The image has no compiler of that name.",
  own_program:
    "The compiler is called by a path outside of the image's folders: a wrapper or a toolchain of the caller's own.",
  unknown_driver:
    "The image's program of that name is a script or a driver that hpcc does not know (`c99`, `cpp`); it runs as it is.",
  mount_namespace: "The call comes from another mount namespace than the daemon's, where paths may mean other files.",
  unknown_compiler:
    "Without an image: the compiler is neither GCC nor Clang itself (a script, another cache's link), or what it is made of cannot be told.",
  terminal_diagnostics:
    "Without an image: the compiler speaks to a terminal, and none could be made in which to listen to it.",
  overlapping_outputs: "Without an image: another call wrote the same file at the same time, or just before.",
  storage_unavailable:
    "Without a worker: hpcc's own folders could not be read or written (a full disk, permissions, a folder that was removed).",
  // The preprocessing step.
  date_time_macro: "The source uses `__DATE__`, `__TIME__` or `__TIMESTAMP__`.",
  modified_input_file: "A file changed while it was read.",
  preprocessor_error:
    "Preprocessing failed: over a missing file, in a call with a dependency file or forced includes, or in the text form in any way.",
  preprocessor_output: "Text form only: preprocessing had something to say, which a one-step compile would say once.",
  unfaithful_preprocessing:
    "Text form only: the text uses what only a one-step compile keeps (`__INCLUDE_LEVEL__`, `__BASE_FILE__` ...).",
  source_too_large: "The sources are larger than hpcc sends.",
  unsupported_dependency_file: "The dependency file has a form that cannot be mapped (a line end in a name).",
  // The remote step.
  guest_paths_in_output:
    "An output would hold the view's paths, and the project cannot stand at its own path in a guest; or it has code for another device (`-fopenmp`, `-fopenacc`), which may hold them unseen.",
  unfaithful_diagnostics:
    "Text form only: the remote compile's words would differ from a one-step compile's (docs/fidelity.md).",
  compile_failed:
    "The remote compile ended by a signal, a crash or a missing file, in an error that leaves files behind, or in the text form in any error; the local one has the last word. Without an image: the compile failed, and failures are not kept.",
  remote_failed: "The worker could not carry out the compile: it is over a limit, or the worker has a fault.",
  remote_unavailable: "No worker could be reached in time.",
  internal_error: "A fault of hpcc itself; its log says which.",
} as const satisfies Record<string, string>;

/** A reason of the closed list. */
export type BypassReason = keyof typeof BYPASS_REASONS;
