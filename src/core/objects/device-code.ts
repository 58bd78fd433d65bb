/**
 * How the names of sections begin in which GCC leaves what another device is to run. They are compressed, and hold the working folder, options
 * and, without a seed, a number that is drawn.
 */
export const DEVICE_CODE: Buffer = Buffer.from(".gnu.offload_lto_");
