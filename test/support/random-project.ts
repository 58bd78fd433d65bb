// Draws small projects of C and C++ and the steps by which they change, all from one seed: a step is a script of sh or a setting of the
// calls that follow, so that any list of steps can be printed and made again. Knows no hpcc.

/** What the calls that follow are. */
export interface Settings {
  readonly compiler: "gcc" | "clang";
  readonly source: string;
  /** Words before the source; `@ROOT@` stands for the project's root, `@OUTSIDE@` for a folder beside it. */
  readonly flags: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly absolute: boolean;
}

export type Step =
  | { readonly kind: "script"; readonly script: string }
  | { readonly kind: "settings"; readonly change: Partial<Settings> };

/** Random numbers that a seed gives: mulberry32. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 to below `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  of<T>(list: readonly T[]): T {
    const drawn = list[this.below(list.length)];
    if (drawn === undefined) throw new Error("bug: nothing to draw from");
    return drawn;
  }

  some<T>(list: readonly T[], most: number): T[] {
    return Array.from({ length: this.below(most + 1) }, () => this.of(list));
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
}

const FOLDERS = ["src", "src/u", "inc1", "inc2", "inc3", "sys", "gen", "inc1/p", "inc2/p"];
const SEARCHED = ["inc1", "inc2", "inc3", "sys", "gen", "lib", "away", "none", "inc1/p", "src", "."];
const HEADERS = ["k.h", "k.h", "l.h", "l.h", "m.h", "once.h", "p/k.h", "opt.h", "gen.h", "dir.h"];
const SOURCES = ["src/a.c", "src/b.cc", "src/u/c.c", "src/s.S"];
/** Steps that mount, where that can be done. */
const MOUNT_PERCENT = 12;
const SYSTEM = ["stddef.h", "stdint.h", "limits.h", "string.h"];

export const FIRST_SETTINGS: Settings = {
  compiler: "gcc",
  source: "src/a.c",
  flags: ["-Iinc1", "-Iinc2", "-Isrc", "-MD"],
  env: {},
  cwd: ".",
  absolute: false,
};

export class RandomProject {
  readonly #dice: Dice;
  readonly #mounts: boolean;
  /** Whether macros stand for names between angle brackets, too. */
  readonly #hasAngles: boolean;
  #numbers = 0;

  /** `mounts`: folders and files may be mounted over others, which takes root. */
  constructor(dice: Dice, { mounts = false }: { readonly mounts?: boolean } = {}) {
    this.#dice = dice;
    this.#mounts = mounts;
    this.#hasAngles = dice.chance(40);
  }

  /** The script that makes the project; run in its root, which is empty. */
  first(): string {
    const folders = `mkdir -p ${FOLDERS.join(" ")} data @OUTSIDE@; ln -s inc2 lib; ln -s src within; ln -s @OUTSIDE@ away`;
    const headers = HEADERS.filter((name) => name !== "opt.h" && name !== "dir.h").flatMap((name) =>
      this.#dice.some(["inc1", "inc2", "inc3", "src", "gen", "sys"], 2).map((folder) => this.#write(folder, name)),
    );
    const sources = SOURCES.map((name) => write(name, this.#source(name)));
    return [
      folders,
      "mkdir inc3/dir.h",
      "printf data > data/blob.bin",
      write("data/forced.h", "#define M 5\n"),
      write("@OUTSIDE@/out.h", "#define OUT 1\n"),
      // A copy: what is written through a link must not be the machine's.
      "cp /usr/include/limits.h @OUTSIDE@/limits.h",
      ...headers,
      ...sources,
    ].join("\n");
  }

  step(settings: Settings): Step {
    const dice = this.#dice;
    if (dice.chance(30)) return { kind: "settings", change: this.#change(settings) };
    if (dice.chance(12)) return { kind: "script", script: "true" };
    return { kind: "script", script: this.#script() };
  }

  /** A script whose effect is there at once, or not at all. */
  atOnce(): string {
    const dice = this.#dice;
    const path = this.#header();
    if (this.#mounts && dice.chance(MOUNT_PERCENT)) return this.#mount();
    switch (dice.below(4)) {
      case 0:
      case 1:
        return `${write("tmp.new", this.#text(path))}; mv -T tmp.new ${path}`;
      case 2:
        return `ln -s ${dice.of(["inc1", "inc2", "inc3"])} tmp.l; mv -T tmp.l lib`;
      default:
        return `rm -f ${path}`;
    }
  }

  /** Now and then of a size at which a small store has to forget something. */
  #blob(): string {
    const number = this.#number();
    return this.#dice.chance(50) ? `printf ${number}` : `seq ${number} 90000 | gzip -nc`;
  }

  #header(): string {
    const dice = this.#dice;
    return `${dice.of(["inc1", "inc1", "inc2", "inc2", "src", "src/u", "inc3", "gen"])}/${dice.of(HEADERS)}`;
  }

  #script(): string {
    const dice = this.#dice;
    const path = this.#header();
    const other = this.#header();
    const [first, second] = [dice.of(["inc1", "inc2", "inc3", "gen", "sys"]), dice.of(["inc1", "inc2", "inc3"])];
    const source = dice.of(SOURCES);
    if (this.#mounts && dice.chance(MOUNT_PERCENT)) return this.#mount();
    switch (dice.below(20)) {
      case 0:
      case 1:
      case 2:
        return write(path, this.#text(path));
      case 3:
      case 4:
        return write(source, this.#source(source));
      case 5:
        return `rm -rf ${path}`;
      case 6:
        return `touch ${path}`;
      case 7:
        return `touch -d 2020-01-0${1 + dice.below(9)} ${path}`;
      case 8:
        return `cp -p ${path} ${other}`;
      case 9:
        return `ln -sfn ../${other} ${path}`;
      case 10:
        return `rm -rf ${path}; mkdir ${path}`;
      case 11:
        return `ln -sfn ${dice.of(["../nowhere", "@OUTSIDE@/out.h", "@OUTSIDE@/limits.h", `${path.split("/").at(-1)}`, "."])} ${path}`;
      case 12:
        return `mv ${first} ${first}.old; cp -rp ${second} ${first}; rm -rf ${first}.old`;
      case 13:
        return `mv ${first} swap; mv ${second} ${first}; mv swap ${second}`;
      case 14:
        return `ln -sfn ${dice.of(["inc1", "inc3", "gen", "@OUTSIDE@", "nowhere"])} lib`;
      case 15:
        return `echo '#define OUT ${this.#number()}' > @OUTSIDE@/out.h; ${this.#blob()} > data/blob.bin`;
      case 16:
        return `touch -r ${path} stamp; sed -i 's/[0-9]$/7/' ${path}; touch -r stamp ${path}; rm -f stamp`;
      case 17:
        return `rm -f ${other}; ln ${path} ${other}`;
      case 18:
        return `sed -i 's/[0-9]$/${dice.below(10)}/' ${path}`;
      default:
        return `${write(`${first}/opt.h`, this.#text("opt.h"))}; ${dice.chance(50) ? `rm -f ${first}/opt.h` : ":"}`;
    }
  }

  /** Something comes to lie over a folder or a file, or goes from there. */
  #mount(): string {
    const dice = this.#dice;
    const [over, by] = [dice.of(["inc1", "inc2", "src", "gen", "inc1/p"]), dice.of(["inc2", "inc3", "sys", "twin"])];
    const twin = "mkdir -p twin; cp -p src/*.* twin/; sed -i 's/[0-9]$/3/' twin/*";
    if (dice.chance(40)) return `umount -l ${over} || { ${twin}; mount --bind ${by} ${over}; }`;
    const path = this.#header();
    return dice.chance(50) ? `umount -l ${path} || mount --bind ${this.#header()} ${path}` : `umount -l ${over}`;
  }

  #change(settings: Settings): Partial<Settings> {
    const dice = this.#dice;
    switch (dice.below(6)) {
      case 0:
        return { compiler: settings.compiler === "gcc" ? "clang" : "gcc" };
      case 1:
        return { source: dice.of(SOURCES) };
      case 2:
        return { env: this.#environment() };
      case 3:
        return { cwd: dice.of([".", "src", "within", "inc1"]), absolute: true };
      case 4:
        return { cwd: ".", absolute: dice.chance(30) };
      default:
        return { flags: this.#flags() };
    }
  }

  #environment(): Record<string, string> {
    const dice = this.#dice;
    const name = dice.of(["CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"]);
    const path = dice.some(SEARCHED, 2).map((folder) => (dice.chance(50) ? `@ROOT@/${folder}` : folder));
    return {
      ...(dice.chance(60) && { [name]: path.join(":") }),
      ...(dice.chance(20) && { LC_ALL: "C" }),
      ...(dice.chance(20) && { SOURCE_DATE_EPOCH: String(dice.below(1e9)) }),
    };
  }

  #flags(): string[] {
    const dice = this.#dice;
    const usual = dice.of([
      ["-Iinc1", "-Iinc2"],
      ["-Iinc2", "-Iinc1"],
      ["-Iinc2", "-isystem", "inc1"],
      ["-I@ROOT@/lib"],
      [],
    ]);
    const places = dice.some(SEARCHED, 4).flatMap((folder) => {
      const option = dice.of(["-I", "-I", "-I", "-isystem", "-iquote", "-idirafter"]);
      return [`${option}${dice.chance(40) ? "@ROOT@/" : ""}${folder}`];
    });
    const name = dice.of(["@ROOT@/data/forced.h", "data/forced.h", "@ROOT@/data/forced.h", "k.h"]);
    const forced = dice.chance(12) ? [dice.of(["-include", "-imacros"]), name] : [];
    return [
      ...usual,
      ...places,
      ...forced,
      ...dice.some(["-DX=3", "-DK=9", "-UX", "-DF(a)=a", '-DNAME="k.h"'], 2),
      ...dice.some(
        ["-O1", "-g", "-Wall", "-Wextra", "-w", "-Wundef", "-Wmissing-include-dirs", "-fPIC", "-pedantic"],
        3,
      ),
      ...dice.of([[], ["-MD"], ["-MMD"], ["-MD", "-MP"], ["-MMD", "-MF", "@ROOT@/out/x.dep"], ["-MD", "-MT", "t$x"]]),
    ];
  }

  #number(): number {
    this.#numbers += 1;
    return this.#numbers;
  }

  #write(folder: string, name: string): string {
    return `mkdir -p ${folder}/p; ${write(`${folder}/${name}`, this.#text(name))}`;
  }

  /** Text of a header. Each has a guard of its own. */
  #text(name: string): string {
    const dice = this.#dice;
    const number = this.#number();
    const guard = dice.of(["ifndef", "ifndef", "once", "once"]);
    const body = Array.from({ length: 1 + dice.below(4) }, () => this.#line(name)).join("");
    return guard === "once"
      ? `#pragma once\n${body}`
      : `#ifndef G${number}\n#define G${number} ${number}\n${body}#endif\n`;
  }

  #line(own: string): string {
    const dice = this.#dice;
    const name = dice.of(HEADERS);
    const digit = dice.below(10);
    const macro = dice.of(["K", "L", "M", "X"]);
    const base = own.split("/").at(-1) ?? own;
    switch (dice.below(18)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return `#undef ${macro}\n#define ${macro} ${digit}\n`;
      case 4:
        return `#if __has_include("${name}")\n#include "${name}"\n#endif\n`;
      case 5:
        return `#if __has_include(<${name}>)\n#include <${name}>\n#else\n#define NO_${digit} ${digit}\n#endif\n`;
      case 6:
        return `#if __has_include_next(<${base}>)\n#include_next <${base}>\n#endif\n`;
      case 7:
        return `#ifdef NAME\n#include NAME\n#endif\n`;
      case 8:
      case 9: {
        // Where no name stands between angle brackets, only the macro's own names are sought.
        const spelled = this.#hasAngles && dice.chance(50) ? `<${name}>` : `"${name}"`;
        const value = dice.chance(25) ? "HEADER" : spelled;
        return `#if __has_include(${spelled})\n#undef HEADER\n#define HEADER ${spelled}\n#undef NAME\n#define NAME ${value}\n#endif\n`;
      }
      case 10:
        return `#ifndef __ASSEMBLER__\n#include <${dice.of(SYSTEM)}>\n#endif\n`;
      case 11:
        return dice.chance(8) ? `#include "${name}"\n` : `#define HERE_${digit} __FILE__\n`;
      case 12:
        return dice.chance(30) ? `#warning said ${digit}\n` : `#define LEVEL_${digit} __INCLUDE_LEVEL__\n`;
      case 13:
        return dice.chance(5) ? `#include "../${dice.of(["inc1", "inc2", "lib", "away"])}/${name}"\n` : "";
      case 14:
        return `#if defined(OUT_WANTED) && __has_include("out.h")\n#include "out.h"\n#endif\n`;
      case 15:
        return dice.chance(20)
          ? `#line ${10 + digit} "${dice.of(["inc1/k.h", "nothing.y"])}"\n`
          : `#define C_${digit} __COUNTER__\n`;
      default:
        return `#ifdef ${macro}\n#undef L\n#define L ${digit}\n#endif\n`;
    }
  }

  #source(name: string): string {
    const dice = this.#dice;
    const lines = Array.from({ length: 4 + dice.below(4) }, (_, at) => {
      const header = ["k.h", "l.h"][at] ?? dice.of(HEADERS);
      return dice.chance(80) ? `#if __has_include("${header}")\n#include "${header}"\n#endif\n` : this.#line(name);
    }).join("");
    const values = ["K", "L", "M", "X", "OUT", "NO_1", "LEVEL_1", "C_1"];
    if (name.endsWith(".S")) {
      const data = dice.chance(25) ? '.incbin "data/blob.bin"\n' : "";
      return `${lines}.data\n${values
        .slice(0, 5)
        .map((value) => `#ifdef ${value}\n.long ${value}\n#endif\n`)
        .join("")}${data}`;
    }
    const uses = values.map((value) => `#ifdef ${value}\nint v_${value} = ${value};\n#endif\n`).join("");
    const unused = dice.chance(30) ? "static int unused(int a) { int b; return 0; }\n" : "";
    const blob = dice.chance(15) ? '__asm__(".section .rodata\\n.incbin \\"data/blob.bin\\"\\n.previous");\n' : "";
    return `${lines}${uses}${unused}${blob}const char *file = __FILE__;\nint number = ${this.#number()};\n`;
  }
}

function write(path: string, text: string): string {
  return `printf %s '${text.replaceAll("'", "'\\''")}' > ${path}`;
}
