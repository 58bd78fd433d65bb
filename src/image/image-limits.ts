// Limits on an image, which may come from a registry or another machine. All are checked while its bytes stream past.

/** Largest index, manifest or config document. */
export const DOCUMENT_BYTES_MAX = 4 * 1024 * 1024;
export const LAYERS_MAX = 256;
/** Images for this machine that an index names, and indexes that it refers to. */
export const REFERENCES_MAX = 1024;
export const NESTED_INDEXES_MAX = 64;
/** Entries of all layers together, and separately nodes of the tree that they make. */
export const ENTRIES_MAX = 1_000_000;
/** Bytes of names and link targets that the tree keeps. */
export const NAME_BYTES_MAX = 256 * 1024 * 1024;
/** Bytes of all layers, decompressed. */
export const UNPACKED_BYTES_MAX = 32 * 1024 * 1024 * 1024;
/** Decompressed bytes per compressed byte, once a layer is past the free allowance. */
export const RATIO_MAX = 200;
export const RATIO_FREE_BYTES = 64 * 1024 * 1024;
/** Path and link target, in bytes; PATH_MAX of Linux less its terminator. */
export const PATH_BYTES_MAX = 4095;
/** One component of a path, in bytes; NAME_MAX of Linux. */
export const NAME_COMPONENT_BYTES_MAX = 255;

/** The limits as one value, so that a test can shrink them. */
export interface ImageLimits {
  readonly entriesMax: number;
  readonly nameBytesMax: number;
  readonly unpackedBytesMax: number;
  readonly ratioMax: number;
  readonly ratioFreeBytes: number;
}

export const IMAGE_LIMITS: ImageLimits = {
  entriesMax: ENTRIES_MAX,
  nameBytesMax: NAME_BYTES_MAX,
  unpackedBytesMax: UNPACKED_BYTES_MAX,
  ratioMax: RATIO_MAX,
  ratioFreeBytes: RATIO_FREE_BYTES,
};
