// Between the scheduler's messages and what the roles work with. Everything that a peer said is checked here.
import { create } from "@bufbuild/protobuf";
import { HpccError } from "../../base/errors.ts";
import { NumberTable } from "../../base/number-table.ts";
import { type Digest, isDigest } from "../../core/digest/digest.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../../core/identity/host-port.ts";
import { type Identity, parseSpiffeId, spiffeId } from "../../core/identity/spiffe.ts";
import { namesAll, parseRepositoryPattern, type RepositoryPattern } from "../../core/image/repository-pattern.ts";
import { type Isolation, isolationAtLeast } from "../../core/isolation.ts";
import { ASSIGNMENTS_MAX } from "../../core/placement/placement.ts";
import {
  type Assignment,
  AssignmentSchema,
  type Peer,
  PeerSchema,
  type Registration,
  RegistrationSchema,
  type WatchPeersRequest,
  WatchPeersRequestSchema,
  type WatchPeersResponse,
  type WatchRequest,
  WatchRequestSchema,
  type WatchResponse,
  Isolation as WireIsolation,
} from "../../gen/hpcc/scheduler/v1/scheduler_pb.js";

/** Images that one worker may offer. */
export const IMAGES_MAX = 1000;
/** Peers that one worker is told of. */
export const PEERS_MAX = 500;
/** Repositories that one worker may fetch images from. */
const REPOSITORIES_MAX = 64;
/** Slots that one worker may offer. */
export const SLOTS_MAX = 4096;

const VERSION = /^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}$/;

/** What a worker offers. */
export interface WorkerOffer {
  readonly address: HostPort;
  readonly identity: Identity & { readonly kind: "worker" };
  /** Digest of the CA certificate that vouches for it. */
  readonly caDigest: Digest;
  readonly images: readonly Digest[];
  readonly isolation: Isolation;
  readonly slots: number;
  readonly version: string;
  /** Repositories from which it fetches images that it lacks. */
  readonly repositories?: readonly RepositoryPattern[];
}

/** A worker that a client may dial. */
export interface WorkerChoice {
  readonly address: HostPort;
  readonly identity: Identity & { readonly kind: "worker" };
  readonly caDigest: Digest;
  readonly isolation: Isolation;
}

/** Another worker, as a worker is told of it. */
export interface PeerOffer extends WorkerChoice {
  readonly slots: number;
  /** Those that both offer. */
  readonly images: readonly Digest[];
}

/** What a client looks for. */
export interface WorkerQuery {
  readonly image: Digest;
  readonly isolationMin: Isolation;
  /** Where the image comes from, if the client knows. */
  readonly repository?: string;
}

const WIRE_ISOLATIONS = new NumberTable<Isolation, WireIsolation>({
  namespace: WireIsolation.NAMESPACE,
  "qemu-tcg": WireIsolation.QEMU_TCG,
  "qemu-kvm": WireIsolation.QEMU_KVM,
  firecracker: WireIsolation.FIRECRACKER,
  hyperv: WireIsolation.HYPERV,
});

/** The isolation as the scheduler's messages say it. */
export function toWireIsolation(isolation: Isolation): WireIsolation {
  return WIRE_ISOLATIONS.numberOf(isolation);
}

/** Reads an isolation; null when it stands for none. UNTRUSTED: peers. */
export function fromWireIsolation(value: WireIsolation): Isolation | null {
  return WIRE_ISOLATIONS.nameOf(value) ?? null;
}

export function toRegistration(offer: WorkerOffer): Registration {
  return create(RegistrationSchema, {
    address: formatHostPort(offer.address),
    tlsTrust: { spiffeId: spiffeId(offer.identity), caDigest: offer.caDigest },
    imageDigests: [...offer.images],
    isolation: toWireIsolation(offer.isolation),
    slots: offer.slots,
    version: offer.version,
    imageRepositories: [...(offer.repositories ?? [])],
  });
}

/** UNTRUSTED: a worker; `peer` is whom its certificate names, and it may speak for nobody else. */
export function parseRegistration(message: Registration, peer: Identity): WorkerOffer {
  const { imageDigests, slots, version } = message;
  const images = parseImages(imageDigests);
  if (slots < 1 || slots > SLOTS_MAX) throw protocol(`slots must be from 1 to ${SLOTS_MAX}`);
  if (!VERSION.test(version)) throw protocol("the version is malformed");
  if (message.imageRepositories.length > REPOSITORIES_MAX)
    throw new HpccError("limit.exceeded", `at most ${REPOSITORIES_MAX} repositories`);
  const repositories = message.imageRepositories.map(parseRepositoryPattern);
  const { identity, ...trust } = parseTrusted(message);
  if (spiffeId(identity) !== spiffeId(peer))
    throw new HpccError("identity.forbidden", "a worker may register only the identity of its own certificate");
  return { ...trust, identity, images, slots, version, repositories };
}

export function toAssignment(offer: WorkerOffer): Assignment {
  return create(AssignmentSchema, {
    address: formatHostPort(offer.address),
    tlsTrust: { spiffeId: spiffeId(offer.identity), caDigest: offer.caDigest },
    isolation: toWireIsolation(offer.isolation),
  });
}

export function toWatchRequest(query: WorkerQuery): WatchRequest {
  return create(WatchRequestSchema, {
    imageDigest: query.image,
    isolationMin: toWireIsolation(query.isolationMin),
    imageRepository: query.repository ?? "",
  });
}

/** UNTRUSTED: a client. */
export function parseWatchRequest(message: WatchRequest): WorkerQuery {
  const isolationMin = fromWireIsolation(message.isolationMin);
  if (!isDigest(message.imageDigest)) throw protocol("the image's digest is malformed");
  if (isolationMin === null) throw protocol("an isolation is required");
  const { imageDigest: image, imageRepository: repository } = message;
  if (repository === "") return { image, isolationMin };
  if (namesAll(parseRepositoryPattern(repository))) throw protocol("an image comes from one repository");
  return { image, isolationMin, repository };
}

/** UNTRUSTED: a scheduler. Assignments that do not fit the question are refused, all of them. */
export function parseWatchResponse(message: WatchResponse, query: WorkerQuery, client: Identity): WorkerChoice[] {
  if (message.assignments.length > ASSIGNMENTS_MAX) throw protocol(`more than ${ASSIGNMENTS_MAX} assignments`);
  return message.assignments.map((assignment) => {
    const choice = parseTrusted(assignment);
    if (choice.identity.trustDomain !== client.trustDomain)
      throw new HpccError("identity.forbidden", "the scheduler named a worker of another trust domain");
    if (!isolationAtLeast(choice.isolation, query.isolationMin))
      throw protocol("the scheduler offers too weak an isolation");
    return choice;
  });
}

export function toWatchPeersRequest(images: readonly Digest[]): WatchPeersRequest {
  return create(WatchPeersRequestSchema, { imageDigests: [...images] });
}

/** The images of the worker that asks. UNTRUSTED: a worker. */
export function parseWatchPeersRequest(message: WatchPeersRequest): readonly Digest[] {
  const images = parseImages(message.imageDigests);
  if (images.length !== message.imageDigests.length) throw protocol("an image is named twice");
  return images;
}

/** `places` says where each of the asking worker's images stands in its request. */
export function toPeer(offer: WorkerOffer, places: ReadonlyMap<Digest, number>): Peer {
  return create(PeerSchema, {
    ...toAssignment(offer),
    $typeName: PeerSchema.typeName,
    slots: offer.slots,
    sharedImages: offer.images.flatMap((image) => places.get(image) ?? []).sort((a, b) => a - b),
  });
}

/** UNTRUSTED: a scheduler. An answer that does not fit the question is refused as a whole. */
export function parseWatchPeersResponse(
  message: WatchPeersResponse,
  images: readonly Digest[],
  worker: Identity,
): PeerOffer[] {
  if (message.peers.length > PEERS_MAX) throw protocol(`more than ${PEERS_MAX} peers`);
  const seen = new Set([spiffeId(worker)]);
  return message.peers.map((peer) => {
    const choice = parseTrusted(peer);
    if (choice.identity.trustDomain !== worker.trustDomain)
      throw new HpccError("identity.forbidden", "the scheduler named a peer of another trust domain");
    const id = spiffeId(choice.identity);
    if (seen.has(id)) throw protocol("the scheduler named a worker twice, or the one who asks");
    seen.add(id);
    if (peer.slots < 1 || peer.slots > SLOTS_MAX) throw protocol(`slots must be from 1 to ${SLOTS_MAX}`);
    const shared = peer.sharedImages.map((place, at) => {
      const image = images[place];
      if (image === undefined || place <= (peer.sharedImages[at - 1] ?? -1))
        throw protocol("a peer's images are not places of the question, rising");
      return image;
    });
    if (shared.length === 0) throw protocol("a peer shares no image");
    return { ...choice, slots: peer.slots, images: shared };
  });
}

function parseImages(digests: readonly string[]): Digest[] {
  if (digests.length > IMAGES_MAX) throw new HpccError("limit.exceeded", `at most ${IMAGES_MAX} images`);
  if (digests.some((digest) => !isDigest(digest))) throw protocol("an image's digest is malformed");
  return [...new Set(digests)].filter(isDigest);
}

function parseTrusted(message: Registration | Assignment | Peer): WorkerChoice {
  const identity = parseSpiffeId(message.tlsTrust?.spiffeId ?? "");
  if (identity.kind !== "worker") throw protocol("the TLS trust names no worker");
  const caDigest = message.tlsTrust?.caDigest ?? "";
  if (!isDigest(caDigest)) throw protocol("the CA's digest is malformed");
  const isolation = fromWireIsolation(message.isolation);
  if (isolation === null) throw protocol("an isolation is required");
  return { address: parseAddress(message.address), identity, caDigest, isolation };
}

function parseAddress(text: string): HostPort {
  const address = parseHostPort(text);
  if (address.port === 0) throw protocol("port 0 cannot be dialled");
  return address;
}

function protocol(message: string): HpccError {
  return new HpccError("peer.protocol", message);
}
