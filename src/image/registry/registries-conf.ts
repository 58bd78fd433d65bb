// Where an image's registry is dialled, by Podman's registries.conf: other locations, mirrors, blocked and insecure registries.
// Without that file: the registry itself. Format: containers-registries.conf(5), version 2.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, TomlError } from "smol-toml";
import { HpccError } from "../../base/errors.ts";
import { type ImageName, parseImageName, repositoryOf } from "../../core/image/image-name.ts";

export interface Source {
  readonly registry: string;
  readonly repository: string;
  readonly insecure: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

interface Location {
  readonly location: string;
  readonly insecure: boolean;
  readonly pulls: "all" | "digest-only" | "tag-only";
}

interface Rule extends Location {
  readonly prefix: string;
  readonly blocked: boolean;
  readonly mirrors: readonly Location[];
}

const RULES_MAX = 1000;
const SYSTEM = "/etc/containers/registries.conf";

/** registries.conf and what stands in the folder beside it. */
function configFiles(env: Environment): string[] {
  const named = env["CONTAINERS_REGISTRIES_CONF"];
  if (named !== undefined && named !== "") return [named];
  const home = env["XDG_CONFIG_HOME"] ?? (env["HOME"] === undefined ? undefined : join(env["HOME"], ".config"));
  const own = home === undefined ? null : join(home, "containers/registries.conf");
  const dropIns = [`${SYSTEM}.d`, ...(own === null ? [] : [`${own}.d`])].flatMap((folder) =>
    existsSync(folder)
      ? readdirSync(folder)
          .filter((name) => name.endsWith(".conf"))
          .sort()
          .map((name) => join(folder, name))
      : [],
  );
  const main = own !== null && existsSync(own) ? own : SYSTEM;
  return [...(existsSync(main) ? [main] : []), ...dropIns];
}

/** The places to ask for an image, in order: mirrors, then its registry. Without mirrors for `writing`. */
export function sourcesOf(env: Environment, name: ImageName, writing = false): Source[] {
  const full = repositoryOf(name);
  const rule = configFiles(env)
    .flatMap(readRules)
    .filter(({ prefix }) => matches(prefix, full))
    // Of equally long ones the last file's.
    .reduce<Rule | null>((best, one) => (best === null || one.prefix.length >= best.prefix.length ? one : best), null);
  if (rule === null) return [{ registry: name.registry, repository: name.repository, insecure: false }];
  if (rule.blocked)
    throw new HpccError("registry.denied", `registries.conf blocks ${rule.prefix}`, {
      hint: "Ask who administers this machine, or take the image from another registry.",
    });
  const wanted = name.digest === null ? "tag-only" : "digest-only";
  const mirrors = writing ? [] : rule.mirrors.filter(({ pulls }) => pulls === "all" || pulls === wanted);
  return [...mirrors, rule].map(({ location, insecure }) => {
    const rest = rule.prefix.startsWith("*.") ? full.slice(full.indexOf("/")) : full.slice(rule.prefix.length);
    const { registry, repository } = parseImageName(`${location === "" ? rule.prefix : location}${rest}`);
    return { registry, repository, insecure };
  });
}

function matches(prefix: string, full: string): boolean {
  if (prefix.startsWith("*.")) return full.slice(0, full.indexOf("/")).endsWith(prefix.slice(1));
  return full === prefix || full.startsWith(`${prefix}/`);
}

function readRules(path: string): Rule[] {
  let parsed: Record<string, unknown>;
  try {
    parsed = parse(readFileSync(path, "utf8"), { maxDepth: 16 });
  } catch (cause) {
    const why = cause instanceof TomlError ? `:${cause.line}: ${cause.message.split("\n")[0]}` : " cannot be read";
    throw new HpccError("config.invalid", `${path}${why}`, { cause });
  }
  return tablesOf(parsed["registry"], path).map((table) => {
    const place = location(table);
    const prefix = typeof table["prefix"] === "string" && table["prefix"] !== "" ? table["prefix"] : place.location;
    if (prefix === "") throw new HpccError("config.invalid", `${path}: a registry has neither prefix nor location`);
    const digestsOnly = table["mirror-by-digest-only"] === true;
    const mirrors = tablesOf(table["mirror"], path).map((mirror) => {
      const { location: at, insecure, pulls } = location(mirror);
      return { location: at, insecure, pulls: digestsOnly && pulls === "all" ? ("digest-only" as const) : pulls };
    });
    return { ...place, prefix, blocked: table["blocked"] === true, mirrors };
  });
}

function location(table: Readonly<Record<string, unknown>>): Location {
  const pulls = table["pull-from-mirror"];
  return {
    location: typeof table["location"] === "string" ? table["location"] : "",
    insecure: table["insecure"] === true,
    pulls: pulls === "digest-only" || pulls === "tag-only" ? pulls : "all",
  };
}

function tablesOf(value: unknown, path: string): Readonly<Record<string, unknown>>[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > RULES_MAX)
    throw new HpccError("config.invalid", `${path}: its list of registries or mirrors is none`);
  return value.filter((item): item is Record<string, unknown> => typeof item === "object" && item !== null);
}
