// Which peers are asked. One that is slow or broken is left alone for a while, longer each time; one that lied for much longer.
// After the pause a single question finds out, so that a peer that is still silent holds up one job and not all of them.
import { type BackoffRule, backoffMs } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";

const FAULT_BACKOFF: BackoffRule = { firstMs: 1_000, maxMs: 60_000 };
const LIE_BACKOFF: BackoffRule = { firstMs: 600_000, maxMs: 86_400_000 };
/** Peers that are remembered; the one noted first is forgotten for one more. */
const PEERS_REMEMBERED_MAX = 2_048;

export type PeerFault = "slow" | "broken" | "lied";

interface State {
  readonly failures: number;
  readonly lies: number;
  readonly againAtMs: number;
  readonly probing: boolean;
}

export class PeerHealth {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #states = new Map<string, State>();

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Whether a question may be put to it now; `answered`, `failed` or `left` must follow. */
  begin(peer: string): boolean {
    const state = this.#states.get(peer);
    if (state === undefined) return true;
    if (state.probing || state.againAtMs > this.#clock.monotonicMs()) return false;
    this.#states.set(peer, { ...state, probing: true });
    return true;
  }

  /** It gave an answer that holds. Lies are not forgotten by that. */
  answered(peer: string): void {
    const state = this.#states.get(peer);
    if (state === undefined) return;
    if (state.lies === 0) this.#states.delete(peer);
    else this.#states.set(peer, { ...state, failures: 0, probing: false });
  }

  /** The question was given up for a reason of ours. */
  left(peer: string): void {
    const state = this.#states.get(peer);
    if (state !== undefined) this.#states.set(peer, { ...state, probing: false });
  }

  /** Questions that learn the same of it at the same time count once. */
  failed(peer: string, fault: PeerFault): void {
    const known = this.#states.get(peer);
    const paused = known !== undefined && !known.probing && known.againAtMs > this.#clock.monotonicMs();
    if (paused && (fault !== "lied" || known.lies > 0)) return;
    const before = known ?? { failures: 0, lies: 0 };
    const failures = before.failures + 1;
    const lies = before.lies + (fault === "lied" ? 1 : 0);
    const pauseMs =
      fault === "lied"
        ? backoffMs(LIE_BACKOFF, lies, this.#random())
        : backoffMs(FAULT_BACKOFF, failures, this.#random());
    this.#states.delete(peer);
    this.#states.set(peer, { failures, lies, againAtMs: this.#clock.monotonicMs() + pauseMs, probing: false });
    const [first] = this.#states.keys();
    if (first !== undefined && this.#states.size > PEERS_REMEMBERED_MAX) this.#states.delete(first);
  }
}
