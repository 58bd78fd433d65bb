// The peers that live now: who stands for a key, and the connection to each. What placement needs and what dialling needs, and
// nothing of results.
import type { Digest } from "../../core/digest/digest.ts";
import { formatHostPort } from "../../core/identity/host-port.ts";
import { spiffeId } from "../../core/identity/spiffe.ts";
import { KeyPlacement } from "../../core/placement/key-placement.ts";
import { RpcClient } from "../../wire/grpc/client.ts";
import type { TlsMaterial } from "../../wire/grpc/tls.ts";
import type { PeerOffer } from "../../wire/scheduler/mapping.ts";

/** A peer that can be dialled. */
export interface Peer {
  /** Its SPIFFE id. */
  readonly id: string;
  readonly name: string;
  readonly offer: PeerOffer;
}

export interface PeerDirectoryOptions {
  /** SPIFFE id of this worker: it has its place among the others. */
  readonly self: string;
  /** Read for each new connection. */
  readonly tls: () => TlsMaterial;
}

interface Home {
  readonly id: string;
  readonly peer: Peer | null;
}

export class PeerDirectory {
  readonly #options: PeerDirectoryOptions;
  #peers: ReadonlyMap<string, Peer> = new Map();
  readonly #placements = new Map<Digest, KeyPlacement<Home>>();
  readonly #clients = new Map<string, RpcClient>();

  constructor(options: PeerDirectoryOptions) {
    this.#options = options;
  }

  get peers(): readonly Peer[] {
    return [...this.#peers.values()];
  }

  get(id: string): Peer | null {
    return this.#peers.get(id) ?? null;
  }

  /** Replaces the peers; gives those that were not there, or not at that address. */
  update(offers: readonly PeerOffer[]): Peer[] {
    const before = this.#peers;
    const peers = offers.map((offer): Peer => ({ id: spiffeId(offer.identity), name: nameOf(offer), offer }));
    this.#peers = new Map(peers.filter(({ id }) => id !== this.#options.self).map((peer) => [peer.id, peer]));
    this.#placements.clear();
    for (const [id, old] of before)
      if (addressOf(old) !== addressOf(this.#peers.get(id))) {
        this.#clients.get(id)?.close();
        this.#clients.delete(id);
      }
    return this.peers.filter((peer) => addressOf(peer) !== addressOf(before.get(peer.id)));
  }

  /** The peers that stand for a key, best first; this worker itself is left out. */
  homes(key: Digest, image: Digest): Peer[] {
    return this.#placement(image)
      .homes(key)
      .flatMap(({ peer }) => peer ?? []);
  }

  client(peer: Peer): RpcClient {
    const known = this.#clients.get(peer.id);
    if (known !== undefined) return known;
    const client = new RpcClient({
      address: peer.offer.address,
      tls: this.#options.tls(),
      accept: (server) => spiffeId(server) === peer.id,
    });
    this.#clients.set(peer.id, client);
    return client;
  }

  /** Dials anew from now on: the own certificate has changed. */
  hangUp(): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  #placement(image: Digest): KeyPlacement<Home> {
    const known = this.#placements.get(image);
    if (known !== undefined) return known;
    const homes = this.peers
      .filter(({ offer }) => offer.images.includes(image))
      .map((peer): Home => ({ id: peer.id, peer }));
    const placement = new KeyPlacement<Home>([...homes, { id: this.#options.self, peer: null }]);
    this.#placements.set(image, placement);
    return placement;
  }
}

function nameOf({ identity }: PeerOffer): string {
  return identity.kind === "worker" ? identity.name : "";
}

function addressOf(peer: Peer | undefined): string | null {
  return peer === undefined ? null : formatHostPort(peer.offer.address);
}
