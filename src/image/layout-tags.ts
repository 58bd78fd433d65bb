// The tags of a layout's one image, in its index: none, or several. Only this user's own layouts are written.
import { randomBytes } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { TAG_ANNOTATION } from "./layout.ts";

interface Entry {
  readonly [key: string]: unknown;
  readonly annotations?: Readonly<Record<string, unknown>>;
}

/** Gives a layout's image a tag more. */
export async function addTag(layoutFolder: string, tag: string): Promise<void> {
  await editEntries(layoutFolder, (entries) => {
    const [first] = entries;
    if (first === undefined) throw new HpccError("image.invalid", `${layoutFolder} holds no image`);
    if (entries.some((entry) => tagOf(entry) === tag)) return entries;
    const tagged = { ...first, annotations: { ...first.annotations, [TAG_ANNOTATION]: tag } };
    return tagOf(first) === undefined ? [tagged, ...entries.slice(1)] : [...entries, tagged];
  });
}

/** Takes a tag out of a layout's index; the image stays. */
export async function removeTag(layoutFolder: string, tag: string): Promise<void> {
  await editEntries(layoutFolder, (entries) => {
    const others = entries.filter((entry) => tagOf(entry) !== tag);
    if (others.length > 0) return others;
    return entries.slice(0, 1).map(({ annotations, ...entry }) => {
      const rest = Object.fromEntries(Object.entries(annotations ?? {}).filter(([name]) => name !== TAG_ANNOTATION));
      return Object.keys(rest).length === 0 ? entry : { ...entry, annotations: rest };
    });
  });
}

function tagOf({ annotations }: Entry): unknown {
  return annotations?.[TAG_ANNOTATION];
}

async function editEntries(layoutFolder: string, edit: (entries: Entry[]) => Entry[]): Promise<void> {
  const path = join(layoutFolder, "index.json");
  const index = JSON.parse(await readFile(path, "utf8")) as { manifests: Entry[] };
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  await writeFile(temporary, JSON.stringify({ ...index, manifests: edit(index.manifests) }));
  await rename(temporary, path);
}
