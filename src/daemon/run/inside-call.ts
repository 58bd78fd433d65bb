// A compile of a command of `hpcc run`: such a call means the same as one from outside, but for the path by which it names its compiler.
import type { LauncherCall } from "../control/launcher-connection.ts";
import type { Project } from "../project.ts";
import type { ProjectState, RunNamespace } from "../project-registry.ts";

/**
 * The call as one of the project; null from a namespace that is not its own any more: of an earlier daemon, or of the image that the
 * project had then.
 */
export function insideCall(call: LauncherCall, state: ProjectState, run: RunNamespace | null): LauncherCall | null {
  if (state.kind === "unusable") return call;
  if (run === null || state.kind === "unbound" || state.project.imageDigest !== run.imageDigest) return null;
  const { message } = call;
  const [name, ...words] = message.argv;
  return { ...call, message: { ...message, argv: [wordOf(name!, state.project), ...words] } };
}

function wordOf(name: LauncherCall["message"]["cwd"], { run }: Pick<Project, "run">): typeof name {
  return name.startsWith("/") ? run.word(name) : name;
}
