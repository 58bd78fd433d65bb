// Environment entries of a step, as words.
import type { ByteString } from "../../base/byte-string.ts";
import { sortEnvironment } from "../../core/action/action.ts";

export function joinEnvironment(variables: readonly (readonly [name: ByteString, value: ByteString])[]): ByteString[] {
  return sortEnvironment(variables.map(([name, value]) => `${name}=${value}` as ByteString));
}
