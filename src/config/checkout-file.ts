// Reads a configuration file of a checkout, which may be a link to anything. UNTRUSTED: whoever wrote the checkout.
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { HpccError } from "../base/errors.ts";

/** Larger ones are refused by the launcher too. */
const CHECKOUT_FILE_BYTES_MAX = 1024 * 1024;

/** All of a plain file; throws the system's error, or `config.invalid` for what is none, as a device or a fifo would never end. */
export function readCheckoutFile(path: string | Buffer): Buffer {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  const refuse = (why: string) => new HpccError("config.invalid", `${Buffer.from(path as string).toString()} ${why}`);
  try {
    if (!fstatSync(file).isFile()) throw refuse("is no plain file");
    const bytes = Buffer.alloc(CHECKOUT_FILE_BYTES_MAX + 1);
    let size = 0;
    for (let count = -1; count !== 0 && size < bytes.length; size += count)
      count = readSync(file, bytes, size, bytes.length - size, null);
    if (size > CHECKOUT_FILE_BYTES_MAX) throw refuse(`is larger than ${CHECKOUT_FILE_BYTES_MAX} bytes`);
    return Buffer.from(bytes.subarray(0, size));
  } finally {
    closeSync(file);
  }
}
