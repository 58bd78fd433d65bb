// Runs every source of a folder through both ways of compiling, and counts. A program for developers and for the fidelity
// tests: `node test/fidelity/project-run.ts <folder> <glob of sources> -- <compiler> <flags>`.
import { cpSync, globSync } from "node:fs";
import { byteStringOfText, displayText } from "../../src/base/byte-string.ts";
import { PROJECT_ROOT } from "../../src/core/compile/view/view.ts";
import { type Compared, compareSteps } from "./compare.ts";
import { Sandbox } from "./sandbox.ts";

export interface ProjectCount {
  readonly equal: number;
  readonly warned: number;
  readonly failed: number;
  readonly refused: ReadonlyMap<string, number>;
  readonly different: readonly string[];
}

/** Compiles each source with the flags, both ways; `report` hears of each. */
export function runProject(
  folder: string,
  sources: readonly string[],
  command: readonly string[],
  report: (source: string, compared: Compared) => void = () => {},
): ProjectCount {
  using client = new Sandbox();
  using guest = new Sandbox();
  cpSync(folder, client.project, { recursive: true });
  let equal = 0;
  let warned = 0;
  let failed = 0;
  const refused = new Map<string, number>();
  const different: string[] = [];
  for (const source of sources) {
    const argv = [...command, "-c", source, "-o", source.replace(/\.\w+$/, ".o")].map(byteStringOfText);
    const compared = compareSteps({ argv, cwd: PROJECT_ROOT, locale: "C.UTF-8" }, client, guest);
    report(source, compared);
    if (compared.kind === "refused") refused.set(compared.reason, (refused.get(compared.reason) ?? 0) + 1);
    else if (compared.kind === "different") different.push(`${source}: ${compared.what.join(", ")}`);
    else {
      equal += 1;
      if (compared.outcome.exit !== 0) failed += 1;
      else if (compared.outcome.stderr.length > 0) warned += 1;
    }
  }
  return { equal, warned, failed, refused, different };
}

if (import.meta.main) {
  const [folder = ".", pattern = "**/*.c", , ...command] = process.argv.slice(2);
  const sources = globSync(pattern, { cwd: folder }).sort();
  const count = runProject(folder, sources, command, (source, compared) => {
    if (compared.kind === "equal") console.log(`= ${source} exit ${compared.outcome.exit}`);
    else if (compared.kind === "refused")
      console.log(`r ${source}: ${compared.reason}: ${displayText(compared.detail as never).slice(0, 400)}`);
    else {
      console.log(`! ${source}: ${compared.what.join(", ")}`);
      if (compared.what.includes("stderr")) {
        console.log(`--- one step\n${compared.oneStep.stderr.toString("utf8").slice(0, 3000)}`);
        console.log(`--- two steps\n${compared.twoStep.stderr.toString("utf8").slice(0, 3000)}`);
      }
    }
  });
  console.log(count);
}
