// The compilers of an image that a plan names, with the flags of a local compile: what a launcher without a daemon goes by.
// UNTRUSTED: names are the image's.
import type { ClientConfig } from "../config/client.ts";
import type { View } from "../core/compile/view/view.ts";
import type { ImageToolchain } from "../image/toolchain.ts";
import type { PlanCompiler } from "../wire/launcher/plan-file.ts";
import { localInjectedFlags } from "./tiers/local-answer.ts";

const PLAN_COMPILERS_MAX = 256;

/** Those on the image's PATH first. */
export function plannedCompilers(config: ClientConfig, toolchain: ImageToolchain, view: View): PlanCompiler[] {
  const compilers: PlanCompiler[] = [];
  for (const { name, path, family } of toolchain.all()) {
    if (compilers.length >= PLAN_COMPILERS_MAX) break;
    const policy = { view, paths: config.paths, determinism: config.determinism };
    // No name without folders is a path.
    compilers.push({ name: name ?? path, path, arguments: localInjectedFlags(policy, family) });
  }
  return compilers;
}
