// What a worker's exchange with its peers came to.

export interface PeerCounters {
  /** Jobs that missed here and had a key that peers may know. */
  looked: number;
  /** Answered by a peer's result. */
  hits: number;
  /** Questions to peers. */
  asked: number;
  /** Peers that gave no answer in time. */
  slow: number;
  /** Peers that could not be reached, or broke off. */
  broken: number;
  /** Answers that were not true. */
  lies: number;
  /** Answers that were true and of no use: a maker that is not trusted, a weaker isolation or life, something revoked. */
  unfit: number;
  /** Bytes of frames that came from peers. */
  bytesFetched: number;
  /** Results that peers were given. */
  served: number;
  /** Statements signed. */
  signed: number;
  /** Statements that peers were told and have noted, and those that did not get there. */
  announced: number;
  unannounced: number;
  /** Statements that peers told and that were believed. */
  noted: number;
  /** Revocations that came from peers and were new here. */
  revocations: number;
}

export function newCounters(): PeerCounters {
  return {
    looked: 0,
    hits: 0,
    asked: 0,
    slow: 0,
    broken: 0,
    lies: 0,
    unfit: 0,
    bytesFetched: 0,
    served: 0,
    signed: 0,
    announced: 0,
    unannounced: 0,
    noted: 0,
    revocations: 0,
  };
}
