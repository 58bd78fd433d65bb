// Runs the corpus both ways on one machine: `node test/fidelity/corpus-run.ts [substring]` prints what each case comes to.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import type { ByteString } from "../../src/base/byte-string.ts";
import { PROJECT_ROOT } from "../../src/core/compile/view/view.ts";
import { type CorpusCase, corpusCases, ROOT } from "../corpus/cases.ts";
import { type Compared, compareSteps } from "./compare.ts";
import { Sandbox } from "./sandbox.ts";

/** Puts a case's files into an emptied project and compares both ways of compiling it. */
export function runCase(entry: CorpusCase, client: Sandbox, guest: Sandbox): Compared {
  rmSync(client.project, { recursive: true, force: true });
  mkdirSync(client.project, { recursive: true });
  for (const file of entry.files) {
    const path = `${PROJECT_ROOT}/${file.path}`;
    mkdirSync(client.hostPath(path.slice(0, path.lastIndexOf("/")) as ByteString), { recursive: true });
    writeFileSync(client.hostPath(path as ByteString), file.bytes);
  }
  const argv = entry.argv.map((word) => word.replaceAll(ROOT, PROJECT_ROOT) as ByteString);
  const cwd = (entry.cwd === "" ? PROJECT_ROOT : `${PROJECT_ROOT}/${entry.cwd}`) as ByteString;
  return compareSteps({ argv, cwd, locale: "C.UTF-8" }, client, guest);
}

/** What a comparison came to, in the terms of the corpus's expectations. */
export function verdict(compared: Compared): string {
  if (compared.kind === "refused") return compared.reason;
  if (compared.kind === "equal") return "equal";
  const exits = compared.what.includes("exit");
  return exits || !compared.what.includes("object") ? "listed" : "object";
}

if (import.meta.main) {
  using client = new Sandbox();
  using guest = new Sandbox();
  const counts = new Map<string, number>();
  for (const entry of corpusCases()) {
    if (!entry.name.includes(process.argv[2] ?? "")) continue;
    const compared = runCase(entry, client, guest);
    counts.set(compared.kind, (counts.get(compared.kind) ?? 0) + 1);
    const outcome = compared.kind === "equal" ? compared.outcome : compared.oneStep;
    const detail = compared.kind === "refused" ? `: ${compared.detail.slice(0, 200)}` : "";
    const wrong = verdict(compared) === entry.text ? "  " : "!!";
    const silent = outcome.stderr.length > 0 === entry.speaks ? "" : " SPEECH";
    console.log(`${wrong} ${entry.name}: ${verdict(compared)}${detail} (exit ${outcome.exit})${silent}`);
    if (process.argv[2] === undefined || compared.kind !== "different") continue;
    console.log(`--- one step\n${compared.oneStep.stderr.toString("utf8")}`);
    console.log(`--- two steps\n${compared.twoStep.stderr.toString("utf8")}`);
  }
  console.log(counts);
}
