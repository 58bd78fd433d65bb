// The looks of pages: light, dark and paper. No font, image or file from anywhere.

export const REPORT_STYLE = `
:root {
  color-scheme: light dark;
  --page: light-dark(#f6f7f9, #14171c);
  --sheet: light-dark(#ffffff, #1c2027);
  --ink: light-dark(#1b2330, #e6e9ee);
  --soft: light-dark(#566173, #a3adbb);
  --line: light-dark(#dde2e9, #333a45);
  --stripe: light-dark(#f7f9fb, #21262e);
  --accent: light-dark(#1f5fbf, #7fb0ff);
  --good: light-dark(#14683c, #6fd49b);
  --good-back: light-dark(#e6f4ec, #153324);
  --bad: light-dark(#a3201d, #ff9c96);
  --bad-back: light-dark(#fcebea, #3d1b1b);
  --note: light-dark(#7a4b00, #f0c26b);
  --note-back: light-dark(#fdf4e1, #37290f);
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { margin: 0 0 .3rem; font-size: 2rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 3rem 0 .3rem; font-size: 1.3rem; line-height: 1.3; }
h3 { margin: 1.6rem 0 .2rem; font-size: 1rem; }
p { margin: .3rem 0 .8rem; max-width: 52rem; }
.over { color: var(--accent); font-weight: 600; font-size: .85rem; letter-spacing: .06em; text-transform: uppercase; }
.soft, caption, .none { color: var(--soft); }
.none { margin: .5rem 0; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; padding: 0; margin: 1.2rem 0 0; list-style: none; font-size: .9rem; }
a { color: var(--accent); }
a:focus-visible, [tabindex]:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
code { font: .92em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.verdict { margin: 1.5rem 0 0; padding: .9rem 1.1rem; border-radius: .5rem; border-left: .35rem solid; font-size: 1.05rem; }
.verdict strong { display: block; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--note); }
.verdict.good { background: var(--good-back); } .verdict.bad { background: var(--bad-back); }
.verdict.warn { background: var(--note-back); }
.verdict span { color: var(--ink); font-size: .95rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); gap: .8rem; margin: 1.4rem 0 0; padding: 0; list-style: none; }
.cards li { background: var(--sheet); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; }
.cards b { display: block; font-size: 1.75rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.cards small { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; margin: .6rem 0 0; background: var(--sheet); border: 1px solid var(--line); border-radius: .5rem; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; padding: .6rem .8rem 0; font-size: .85rem; }
th, td { padding: .45rem .8rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: .8rem; white-space: nowrap; vertical-align: bottom; }
tbody th { font-weight: 500; }
tbody tr:nth-child(even) { background: var(--stripe); }
td.num, th.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.when, th.when { white-space: nowrap; }
.name { overflow-wrap: anywhere; min-width: 11rem; }
.more { margin: .4rem 0 0; color: var(--soft); font-size: .85rem; }
.bar { display: block; margin-top: .35rem; width: 9rem; height: .7rem; border-radius: .2rem; background: var(--line); }
.bar rect { fill: var(--accent); }
.tag { font-weight: 600; }
.tag, .one { white-space: nowrap; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .85rem; }
@media print {
  :root { color-scheme: light; }
  @page { margin: 15mm 12mm; }
  body { background: #fff; font-size: 9.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2 { margin-top: 1.6rem; } h2, h3, caption { break-after: avoid; }
  .scroll { overflow: visible; border: 0; background: none; }
  .cards { grid-template-columns: repeat(4, 1fr); }
  .cards li, .verdict, tr { break-inside: avoid; }
  thead { display: table-header-group; }
  th, td { padding: .25rem .4rem; }
  table { font-size: 8.5pt; }
  td.when { white-space: normal; }
  .bar { width: 5rem; border: 1px solid #666; background: #fff; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
