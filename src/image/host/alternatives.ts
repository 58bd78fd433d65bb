// Debian's alternatives (`/usr/bin/cc -> /etc/alternatives/cc -> /usr/bin/gcc`): no package lists these links, so the image
// makes them again from the groups' own files. Pure.

export interface AlternativeGroup {
  readonly name: string;
  readonly automatic: boolean;
  /** The generic links: the group's own first, then its slaves, each with its name in /etc/alternatives. */
  readonly links: readonly { readonly name: string; readonly link: string }[];
  readonly choices: readonly AlternativeChoice[];
}

export interface AlternativeChoice {
  readonly priority: number;
  /** Targets, one per link of the group; empty where a choice lacks a slave. */
  readonly targets: readonly string[];
}

export interface AlternativeLink {
  readonly path: string;
  readonly target: string;
}

/** Parses a file of /var/lib/dpkg/alternatives; null when it is not of that form. */
export function parseAlternativeGroup(name: string, text: string): AlternativeGroup | null {
  const lines = text.split("\n");
  const mode = lines[0];
  if (mode !== "auto" && mode !== "manual") return null;
  const main = lines[1];
  if (main === undefined || main === "") return null;
  const links = [{ name, link: main }];
  let at = 2;
  for (; lines[at] !== undefined && lines[at] !== ""; at += 2)
    links.push({ name: lines[at]!, link: lines[at + 1] ?? "" });
  at += 1;
  const choices: AlternativeChoice[] = [];
  while (lines[at] !== undefined && lines[at] !== "") {
    const priority = Number(lines[at + 1]);
    if (!Number.isInteger(priority)) return null;
    const slaves = lines.slice(at + 2, at + 1 + links.length);
    choices.push({ priority, targets: [lines[at]!, ...slaves] });
    at += 1 + links.length;
  }
  return { name, automatic: mode === "auto", links, choices };
}

/**
 * The links that a group gets in an image: those of the host's choice when the image has its target, else of the best
 * choice that it has. `current` is the target of the host's link.
 */
export function alternativeLinks(
  group: AlternativeGroup,
  current: string | null,
  isInImage: (path: string) => boolean,
): AlternativeLink[] {
  const here = group.choices.filter((choice) => isInImage(choice.targets[0]!));
  const best = [...here].sort((a, b) => b.priority - a.priority)[0];
  const chosen = (group.automatic ? null : here.find((choice) => choice.targets[0] === current)) ?? best;
  if (chosen === undefined) return [];
  return group.links.flatMap(({ name, link }, at) => {
    const target = chosen.targets[at] ?? "";
    if (target === "" || link === "" || !isInImage(target)) return [];
    const between = `/etc/alternatives/${name}`;
    return [
      { path: link, target: between },
      { path: between, target },
    ];
  });
}
