// What a stage of the compile pipeline comes to. A stage returns its end; it throws only what is a fault.
import type { ByteString } from "../../base/byte-string.ts";
import type { BypassReason } from "../../core/compile/bypass-reasons.ts";

export interface Next<T> {
  readonly kind: "next";
  readonly value: T;
}

/** The call leaves for a local compile. */
export interface Bypass {
  readonly kind: "bypass";
  readonly reason: BypassReason;
  /** What it was about: a path, a variable, an option. */
  readonly detail: ByteString | null;
  /** What a person can do about it, where that is known. */
  readonly advice: string | null;
}

export type Stage<T> = Next<T> | Bypass;

export function next<T>(value: T): Next<T> {
  return { kind: "next", value };
}

export function bypass(reason: BypassReason, detail: ByteString | null = null, advice: string | null = null): Bypass {
  return { kind: "bypass", reason, detail, advice };
}
