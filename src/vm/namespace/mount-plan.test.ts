import assert from "node:assert/strict";
import { test } from "node:test";
import { type ByteString, byteStringOfText } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import {
  type FolderEntry,
  imageOwnedNames,
  type MountRoots,
  type MountSources,
  planLocal,
  planRun,
  planStrict,
} from "./mount-plan.ts";

const b = byteStringOfText;
const dir = (name: string): FolderEntry => ({ name: b(name), t: "directory" });
const link = (name: string, target: string): FolderEntry => ({ name: b(name), t: "symlink", target: b(target) });

const IMAGE: Record<string, FolderEntry[]> = {
  "": [
    link("bin", "usr/bin"),
    dir("dev"),
    dir("etc"),
    dir("hpcc"),
    link("lib", "usr/lib"),
    dir("opt"),
    dir("tmp"),
    dir("usr"),
    dir("var"),
  ],
  "/etc": [dir("alternatives")],
  "/opt": [],
  "/usr": [dir("bin"), dir("include"), dir("lib")],
  "/usr/lib": [dir("gcc"), { name: b("libc.a"), t: "file" }],
  "/var": [dir("cache")],
};

const HOST = [
  link("bin", "usr/bin"),
  link("data", "mnt/data"),
  dir("dev"),
  dir("etc"),
  dir("home"),
  dir("lib32"),
  dir("opt"),
  dir("proc"),
  dir("tmp"),
  dir("usr"),
  dir("var"),
];

function sources(image: Record<string, FolderEntry[]> = IMAGE, hostTop: readonly FolderEntry[] = HOST): MountSources {
  return { rootfs: b("/images/r"), listImage: (path) => image[path] ?? null, hostTop, hostShare: [], hostEtc: [] };
}

function roots(project: string, extra: Record<string, string> = {}): MountRoots {
  return {
    project: b(project),
    extraRoots: Object.entries(extra).map(([name, host]) => ({ name: b(name), host: b(host) })),
    callFiles: b("/run/hpcc/calls"),
  };
}

/** Mounts as "option source destination", by destination. */
function mounts(plan: readonly ByteString[]): Map<string, string> {
  const found = new Map<string, string>();
  const width: Record<string, number> = { "--tmpfs": 1, "--dir": 1, "--perms": 1, "--remount-ro": 1 };
  for (let at = 0; at < plan.length; ) {
    const count = width[plan[at]!] ?? 2;
    const words = plan.slice(at, at + 1 + count);
    if (words[0] !== "--remount-ro" && words[0] !== "--perms") found.set(words.at(-1)!, words.slice(0, -1).join(" "));
    at += 1 + count;
  }
  return found;
}

test("strict shows the image, the roots and nothing else of the host", () => {
  const plan = planStrict(sources(), roots("/home/u/p", { boost: "/srv/boost" }));
  const all = mounts(plan);
  assert.equal(all.get("/usr"), "--ro-bind /images/r/usr");
  assert.equal(all.get("/bin"), "--symlink usr/bin");
  assert.equal(all.get("/hpcc/project"), "--bind /home/u/p");
  assert.equal(all.get("/hpcc/roots/boost"), "--bind /srv/boost");
  assert.equal(all.get("/hpcc/tmp"), "--bind /run/hpcc/calls");
  assert.equal(all.get("/tmp"), "--tmpfs");
  const fromHost = [...all.entries()].filter(([, how]) => / \//.test(how) && !how.includes("/images/r/"));
  const devices = "/dev/fd /dev/full /dev/null /dev/random /dev/stderr /dev/stdin /dev/stdout /dev/urandom /dev/zero";
  assert.equal(
    fromHost
      .map(([path]) => path)
      .sort()
      .join(" "),
    `${devices} /hpcc/project /hpcc/roots/boost /hpcc/tmp /proc`,
  );
  assert.ok(!plan.includes(b("--dev")), "its own /dev would add a second user namespace");
  assert.deepEqual(plan.slice(-2), ["--remount-ro", "/"]);
});

test("strict does not depend on the host's folders", () => {
  const project = roots("/home/u/p");
  assert.deepEqual(planStrict(sources(), project), planStrict(sources(IMAGE, []), project));
});

test("local takes the toolchain from the image and everything else from the host", () => {
  const all = mounts(planLocal(sources(), roots("/home/u/p")));
  assert.equal(all.get("/usr"), "--ro-bind /images/r/usr");
  assert.equal(all.get("/etc"), "--ro-bind /images/r/etc");
  assert.equal(all.get("/lib"), "--symlink usr/lib");
  assert.equal(all.get("/home"), "--dev-bind-try /home");
  assert.equal(all.get("/tmp"), "--dev-bind-try /tmp");
  assert.equal(all.get("/var"), "--dev-bind-try /var", "the image's /var gives way");
  assert.equal(all.get("/opt"), "--dev-bind-try /opt", "an empty folder of the image gives way");
  assert.equal(all.get("/data"), "--symlink mnt/data");
  assert.equal(all.get("/lib32"), undefined, "a library folder that the image lacks is not the host's");
  assert.equal(all.get("/hpcc/project"), "--bind /home/u/p");
  assert.equal(all.get("/hpcc/tmp"), undefined, "a plan outlives the daemon and its folders");
});

test("local splits a folder of the image along the way to a project below it", () => {
  const all = mounts(planLocal(sources(), roots("/usr/lib/x/p")));
  assert.equal(all.get("/usr"), "--dir");
  assert.equal(all.get("/usr/bin"), "--ro-bind /images/r/usr/bin");
  assert.equal(all.get("/usr/lib"), "--dir");
  assert.equal(all.get("/usr/lib/gcc"), "--ro-bind /images/r/usr/lib/gcc");
  assert.equal(all.get("/usr/lib/libc.a"), "--ro-bind /images/r/usr/lib/libc.a");
  assert.equal(all.get("/usr/lib/x/p"), "--bind /usr/lib/x/p");
});

test("local shows /usr/src whole to a project in it, and only the root of one in /usr/local", () => {
  const inSources = mounts(planLocal(sources(), roots("/usr/src/p", { build: "/usr/src/build" })));
  assert.equal(inSources.get("/usr/src"), "--bind /usr/src");
  assert.equal(inSources.get("/usr/src/p"), undefined);
  const inLocal = mounts(planLocal(sources(), roots("/usr/local/src/p")));
  assert.equal(inLocal.get("/usr/local"), undefined, "the host's /usr/local/include is on the search path");
  assert.equal(inLocal.get("/usr/local/src/p"), "--bind /usr/local/src/p");
});

test("local keeps a project in a top-level folder that both have", () => {
  const image = { ...IMAGE, "/opt": [dir("gcc-13")], "/opt/gcc-13": [dir("bin")] };
  const all = mounts(planLocal(sources(image), roots("/opt/p")));
  assert.equal(all.get("/opt/gcc-13"), "--ro-bind /images/r/opt/gcc-13");
  assert.equal(all.get("/opt/p"), "--bind /opt/p");
});

test("bytes of paths pass through", () => {
  const project = "/home/\xff\xfe/p" as ByteString;
  const plan = planLocal(sources(), { ...roots("/x"), project });
  assert.ok(plan.includes(project));
});

test("impossible roots are refused", () => {
  const refused = (make: () => unknown) =>
    assert.throws(make, (error) => error instanceof HpccError && error.code === "argument.invalid");
  refused(() => planLocal(sources(), roots("/")));
  refused(() => planLocal(sources(), roots("relative")));
  refused(() => planStrict(sources(), roots("/p/\0")));
  refused(() => planLocal(sources(), roots("/usr")));
  refused(() => planLocal(sources(), roots("/lib/modules/p")));
  refused(() => planStrict(sources(), roots("/p", { "..": "/x" })));
  refused(() => planStrict(sources(), roots("/p", { "a/b": "/x" })));
});

test("only what both namespaces take from the image is the image's: no mount point, no folder that the host shows", () => {
  assert.deepEqual(imageOwnedNames(sources()), ["bin", "etc", "lib", "usr"]);
});

test("the folder from which CMake compiles is the host's in `local` alone", () => {
  const own = { ...sources(), hostShare: [b("automake-1.16"), b("cmake-3.25"), b("cmake-gui")] };
  const local = mounts(planLocal(own, roots("/home/u/p")));
  assert.equal(local.get("/usr/share/cmake-3.25"), "--bind-try /usr/share/cmake-3.25");
  assert.equal(local.get("/usr/lib"), "--ro-bind /images/r/usr/lib");
  assert.ok(!local.has("/usr/share/automake-1.16") && !local.has("/usr/share/cmake-gui"));
  assert.ok(![...mounts(planStrict(own, roots("/home/u/p"))).keys()].some((path) => path.startsWith("/usr/share")));
});

test("run shows what local does, the launcher over each compiler, the compilers aside, and who and where the user is", () => {
  const image = { ...IMAGE, "/etc": [dir("alternatives"), { name: b("passwd"), t: "file" } as const] };
  const own = { ...sources(image), hostShare: [b("cmake-3.25")], hostEtc: [b("hosts"), b("passwd"), b("shadow")] };
  const compilers = ["/usr/bin/gcc-12", "/usr/lib/llvm/bin/clang", "/home/u/bin/gcc"].map(b);
  const plan = planRun(own, roots("/home/u/p"), {
    launcher: b("/opt/hpcc"),
    compilers,
    folders: [b("/usr/cache"), b("/home/c")],
  });
  const all = mounts(plan);
  for (const path of ["/usr/bin/gcc-12", "/usr/lib/llvm/bin/clang"]) {
    assert.equal(all.get(path), "--ro-bind /opt/hpcc");
    assert.equal(all.get(`/hpcc/real${path}`), `--ro-bind /images/r${path}`);
  }
  assert.ok(![...all.keys()].some((path) => path.endsWith("/home/u/bin/gcc")), "that folder is the host's");
  assert.equal(all.get("/hpcc/bin/hpcc"), "--ro-bind /opt/hpcc");
  assert.equal(all.get("/etc/passwd"), "--ro-bind /etc/passwd");
  assert.equal(all.get("/etc/hosts"), "--ro-bind /etc/hosts");
  assert.equal(all.get("/etc/alternatives"), "--ro-bind /images/r/etc/alternatives");
  assert.ok(!all.has("/etc/shadow") && !all.has("/usr/share/cmake-3.25") && !all.has("/home/c"));
  assert.equal(all.get("/usr/cache"), "--bind /usr/cache");
  assert.ok(plan.indexOf(b("/usr/bin")) < plan.indexOf(b("/usr/bin/gcc-12")), "a later mount is the upper one");
  assert.deepEqual(plan.slice(-2), ["--remount-ro", "/"]);
});
