// Addresses of peers, "host:port".
import { isIPv6 } from "node:net";
import { HpccError } from "../../base/errors.ts";

export interface HostPort {
  /** Host name or IP address, without brackets. */
  readonly host: string;
  readonly port: number;
}

const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/;
const PORT_MAX = 65_535;

/** Parses "host:port" or "[ipv6]:port". UNTRUSTED: schedulers, workers, configuration. */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):([0-9]{1,5})$/.exec(text);
  const [, ipv6, name, digits] = match ?? [];
  const port = Number(digits);
  const host = ipv6 ?? name ?? "";
  const hostIsValid = ipv6 === undefined ? HOST_NAME.test(host) : isIPv6(ipv6);
  if (!match || !hostIsValid || port > PORT_MAX)
    throw new HpccError("argument.invalid", `an address must be "host:port", not ${JSON.stringify(text.slice(0, 80))}`);
  return { host, port };
}

/** The text form; `parseHostPort` reads it back. */
export function formatHostPort({ host, port }: HostPort): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}
