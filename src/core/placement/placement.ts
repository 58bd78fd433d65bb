// Which workers a client should use: those that have the image and the isolation, in an order that is stable for a
// client, so that it finds its warm VM again. Pure; knows no connection and no clock.
//
// Affinity is weighted rendezvous hashing. With thousands of workers a look-up scores only a window of a hash ring that
// begins at the client's point: as stable as scoring all (a worker that comes or goes moves only its neighbours), and of
// a cost that does not grow with the fleet.
import { ISOLATIONS, type Isolation, isolationAtLeast } from "../isolation.ts";
import { hash32, mix32 } from "./hash.ts";

/** What placement knows of a worker. */
export interface PlacementWorker {
  /** Unique and stable over restarts. */
  readonly id: string;
  readonly images: readonly string[];
  readonly isolation: Isolation;
  readonly slots: number;
  readonly freeSlots: number;
  readonly queued: number;
  readonly draining: boolean;
}

export interface PlacementQuery {
  /** Stable name of the client. */
  readonly client: string;
  readonly image: string;
  readonly isolationMin: Isolation;
}

/** Answers hold at most this many workers. */
export const ASSIGNMENTS_MAX = 16;
/** Workers with room that one look-up scores, per isolation. */
const WINDOW_LENGTH = 64;
/** Workers that one look-up visits to find those, per isolation. */
const VISITS_MAX = 256;

interface Member<W> {
  readonly point: number;
  worker: W;
}

/** A worker whose queue holds a whole further round: new clients go elsewhere first. */
export function isSaturated(worker: PlacementWorker): boolean {
  return worker.freeSlots === 0 && worker.queued >= worker.slots;
}

/** An index of workers that answers look-ups. */
export class PlacementIndex<W extends PlacementWorker> {
  readonly #members = new Map<string, Member<W>>();
  /** Rings by image and isolation, sorted by point. */
  readonly #rings = new Map<string, Member<W>[]>();

  get size(): number {
    return this.#members.size;
  }

  get(id: string): W | undefined {
    return this.#members.get(id)?.worker;
  }

  /** Adds a worker or replaces the one of its id. */
  set(worker: W): void {
    const present = this.#members.get(worker.id);
    if (present && sameRings(present.worker, worker)) {
      present.worker = worker;
      return;
    }
    this.delete(worker.id);
    const member = { point: hash32(worker.id), worker };
    this.#members.set(worker.id, member);
    for (const image of worker.images) {
      const key = ringKey(image, worker.isolation);
      const ring = this.#rings.get(key) ?? [];
      ring.splice(lowerBound(ring, member.point), 0, member);
      this.#rings.set(key, ring);
    }
  }

  delete(id: string): void {
    const member = this.#members.get(id);
    if (!member) return;
    this.#members.delete(id);
    for (const image of member.worker.images) {
      const key = ringKey(image, member.worker.isolation);
      const ring = this.#rings.get(key) ?? [];
      const index = ring.indexOf(member, lowerBound(ring, member.point));
      if (index >= 0) ring.splice(index, 1);
      if (ring.length === 0) this.#rings.delete(key);
    }
  }

  values(): W[] {
    return [...this.#members.values()].map((member) => member.worker);
  }

  /** The workers to use, best first: those with room by affinity, then saturated ones by affinity. */
  find(query: PlacementQuery): W[] {
    const client = hash32(`${query.client}\n${query.image}`);
    const scored: { worker: W; score: number }[] = [];
    for (const isolation of ISOLATIONS) {
      if (!isolationAtLeast(isolation, query.isolationMin)) continue;
      const ring = this.#rings.get(ringKey(query.image, isolation));
      if (ring) this.#score(ring, client, scored);
    }
    scored.sort((a, b) => b.score - a.score);
    return scored.slice(0, ASSIGNMENTS_MAX).map(({ worker }) => worker);
  }

  #score(ring: readonly Member<W>[], client: number, into: { worker: W; score: number }[]): void {
    const start = lowerBound(ring, client);
    const visits = Math.min(ring.length, VISITS_MAX);
    for (let step = 0, withRoom = 0; step < visits && withRoom < WINDOW_LENGTH; step += 1) {
      const { worker, point } = ring[(start + step) % ring.length]!;
      if (worker.draining) continue;
      const affinity = weightedScore(client, point, worker.slots);
      const saturated = isSaturated(worker);
      if (!saturated) withRoom += 1;
      // Scores lie in (0, 1): a saturated worker stands behind each one with room.
      into.push({ worker, score: saturated ? affinity - 1 : affinity });
    }
  }
}

function sameRings(a: PlacementWorker, b: PlacementWorker): boolean {
  return a.isolation === b.isolation && (a.images === b.images || a.images.join() === b.images.join());
}

function ringKey(image: string, isolation: Isolation): string {
  return `${isolation} ${image}`;
}

/** The first index whose point is not below `point`. */
function lowerBound(ring: readonly { readonly point: number }[], point: number): number {
  let low = 0;
  let high = ring.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ring[middle]!.point < point) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Weighted rendezvous hashing: a worker of twice the slots wins twice as many clients. In (0, 1). */
function weightedScore(client: number, worker: number, slots: number): number {
  const uniform = (mix32(client ^ mix32(worker)) + 0.5) / 2 ** 32;
  return uniform ** (1 / slots);
}
