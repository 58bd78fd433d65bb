// A call that was read and may be compiled on a worker: what a source form makes a job of.
import type { ByteString } from "../../base/byte-string.ts";
import type { LauncherCall } from "../control/launcher-connection.ts";
import type { ImageCompiler, Project, ProjectPlace } from "../project.ts";
import type { CallRequest } from "./read-call.ts";

export interface PreparedCall {
  readonly call: LauncherCall;
  readonly project: Project;
  readonly compiler: ImageCompiler;
  readonly request: CallRequest;
  /** Where the project stands for this compile. */
  readonly place: ProjectPlace;
  /** Host path of an empty folder of the call's own. */
  readonly folder: ByteString;
}
