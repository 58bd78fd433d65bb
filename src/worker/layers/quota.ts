// Quotas of a site's policy: how many jobs at a time, and what a day may cost. Hits cost nothing, so the day's quota is asked for before
// a compile alone.
import type { Clock } from "../../base/clock.ts";
import { partiesOf, type QuotaLedger } from "../../core/policy/quota-ledger.ts";
import { type Answer, Denied, type Job, type Layer } from "./layer.ts";
import type { Interceptors } from "./stack.ts";

/** Holds a place for each job from its admission to its answer. */
class JobQuotaLayer implements Layer {
  readonly #next: Layer;
  readonly #ledger: QuotaLedger;

  constructor(next: Layer, ledger: QuotaLedger) {
    this.#next = next;
    this.#ledger = ledger;
  }

  async run(job: Job): Promise<Answer> {
    const parties = partiesOf(job.principal, job.policy);
    denying(() => this.#ledger.begin(parties));
    try {
      return await this.#next.run(job);
    } finally {
      this.#ledger.end(parties);
    }
  }
}

/** Lets a job that is to be compiled go on as long as its day's quota is not used up. */
class DailyQuotaLayer implements Layer {
  readonly #next: Layer;
  readonly #ledger: QuotaLedger;
  readonly #clock: Clock;

  constructor(next: Layer, ledger: QuotaLedger, clock: Clock) {
    this.#next = next;
    this.#ledger = ledger;
    this.#clock = clock;
  }

  async run(job: Job): Promise<Answer> {
    denying(() => this.#ledger.check(partiesOf(job.principal, job.policy), this.#clock.wallMs()));
    return this.#next.run(job);
  }
}

/** Both, around the layers from elsewhere and below them: what those answer costs the day's quota nothing. */
export function withQuotas(others: Interceptors, ledger: QuotaLedger, clock: Clock): Interceptors {
  const { admitted = [], compiled = [] } = others;
  return {
    ...others,
    admitted: [(next) => new JobQuotaLayer(next, ledger), ...admitted],
    compiled: [...compiled, (next) => new DailyQuotaLayer(next, ledger, clock)],
  };
}

function denying(check: () => void): void {
  try {
    check();
  } catch (error) {
    throw new Denied(error);
  }
}
