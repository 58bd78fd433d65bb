// The compilers of an image that a plan names, with the flags of a local compile: what a launcher without a daemon goes by.
// UNTRUSTED: names are the image's.
import type { ClientConfig } from "../config/client.ts";
import type { View } from "../core/compile/view/view.ts";
import type { ImageToolchain, ListedCompiler } from "../image/toolchain.ts";
import type { PlanCompiler } from "../wire/launcher/plan-file.ts";
import { localInjectedFlags } from "./tiers/local-answer.ts";

const PLAN_COMPILERS_MAX = 256;
/** "/usr/lib/llvm-9/bin/clang", "/usr/bin/x86_64-linux-gnu-gcc-7", "/usr/bin/gcc-4.8.5". */
const VERSION = /(?:\/llvm-?([0-9]+)\/bin\/[^/]+|-([0-9]+)(?:\.[0-9.]+)?)$/;
/** The first versions that take a prefix map of files. */
const TAKES_MAPS: Readonly<Record<ListedCompiler["family"], number>> = { gcc: 8, clang: 10 };

/** Those on the image's PATH first. */
export function plannedCompilers(config: ClientConfig, toolchain: ImageToolchain, view: View): PlanCompiler[] {
  const compilers: PlanCompiler[] = [];
  for (const compiler of toolchain.all()) {
    if (compilers.length >= PLAN_COMPILERS_MAX) break;
    const { name, path, family } = compiler;
    const paths = isTooOldForMaps(compiler) ? "own" : config.paths;
    const policy = { view, paths, determinism: config.determinism };
    // No name without folders is a path.
    compilers.push({ name: name ?? path, path, arguments: localInjectedFlags(policy, family) });
  }
  return compilers;
}

/** By the version in its name, until the daemon has asked it; a name without one tells nothing. */
function isTooOldForMaps({ resolved, family }: ListedCompiler): boolean {
  const [, folder, name] = VERSION.exec(resolved) ?? [];
  const version = folder ?? name;
  return version !== undefined && Number(version) < TAKES_MAPS[family];
}
