// A witness as a worker's configuration names it: where it is, and the key that it signs with. Pure.
import { HpccError } from "../../base/errors.ts";
import { type NoteVerifier, parseWitnessKey } from "./signed-note.ts";

/** A witness that a worker asks. */
export interface WitnessAddress {
  /** Where `add-checkpoint` is below. */
  readonly url: URL;
  readonly key: NoteVerifier;
  /** As the configuration has it. */
  toJSON(): string;
}

const LOOPBACK = ["127.0.0.1", "[::1]", "localhost"];

/** "https://witness.example.org NAME+ID+KEY". Throws `argument.invalid`. */
export function parseWitnessAddress(text: string): WitnessAddress {
  const [address = "", key = "", ...more] = text.split(" ");
  const url = URL.canParse(address) ? new URL(address) : null;
  const safe = url?.protocol === "https:" || (url?.protocol === "http:" && LOOPBACK.includes(url.hostname));
  if (url === null || !safe || url.search !== "" || url.hash !== "" || url.username !== "" || more.length > 0)
    throw new HpccError(
      "argument.invalid",
      "a witness is its address, https:// (or http:// on this machine), a space and its key",
    );
  const witness = parseWitnessKey(key);
  return { url, key: witness, toJSON: () => `${url.href} ${witness.text}` };
}
