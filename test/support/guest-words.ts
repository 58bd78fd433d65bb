// By what a test and the process of guest-worker.ts understand each other.

/** The source that takes over the guest that compiles it. */
export const EXPLOIT = "exploit.c";
/** The source at which a guest that was taken over breaks its contract. */
export const BREACH = "breach.c";
/** The event of its log by which a worker says how many results its peers have been told of. */
export const TOLD = "guest_worker.told";
