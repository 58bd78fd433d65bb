// Counts what becomes of jobs.
import type { JobEvent } from "./observer.ts";

export interface JobCounters {
  jobs: number;
  compiled: number;
  hits: number;
  joined: number;
  denied: number;
  failed: number;
  /** Jobs without a row, since the log took none. */
  unrecorded: number;
}

export class JobCounts {
  readonly counters: JobCounters = { jobs: 0, compiled: 0, hits: 0, joined: 0, denied: 0, failed: 0, unrecorded: 0 };

  readonly observe = (event: JobEvent): void => {
    if (event.t === "arrived") this.counters.jobs++;
    else if (event.t === "answered") this.counters[event.outcome === "hit" ? "hits" : event.outcome]++;
    else if (event.t === "denied" || event.t === "failed" || event.t === "unrecorded") this.counters[event.t]++;
  };
}
