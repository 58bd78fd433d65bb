// Paths without the slashes at their end. Pure.

/** The empty string for a path of slashes alone. No regular expression: one would look at each run of slashes anew. */
export function withoutTrailingSlashes(path: string): string {
  let end = path.length;
  while (end > 0 && path[end - 1] === "/") end -= 1;
  return path.slice(0, end);
}
