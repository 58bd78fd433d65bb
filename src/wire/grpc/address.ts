// What grpc-js dials. It would read other schemes (unix:, xds:) out of a target, so addresses are parsed first.
import { isIP } from "node:net";
import { formatHostPort, type HostPort } from "../../core/identity/host-port.ts";

/** The target that grpc-js dials: DNS or an address, never another scheme. */
export function dialTarget(address: HostPort): string {
  switch (isIP(address.host)) {
    case 4:
      return `ipv4:${formatHostPort(address)}`;
    case 6:
      return `ipv6:${formatHostPort(address)}`;
    default:
      return `dns:///${formatHostPort(address)}`;
  }
}
