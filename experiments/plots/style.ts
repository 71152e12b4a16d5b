// The style of reports: one column of text and tables, light or dark as the reader's system is set.

/** The style sheet of a report. */
export const style = `
:root {
  color-scheme: light dark;
  --page: #fdfdfc; --ink: #1c1d21; --soft: #62656e; --line: #dddcd8; --faint: #efeeea;
  --held-out: #b0235f; --train: #3a5f8f; --baseline: #74777f; --masked: #c9c8c4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #141518; --ink: #e6e5e1; --soft: #9a9ca4; --line: #34363c; --faint: #222429;
    --held-out: #f0719f; --train: #82aee3; --baseline: #94979f; --masked: #55585f;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 3.5rem 1.25rem 5rem; max-width: 71rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1, h2, h3 { line-height: 1.2; font-weight: 600; text-wrap: balance; }
h1 { margin: 0; font-size: 2.1rem; letter-spacing: -0.02em; }
h2 { margin: 3.5rem 0 1rem; font-size: 1.3rem; letter-spacing: -0.01em; }
h3 { margin: 0; font-size: 1rem; overflow-wrap: anywhere; }
p { margin: 0.75rem 0; max-width: 44rem; text-wrap: pretty; }
header p { font-size: 1.1rem; }
.kind, .soft, figcaption span { color: var(--soft); }
.kind { margin: 0 0 0.4rem; font-size: 0.9rem; }
a { color: var(--train); }
figure { margin: 0; }
code, pre { font: 0.85em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }

.numbers { display: grid; gap: 0 3rem; margin-top: 2.25rem; }
table { width: 100%; border-collapse: collapse; align-self: start; font-size: 0.95rem; }
caption { padding-bottom: 0.4rem; text-align: left; font-weight: 600; }
th, td { padding: 0.42rem 0; border-top: 1px solid var(--line); vertical-align: baseline; }
th { padding-right: 1rem; text-align: left; font-weight: 400; color: var(--soft); }
td { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
tr.main > * { font-weight: 600; color: var(--ink); }
table + table { margin-top: 1.75rem; }
table.list td, table.list th { overflow-wrap: anywhere; text-align: left; }

svg { display: block; overflow: visible; }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
svg line { stroke: var(--soft); }
svg path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }

.plot { padding: 2rem 0.5rem 2.7rem 3rem; }
.plot > svg { width: 100%; height: clamp(14rem, 38vw, 22rem); }
svg .grid { stroke: var(--line); }
svg .held-out { stroke: var(--held-out); stroke-width: 2.25; }
svg circle.held-out { fill: var(--held-out); stroke: var(--page); stroke-width: 1.5; }
svg .train { stroke: var(--train); stroke-width: 1.75; }
svg .raw { stroke: var(--train); stroke-width: 1; opacity: 0.5; }
svg .baseline { stroke: var(--baseline); stroke-width: 1.5; stroke-dasharray: 6 4; }
svg .b1 { stroke-dasharray: 2 3; }
svg .b2 { stroke-dasharray: 10 3 2 3; }
.legend {
  display: flex; flex-wrap: wrap; gap: 0.25rem 1.5rem; margin: 0; padding: 0;
  list-style: none; font-size: 0.9rem;
}
.legend svg { display: inline-block; width: 1.75rem; height: 0.8rem; margin-right: 0.5rem; }

.example { margin-top: 2.25rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
.example > header { display: flex; flex-wrap: wrap; gap: 0.1rem 1.5rem; align-items: baseline; }
.example > header p { margin: 0; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
.panels { display: grid; gap: 0.9rem 2rem; margin-top: 0.9rem; }
.panel figcaption { font-size: 0.9rem; }
.panel figcaption span { margin-left: 0.4em; }
.axes { position: relative; margin: 1.35rem 0.6rem 1.7rem 2.6rem; }
.axes img {
  display: block; width: 100%; height: auto; aspect-ratio: 5 / 2;
  background: var(--masked); image-rendering: pixelated;
}
.axes > svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.scale {
  display: flex; flex-wrap: wrap; gap: 0 1.5rem; align-items: center;
  margin-top: 1.25rem; font-size: 0.9rem; color: var(--soft);
}
.axes.bar { flex: 1 1 16rem; max-width: 26rem; margin: 0.3rem 0 1.7rem; }
.axes.bar img { height: 0.9rem; aspect-ratio: auto; }
.scale figcaption { margin-bottom: 1.2rem; }
.hidden-tone::before {
  content: ""; display: inline-block; width: 1.3em; height: 0.9em; margin: 0 0.5em 0 1.5em;
  vertical-align: -0.08em; background: var(--masked);
}

details > table { margin-top: 0.6rem; }
details { margin-top: 1rem; border-top: 1px solid var(--line); padding-top: 0.8rem; }
summary { cursor: pointer; font-weight: 600; }
summary::marker { color: var(--soft); }
pre { overflow-x: auto; padding: 1rem; background: var(--faint); border-radius: 4px; }

@media (min-width: 46rem) {
  .numbers { grid-template-columns: 1fr 1fr; }
  table + table { margin-top: 0; }
  .panels { grid-template-columns: 1fr 1fr; }
}
@media (max-width: 30rem) {
  body { padding: 2rem 1rem 3rem; }
  h1 { font-size: 1.7rem; }
  .axes { margin-right: 0.75rem; }
  .plot { padding-left: 2.4rem; padding-right: 0.75rem; }
}
@media print {
  body { padding: 0; }
  .example, .loss { break-inside: avoid; }
}
`;

/** Colours of the families of encoders, where they are drawn next to each other. */
export const familyStyle = `
:root { --transformer: var(--held-out); --mamba: var(--train); --xlstm: #2f7d57; --module: #9a6a12; }
@media (prefers-color-scheme: dark) { :root { --xlstm: #74c69d; --module: #dcb25f; } }
${
  ["transformer", "mamba", "xlstm", "module"].map((family) =>
    `svg .${family} { stroke: var(--${family}); } circle.${family} { fill: var(--${family}); }`
  ).join("\n")
}
`;
