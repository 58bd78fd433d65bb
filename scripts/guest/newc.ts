// A writer of cpio archives in the "newc" format that Linux unpacks as initramfs. Owners, times and inode numbers are fixed, so
// that equal content gives equal bytes.

export type CpioEntry =
  | { readonly kind: "folder"; readonly path: string }
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly content: Uint8Array }
  | {
      readonly kind: "device";
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const FOLDER = 0o040755;
const FILE_TYPE = 0o100000;
const CHARACTER_DEVICE_TYPE = 0o020000;

function hex(value: number): string {
  return value.toString(16).padStart(8, "0");
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

function record(
  inode: number,
  mode: number,
  path: string,
  content: Uint8Array,
  device: readonly [number, number],
): Buffer {
  const name = Buffer.from(`${path}\0`, "latin1");
  const links = mode === FOLDER ? 2 : 1;
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, device[0], device[1], name.length, 0];
  const header = Buffer.concat([Buffer.from(`070701${fields.map(hex).join("")}`, "latin1"), name]);
  return Buffer.concat([padded(header), padded(content)]);
}

/** Packs entries in the order given; folders must stand before what is in them. */
export function packCpio(entries: readonly CpioEntry[]): Buffer {
  const nothing = new Uint8Array();
  const records = entries.map((entry, index) => {
    switch (entry.kind) {
      case "folder":
        return record(index + 1, FOLDER, entry.path, nothing, [0, 0]);
      case "file":
        return record(index + 1, FILE_TYPE | entry.mode, entry.path, entry.content, [0, 0]);
      case "device":
        return record(index + 1, CHARACTER_DEVICE_TYPE | entry.mode, entry.path, nothing, [entry.major, entry.minor]);
    }
  });
  return Buffer.concat([...records, record(0, 0, "TRAILER!!!", nothing, [0, 0])]);
}
