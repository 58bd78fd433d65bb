// The compilers of an image that a plan names, with the flags of a local compile: what a launcher without a daemon goes by.
// UNTRUSTED: names are the image's.
import { readdirSync } from "node:fs";
import { ascii, type ByteString, bytesOf } from "../base/byte-string.ts";
import type { ClientConfig } from "../config/client.ts";
import type { View } from "../core/compile/view/view.ts";
import { familyOfProgram, type ImageToolchain } from "../image/toolchain.ts";
import type { PlanCompiler } from "../wire/launcher/plan-file.ts";
import { localInjectedFlags } from "./tiers/local-answer.ts";

const PLAN_COMPILERS_LISTED_MAX = 256;

/** The first of each name on the image's PATH. */
export function plannedCompilers(
  config: ClientConfig,
  imageRoot: ByteString,
  toolchain: ImageToolchain,
  view: View,
): PlanCompiler[] {
  const compilers = new Map<string, PlanCompiler>();
  for (const folder of toolchain.folders)
    for (const name of listNames(`${imageRoot}${folder}` as ByteString)) {
      if (compilers.size >= PLAN_COMPILERS_LISTED_MAX || compilers.has(name)) continue;
      const compiler = familyOfProgram(name) === null ? null : toolchain.find(ascii(name));
      if (compiler === null) continue;
      const injected = localInjectedFlags(
        { view, paths: config.paths, determinism: config.determinism },
        compiler.family,
      );
      compilers.set(name, { name: ascii(name), path: compiler.path, arguments: injected });
    }
  return [...compilers.values()];
}

function listNames(folder: ByteString): string[] {
  try {
    return readdirSync(bytesOf(folder), "latin1").sort();
  } catch {
    return [];
  }
}
