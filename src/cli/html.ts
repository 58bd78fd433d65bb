// Pages that need nothing but themselves: no script, nothing from elsewhere, and every value escaped unless it is made here.
import { createHash } from "node:crypto";

/** HTML that was made here. */
export interface Html {
  readonly html: string;
}

type Part = string | number | Html | readonly (string | Html)[] | null | false;

/** Puts values into HTML: texts are escaped, whatever they are. */
export function html(strings: TemplateStringsArray, ...values: readonly Part[]): Html {
  return { html: strings.map((text, at) => text + (at < values.length ? partOf(values[at]!) : "")).join("") };
}

function partOf(value: Part): string {
  if (value === null || value === false) return "";
  if (typeof value === "string") return escaped(value);
  if (typeof value === "number") return String(value);
  if ("html" in value) return value.html;
  return value.map(partOf).join("");
}

/** Controls, and what turns the direction of text or cannot be seen, is shown by its number: a name must not look like another. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/gu;

/** Longer values are cut: a page has room for names, and whoever made them up could fill it. */
const TEXT_LENGTH_MAX = 1_000;

function escaped(text: string): string {
  const shown =
    text.length > TEXT_LENGTH_MAX
      ? `${text.slice(0, TEXT_LENGTH_MAX)} [and ${text.length - TEXT_LENGTH_MAX} characters]`
      : text;
  return shown
    .replace(UNSEEN, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`)
    .replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** The page, under a policy that lets a browser load and run nothing but this style. */
export function page(parts: { readonly title: string; readonly style: string; readonly body: Html }): string {
  const { title, style, body } = parts;
  const digest = createHash("sha256").update(style).digest("base64");
  const policy = `default-src 'none'; style-src 'sha256-${digest}'; base-uri 'none'; form-action 'none'`;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>${title}</title>
<style>${{ html: style }}</style>
</head>
<body>
${body}
</body>
</html>
`.html;
}
