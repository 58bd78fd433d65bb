// What layers may and may not do. The hostile rows follow the break-outs that other archive extractors had.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readlinkSync } from "node:fs";
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import * as fc from "fast-check";
import { type RawEntry, type RawLayer, type RawLayout, rawTar, writeLayout } from "../../test/support/oci-layout.ts";
import { HpccError } from "../base/errors.ts";
import { blobPath } from "./blob.ts";
import { flattenImage, imageTree } from "./flatten.ts";
import { IMAGE_LIMITS, type ImageLimits } from "./image-limits.ts";
import { ImageTree } from "./image-tree.ts";
import { MEDIA_TYPES, openImage } from "./layout.ts";

let folder: string;
let count = 0;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hpcc-flatten-"));
});
after(() => rm(folder, { recursive: true, force: true }));

async function layoutOf(layout: RawLayout) {
  count += 1;
  const place = join(folder, String(count));
  return openImage(place, await writeLayout(place, layout));
}

const layersOf = (...layers: RawEntry[][]): RawLayer[] => layers.map((entries) => ({ tar: rawTar(entries) }));

/** The flattened tree as one line per path. */
async function treeOf(layers: readonly RawLayer[], limits?: ImageLimits): Promise<string[]> {
  const image = await layoutOf({ layers });
  const options = limits === undefined ? {} : { limits };
  // The stream too: it is what is used, and it checks everything twice.
  for await (const chunk of flattenImage(image, options)) void chunk;
  return (await imageTree(image, options)).map(
    ({ path, type, link, mode }) => `${type} ${path}${link === null ? "" : ` -> ${link}`} ${mode.toString(8)}`,
  );
}

async function refuses(layers: readonly RawLayer[], words: RegExp, code = "image.invalid", limits?: ImageLimits) {
  await assert.rejects(
    treeOf(layers, limits),
    (error) => error instanceof HpccError && error.code === code && words.test(error.message),
    `${words}`,
  );
}

const file = (name: string, content = name): RawEntry => ({ name, content });
const dir = (name: string): RawEntry => ({ name: `${name}/`, flag: "5", mode: 0o755 });
const link = (name: string, target: string): RawEntry => ({ name, flag: "2", link: target, mode: 0o777 });
const hard = (name: string, target: string): RawEntry => ({ name, flag: "1", link: target });

const HOSTILE: readonly (readonly [string, RegExp, ...RawEntry[][]])[] = [
  ["parent folder", /"\.\." in its path/, [file("../x")]],
  ["parent folder inside", /"\.\." in its path/, [file("a/../../x")]],
  ["parent folder at the end", /"\.\." in its path/, [dir("a/..")]],
  ["absolute", /absolute path/, [file("/etc/x")]],
  ["empty component", /empty path component/, [file("a//x")]],
  ["dot inside", /"\." in its path/, [file("a/./x")]],
  ["root as a file", /replaces the root/, [{ name: "./", flag: "2", link: "/" }]],
  ["long component", /name of more than 255/, [{ name: "x", pax: { path: "n".repeat(256) } }]],
  ["long path", /path of more than 4095/, [{ name: "x", pax: { path: "n/".repeat(2048) + "n" } }]],
  ["NUL in a path", /NUL/, [{ name: "x", pax: { path: "a\0b" } }]],
  ["through a link", /goes through a symbolic link/, [link("a", "/etc"), file("a/x")]],
  ["through a link of a lower layer", /goes through a symbolic link/, [link("a", "/etc")], [file("a/x")]],
  ["folder through a link", /goes through a symbolic link/, [link("a", ".."), dir("a/x")]],
  ["through a file", /goes through a file/, [file("a"), file("a/x")]],
  ["whiteout through a link", /goes through a symbolic link/, [link("a", "/etc")], [file("a/.wh.passwd")]],
  ["opaque through a link", /goes through a symbolic link/, [link("a", "/etc")], [file("a/.wh..wh..opq")]],
  ["whiteout of the parent", /hides no name/, [file("a/.wh...")]],
  ["whiteout of nothing", /hides no name/, [file("a/.wh.")]],
  ["whiteout that is a link", /whiteout that is no file/, [link(".wh.a", "/etc")]],
  ["below a whiteout", /below a whiteout/, [file(".wh.a/x")]],
  ["hard link out", /"\.\." in its path/, [hard("a", "../../etc/passwd")]],
  ["absolute hard link", /absolute path/, [hard("a", "/etc/passwd")]],
  ["hard link through a link", /goes through a symbolic link/, [link("a", "/etc"), hard("b", "a/passwd")]],
  ["hard link to what is not there", /not there/, [hard("a", "b")]],
  ["hard link to a folder", /hard link to a folder/, [dir("d"), hard("a", "d")]],
  ["hard link to the root", /hard link to a folder/, [hard("a", "./")]],
  ["hard link to what a whiteout hid", /not there/, [file("b")], [file(".wh.b"), hard("a", "b")]],
  ["link without target", /without a target/, [link("a", "")]],
  ["character device", /character-device/, [{ name: "null", flag: "3" }]],
  ["block device", /block-device/, [{ name: "sda", flag: "4" }]],
  ["fifo", /fifo/, [{ name: "p", flag: "6" }]],
  ["old sparse file", /unknown type/, [{ name: "s", flag: "S" }]],
  ["PAX sparse file", /sparse/, [{ name: "s", pax: { "GNU.sparse.major": "1" } }]],
  ["folder with content", /with content/, [{ name: "d/", flag: "5", content: "x" }]],
  ["link with content", /with content/, [{ name: "l", flag: "2", link: "x", content: "x" }]],
  ["content beyond the end", /cannot be read/, [{ name: "f", size: 1 << 20 }]],
  ["negative PAX size", /cannot be read/, [{ name: "f", pax: { size: "-1" } }]],
];

for (const [what, words, ...layers] of HOSTILE) test(`refused: ${what}`, () => refuses(layersOf(...layers), words));

test("refused: a PAX header that fills memory", () =>
  refuses([{ tar: rawTar([{ name: "x", pax: { comment: "c".repeat(5 << 20) } }]) }], /extended header of more than/));

test("refused: bombs, before they have unpacked", async () => {
  const small: ImageLimits = { ...IMAGE_LIMITS, unpackedBytesMax: 1 << 20, ratioFreeBytes: 1 << 16 };
  const zeros = rawTar([{ name: "zeros", content: Buffer.alloc(8 << 20) }]);
  for (const compression of ["gzip", "zstd"] as const) {
    await refuses([{ tar: zeros, compression }], /more than 200 times/, "limit.exceeded", {
      ...small,
      unpackedBytesMax: 1 << 30,
    });
    await refuses([{ tar: zeros, compression }], /unpacks to more than/, "limit.exceeded", { ...small, ratioMax: 1e9 });
  }
  const half = rawTar([{ name: "half", content: Buffer.alloc(700 << 10) }]);
  await refuses([{ tar: half }, { tar: half }], /unpacks to more than/, "limit.exceeded", small);
});

test("refused: more entries, folders or names than the limit", async () => {
  const few: ImageLimits = { ...IMAGE_LIMITS, entriesMax: 10, nameBytesMax: 300 };
  const many = Array.from({ length: 11 }, (_, at) => file(`f${at}`));
  await refuses(layersOf(many), /more than 10 entries/, "limit.exceeded", few);
  await refuses(
    layersOf(Array.from({ length: 11 }, () => file("same"))),
    /more than 10 entries/,
    "limit.exceeded",
    few,
  );
  const deep = [{ name: "x", pax: { path: "d/".repeat(20) + "f" } }];
  await refuses(layersOf(deep), /more than 10 files and folders/, "limit.exceeded", few);
  await refuses(
    layersOf([{ ...link("l", ""), pax: { linkpath: "t".repeat(300) } }]),
    /more than 300 bytes of names/,
    "limit.exceeded",
    few,
  );
});

test("whiteouts hide lower layers alone, wherever in their layer they stand", async () => {
  const lower = [dir("d"), file("d/old"), file("f"), dir("e"), dir("e/sub"), file("e/sub/x"), file("keep")];
  const upper = [
    file(".wh.f"),
    file("d/new"),
    file("d/.wh..wh..opq"),
    file("e/sub/mine"),
    file(".wh.e"),
    file(".wh.absent"),
  ];
  assert.deepEqual(await treeOf(layersOf(lower, upper)), [
    "directory d 755",
    "file d/new 644",
    "directory e 755",
    "directory e/sub 755",
    "file e/sub/mine 644",
    "file keep 644",
  ]);
  assert.deepEqual(await treeOf(layersOf([file("f", "old")], [file("f", "new"), file(".wh.f")])), ["file f 644"]);
  assert.deepEqual(await treeOf(layersOf([file(".wh..wh.plnk"), file("a")])), ["file a 644"]);
});

test("later entries replace earlier ones of any type", async () => {
  assert.deepEqual(await treeOf(layersOf([file("a"), dir("a"), file("a/b"), dir("a")])), [
    "directory a 755",
    "file a/b 644",
  ]);
  assert.deepEqual(await treeOf(layersOf([dir("a"), file("a/b")], [link("a", "x")])), ["symlink a -> x 777"]);
  assert.deepEqual(await treeOf(layersOf([link("a", "/etc")], [dir("a"), file("a/b")])), [
    "directory a 755",
    "file a/b 644",
  ]);
});

test("hard links keep their content when the first name goes", async () => {
  const layers = layersOf([file("a", "text"), hard("b", "a"), hard("c", "b")], [file(".wh.a")]);
  assert.deepEqual(await treeOf(layers), ["file b 644", "link c -> b 644"]);
});

test("set-user-id bits are dropped, the sticky bit stays", async () => {
  const entries = [
    { name: "su", mode: 0o6755 },
    { name: "tmp/", flag: "5", mode: 0o1777 },
  ];
  assert.deepEqual(await treeOf(layersOf(entries)), ["file su 755", "directory tmp 1777"]);
});

test("long names, and names that are not UTF-8, arrive as they are", async () => {
  const long = `${"d".repeat(120)}/${"e".repeat(200)}`;
  const entries = [{ name: "x", pax: { path: `${long}/é`, linkpath: "t".repeat(300) }, flag: "2" }];
  const tree = await treeOf(layersOf(entries, [{ name: Buffer.from([0x66, 0xff]) }]));
  assert.equal(tree.at(-1), "file f\xff 644");
  assert.equal(tree.at(-2), `symlink ${long}/${Buffer.from("é").toString("latin1")} -> ${"t".repeat(300)} 777`);
});

test("every compression and Docker's media types give the same stream", async () => {
  const tar = rawTar([dir("usr"), file("usr/a"), link("bin", "usr")]);
  const streams: string[] = [];
  for (const layout of [
    { layers: [{ tar }] },
    { layers: [{ tar, compression: "gzip" }] },
    { layers: [{ tar, compression: "zstd" }] },
    { layers: [{ tar, compression: "zstd", frames: 3 }] },
    { layers: [{ tar, compression: "gzip", frames: 3 }] },
    { layers: [{ tar, compression: "gzip" }], docker: true },
  ] as const) {
    const parts: Buffer[] = [];
    for await (const chunk of flattenImage(await layoutOf(layout))) parts.push(chunk);
    streams.push(Buffer.concat(parts).toString("latin1"));
  }
  assert.equal(new Set(streams).size, 1);
});

test("a blob that goes on behind its archive is read to its end", async () => {
  const tar = Buffer.concat([rawTar([file("a")]), Buffer.alloc(3 << 20, 7)]);
  for (const compression of ["none", "gzip", "zstd"] as const)
    assert.deepEqual(await treeOf([{ tar, compression }]), ["file a 644"]);
  // Behind the end of what unpacks, too: gunzip ignores zeros there, and the blob's digest does not.
  const padded = { tar: rawTar([file("a")]), compression: "gzip", trailing: Buffer.alloc(3 << 20) } as const;
  assert.deepEqual(await treeOf([padded]), ["file a 644"]);
});

test("the whole path of a file counts as its name: it is kept for each", async () => {
  const deep = "d/".repeat(100);
  const entries = Array.from({ length: 100 }, (_, at) => file(`${deep}${at}`, ""));
  const limits: ImageLimits = { ...IMAGE_LIMITS, nameBytesMax: 25_000 };
  await refuses(
    [{ tar: rawTar(entries.map((entry) => ({ ...entry, name: "x", pax: { path: entry.name as string } }))) }],
    /bytes of names/,
    "limit.exceeded",
    limits,
  );
});

test("whiteouts of one folder without end walk it once", () => {
  const tree = new ImageTree();
  const entry = (name: string) => ({ type: "file", name, mode: 0o644, sizeBytes: 0, link: null }) as const;
  const files = 200_000;
  for (let at = 0; at < files; at += 1) tree.apply(1, at, entry(`d/${at}`));
  // As many walks of as many files take ten minutes and more, which the runner's limit ends.
  for (let at = 0; at < 3 * files; at += 1) tree.apply(1, files + at, entry("d/.wh..wh..opq"));
  tree.apply(2, 0, entry("d/new"));
  tree.apply(2, 1, entry(".wh.d"));
  const { first, files: left } = tree.emission(3);
  assert.deepEqual([first.length, left[1]!.size, left[2]!.size], [1, 0, 1]);
});

test("refused: blobs that are not what their descriptors say", async () => {
  const tar = rawTar([file("a")]);
  await refuses([{ tar, claims: { diffId: `sha256:${"0".repeat(64)}` } }], /does not unpack to/);
  await refuses([{ tar, compression: "gzip", claims: { size: 7 } }], /no file of 7 bytes/);
  await refuses([{ tar, claims: { digest: `sha256:${"0".repeat(64)}` } }], /is not in/);
  await refuses([{ tar, claims: { mediaType: "application/x-shellscript" } }], /unknown media type/);
  await refuses([{ tar, claims: { digest: "md5:00" } }], /no sha256 digest/);
  await refuses([{ tar: Buffer.alloc(1000, 1), compression: "gzip" }], /cannot be read/);
  await refuses([{ tar, claims: { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip" } }], /cannot be read/);
});

test("refused: a blob that was altered, cut or replaced by a link", async () => {
  const other = Buffer.from(rawTar([file("a", "bad!")]));
  const tar = rawTar([file("a", "good")]);
  const alter = async (change: (path: string) => Promise<unknown>, words: RegExp) => {
    const image = await layoutOf({ layers: [{ tar }] });
    await change(blobPath(image.layoutFolder, image.layers[0]!.digest));
    await assert.rejects(imageTree(image), (error) => error instanceof HpccError && words.test(error.message));
  };
  await alter((path) => writeFile(path, other), /other content/);
  await alter((path) => truncate(path, 512), /no file of/);
  await alter(async (path) => {
    await rm(path);
    await writeFile(`${path}.real`, tar);
    await symlink(`${path}.real`, path);
  }, /is not in/);
});

test("refused: documents that are not what they should be", async () => {
  const layers = layersOf([file("a")]);
  const rejects = (layout: Partial<RawLayout>, words: RegExp) =>
    assert.rejects(layoutOf({ layers, ...layout }), (error) => error instanceof HpccError && words.test(error.message));
  await rejects({ editManifest: (manifest) => ({ ...manifest, layers: "none" }) }, /no list/);
  await rejects({ editManifest: (manifest) => ({ ...manifest, layers: [] }) }, /differ in their number/);
  await rejects(
    { editManifest: (manifest) => ({ ...manifest, layers: Array(300).fill(null) }) },
    /more than 256 layers/,
  );
  await rejects({ editManifest: (manifest) => ({ ...manifest, config: 1 }) }, /no descriptor/);
  await rejects({ editIndex: (index) => ({ ...index, manifests: [{ size: 1 }] }) }, /no media type/);
  await rejects({ editIndex: () => [] }, /no JSON object/);
  await rejects({ editIndex: (index) => ({ ...index, manifests: [] }) }, /holds no image/);
  const times = (count: number, edit: (entry: object) => object) => (index: Record<string, unknown>) => ({
    ...index,
    manifests: Array(count).fill(edit((index["manifests"] as object[])[0]!)),
  });
  await rejects({ editIndex: times(1025, (entry) => entry) }, /names more than 1024 images/);
  const asIndex = (entry: object) => ({ ...entry, mediaType: MEDIA_TYPES.index });
  await rejects(
    { editIndex: times(65, asIndex), editManifest: (manifest) => ({ ...manifest, manifests: [] }) },
    /refers to more than 64 others/,
  );
});

test("refused: an index that is no plain file", async () => {
  const { layoutFolder } = await layoutOf({ layers: layersOf([file("a")]) });
  const index = join(layoutFolder, "index.json");
  const refused = (words: RegExp) =>
    assert.rejects(openImage(layoutFolder), (error) => error instanceof HpccError && words.test(error.message));
  await rm(index);
  execFileSync("mkfifo", [index]);
  await refused(/is no file/);
  await rm(index);
  await mkdir(index);
  await refused(/is no file/);
  await rm(index, { recursive: true });
  await refused(/no OCI image layout/);
});

test("a reader that is given up, at any moment, leaves no file open and no error behind", async () => {
  const tar = rawTar([file("a", "a".repeat(4 << 20)), file("b", "b".repeat(4 << 20))]);
  const image = await layoutOf({ layers: [{ tar, compression: "gzip" }] });
  const openBlobs = () =>
    readdirSync("/proc/self/fd").filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(image.layoutFolder);
      } catch {
        return false;
      }
    });
  for await (const chunk of flattenImage(image)) if (chunk.length > 0) break;
  await assert.rejects(imageTree(image, { signal: AbortSignal.abort() }), { name: "AbortError" });
  for (const chunks of [1, 2, 3, 5]) {
    const giveUp = new AbortController();
    const reading = async () => {
      let count = 0;
      for await (const chunk of flattenImage(image, { signal: giveUp.signal }))
        if (chunk.length > 0 && ++count === chunks) giveUp.abort();
    };
    await assert.rejects(reading(), { name: "AbortError" });
  }
  await setImmediate();
  assert.deepEqual(openBlobs(), []);
});

test("bytes of any kind end in an error of ours or in a tree inside the root", async () => {
  const seed = rawTar([
    dir("usr"),
    file("usr/a"),
    link("l", "../../x"),
    hard("h", "usr/a"),
    { name: "p", pax: { path: "q" } },
  ]);
  const edits = fc.array(fc.tuple(fc.nat(seed.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(edits, fc.boolean(), async (changes, fixSums) => {
      const tar = Buffer.from(seed);
      for (const [at, value] of changes) tar[at] = value;
      if (fixSums) repairChecksums(tar);
      const image = await layoutOf({ layers: [{ tar }] });
      try {
        for (const { path } of await imageTree(image))
          assert.ok(!path.split("/").some((part) => part === "" || part === "." || part === ".."), path);
      } catch (error) {
        if (!(error instanceof HpccError)) throw error;
      }
    }),
    { numRuns: 300 },
  );
});

/** Makes each block's checksum right, so that mutations reach what lies behind that check. */
function repairChecksums(tar: Buffer): void {
  for (let at = 0; at + 512 <= tar.length; at += 512) {
    if (tar.subarray(at + 257, at + 262).toString("latin1") !== "ustar") continue;
    tar.fill(" ", at + 148, at + 156);
    let sum = 0;
    for (const byte of tar.subarray(at, at + 512)) sum += byte;
    tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, at + 148, "latin1");
  }
}
