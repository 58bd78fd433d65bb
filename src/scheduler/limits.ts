// Limits of a scheduler: what one peer, and all of them, may ask of it.

/** A stream of a worker must say who registers within this time. */
export const REGISTRATION_WAIT_MS = 10_000;
/** Heartbeats that a worker may send in one interval; more ends its stream. */
export const HEARTBEATS_PER_INTERVAL_MAX = 50;
/** Shortest pause between two answers that are pushed to one client. */
export const PUSH_INTERVAL_MS = 100;
/** Shortest pause between two answers that are pushed to one worker about its peers. */
export const PEERS_PUSH_INTERVAL_MS = 1_000;
/** Watches of peers that one worker may have open: one, and one that has not been seen to end. */
export const PEER_WATCHES_PER_WORKER_MAX = 2;
/** Calls that one identity may open in a burst, and after that per second. */
export const OPEN_BURST = 100;
export const OPENS_PER_SECOND = 20;
/** Identities whose rate is remembered; beyond that the one seen longest ago is forgotten. */
export const RATE_IDENTITIES_MAX = 50_000;
