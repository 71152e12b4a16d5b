// The results of scaling: a table in Markdown, and a page with two plots.
import * as E from "fp-ts/Either.js";
import type { FamilyName } from "../../models/sizes.ts";
import { count, escape, wholeText } from "../plots/html.ts";
import { type Line, linesFigure } from "../plots/line_chart.ts";
import { familyStyle, style } from "../plots/style.ts";
import type { Found, Pass, Point } from "./scaling.ts";

/** All measurements, and their conditions. */
export interface Scaling {
  /** The device in words; undefined if programs were only planned. */
  readonly device?: string;
  /** Number of blocks of the encoders. */
  readonly depth: number;
  readonly points: readonly Point[];
}

/** Families by their names in tables: the form of a cell decides how time grows. */
const called: Readonly<Record<FamilyName, string>> = {
  transformer: "transformer",
  mamba: "mamba",
  xlstm: "xlstm, chunkwise",
};

const megabytes = ({ peakBytes }: Found): number => peakBytes / 1e6;
const microseconds = ({ time }: Found, tokens: number): number | undefined =>
  time === undefined ? undefined : 1000 * time.ms / tokens;

/** How a pass's cost per token varies: its largest value over its smallest. */
export interface Spread {
  readonly family: FamilyName;
  readonly pass: Pass;
  readonly from: number;
  readonly to: number;
  readonly memory: number;
  /** Absent if nothing was run. */
  readonly time?: number;
}

/** The spread of every family and pass measured at two or more lengths. */
export const spreads = (points: readonly Point[]): readonly Spread[] =>
  kindsOf(points).flatMap(({ family, pass }) => {
    const own = found(points, family, pass);
    if (own.length < 2) return [];
    const ratio = (values: readonly number[]) => Math.max(...values) / Math.min(...values);
    const times = own.flatMap(({ tokens, of }) => microseconds(of, tokens) ?? []);
    return [{
      family,
      pass,
      from: Math.min(...own.map(({ tokens }) => tokens)),
      to: Math.max(...own.map(({ tokens }) => tokens)),
      memory: ratio(own.map(({ tokens, of }) => of.peakBytes / tokens)),
      ...(times.length < own.length ? {} : { time: ratio(times) }),
    }];
  });

const kindsOf = (points: readonly Point[]): readonly Pick<Point, "family" | "pass">[] =>
  points.filter(({ family, pass }, k) =>
    points.findIndex((other) => other.family === family && other.pass === pass) === k
  );

const found = (points: readonly Point[], family: FamilyName, pass: Pass) =>
  points.filter((point) => point.family === family && point.pass === pass)
    .flatMap(({ tokens, found }) => E.isRight(found) ? [{ tokens, of: found.right }] : []);

const head = (timed: boolean): readonly string[] => [
  "family",
  "pass",
  "tokens",
  "kernels",
  "peak MB",
  "KB per token",
  ...(timed ? ["ms", "µs per token"] : []),
];

/** The cells of a point; one cell if there is only a reason. */
const cells = (point: Point): readonly string[] => {
  const first = [called[point.family], point.pass, `${point.tokens}`];
  if (E.isLeft(point.found)) {
    const { _tag, why } = point.found.left;
    return [...first, `${_tag === "Refused" ? "refused" : "failed"}: ${why}`];
  }
  const of = point.found.right, per = microseconds(of, point.tokens);
  return [
    ...first,
    `${of.kernels}`,
    megabytes(of).toFixed(2),
    (of.peakBytes / point.tokens / 1e3).toFixed(2),
    ...(of.time === undefined ? [] : [of.time.ms.toFixed(1), per!.toFixed(1)]),
  ];
};

/** A point as one line, printed while the others are still measured. */
export const pointText = (point: Point): string => {
  const [family, pass, tokens, ...rest] = cells(point);
  if (E.isLeft(point.found)) return `${family}, ${pass}, ${tokens} tokens: ${rest[0]}`;
  const [kernels, peak, , ms, per] = rest;
  return `${family}, ${pass}, ${tokens} tokens: ${kernels} kernels, ${peak} MB` +
    (ms === undefined ? "" : `, ${ms} ms, ${per} µs per token`);
};

const spreadText = ({ family, pass, from, to, memory, time }: Spread): string =>
  `${called[family]}, ${pass}, ${from} to ${to} tokens: peak memory per token within a factor of ` +
  memory.toFixed(2) + (time === undefined ? "" : `, time per token of ${time.toFixed(2)}`);

const about = ({ device, depth }: Scaling): string =>
  `Tiny encoders of ${count(depth, "block")} on one clip, ` +
  `${
    device === undefined ? "planned and not run" : `on ${device}`
  }. Peak memory is of intermediate ` +
  `values and known before running; parameters and inputs are not counted. ` +
  `xLSTM's mLSTM cell is the chunkwise form, whose work grows with the tokens.`;

/** Everything as one table in Markdown, with conditions above and spreads below. */
export const tableText = (of: Scaling): string => {
  const columns = head(of.device !== undefined);
  const line = (texts: readonly string[]): string =>
    `| ${columns.map((_, k) => (texts[k] ?? "").replaceAll("|", "\\|")).join(" | ")} |`;
  const rule = `|${columns.map((_, k) => k < 2 ? " --- " : " ---: ").join("|")}|`;
  const even = spreads(of.points).map((spread) => `- ${spreadText(spread)}`);
  return [
    about(of),
    "",
    line(columns),
    rule,
    ...of.points.map((point) => line(cells(point))),
    ...(even.length === 0 ? [] : ["", ...even]),
  ].join("\n");
};

/** Everything as one JSON object; bytes, milliseconds, and `refused` or `failed` with the reason. */
export const scalingJson = ({ device, depth, points }: Scaling): string =>
  JSON.stringify(
    {
      device,
      depth,
      points: points.map(({ family, pass, tokens, found }) => ({
        family,
        ...(family === "xlstm" ? { form: "chunkwise" } : {}),
        pass,
        tokens,
        ...(E.isLeft(found)
          ? { [found.left._tag === "Refused" ? "refused" : "failed"]: found.left.why }
          : {
            kernels: found.right.kernels,
            peakBytes: found.right.peakBytes,
            ...found.right.time,
          }),
      })),
      spreads: spreads(points),
    },
    null,
    2,
  );

const linesOf = (
  points: readonly Point[],
  value: (of: Found, tokens: number) => number | undefined,
): readonly Line[] =>
  kindsOf(points).map(({ family, pass }) => ({
    name: `${called[family]}, ${pass}`,
    look: `${family} ${pass}`,
    points: found(points, family, pass).flatMap(({ tokens, of }) => {
      const y = value(of, tokens);
      return y === undefined ? [] : [{ x: tokens, y }];
    }),
  }));

const looks = `
svg .forward, svg .training { stroke-width: 2; }
svg line.forward, svg path.forward { stroke-dasharray: 6 4; }
svg circle.forward, svg circle.training { stroke: var(--page); stroke-width: 1; }
.wide { overflow-x: auto; }
.wide td, .wide th { padding: 0.3rem 0 0.3rem 1.5rem; white-space: nowrap; overflow-wrap: normal; }
.wide th { text-align: right; }
.wide :is(td, th):nth-child(-n + 2) { padding-left: 0; padding-right: 1rem; text-align: left; }
.wide td.why { white-space: normal; min-width: 18rem; text-align: left; }
`;

const htmlTable = (of: Scaling): string => {
  const columns = head(of.device !== undefined);
  const rows = of.points.map((point) => {
    const texts = cells(point);
    const last = E.isLeft(point.found) ? texts.length - 1 : -1;
    const each = texts.map((text, k) =>
      k === last
        ? `<td class="why" colspan="${columns.length - last}">${escape(text)}</td>`
        : `<td>${escape(text)}</td>`
    );
    return `<tr>${each.join("")}</tr>`;
  });
  return `<div class="wide"><table>
<tr>${columns.map((text) => `<th scope="col">${escape(text)}</th>`).join("")}</tr>
${rows.join("\n")}
</table></div>`;
};

const figure = (
  title: string,
  said: string,
  unit: string,
  lines: readonly Line[],
): string => {
  const drawn = linesFigure(lines, {
    along: "tokens",
    unit,
    about: `${title} in ${unit} by tokens`,
  });
  return drawn === "" ? "" : `<section>
<h2>${escape(title)}</h2>
<p>${escape(said)}</p>
${drawn}
</section>`;
};

/** Everything as one HTML document without network access or scripts. */
export const scalingPage = (of: Scaling): string => {
  const lengths = of.points.map(({ tokens }) => tokens);
  const range = lengths.length === 0
    ? ""
    : `, ${wholeText(Math.min(...lengths))} to ${wholeText(Math.max(...lengths))} tokens`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Time and memory by length</title>
<link rel="icon" href="data:,">
<style>${style}${familyStyle}${looks}</style>
</head>
<body>
<header>
<p class="kind">Formant scaling${range}</p>
<h1>Time and memory by length</h1>
<p>${escape(about(of))}</p>
</header>
<main>
${
    figure(
      "Time per token",
      "A level line is time that grows with the tokens, a rising one more than that.",
      "µs",
      linesOf(of.points, microseconds),
    )
  }
${
    figure(
      "Peak memory",
      "Twice the tokens take twice the memory where a line rises by the same factor.",
      "MB",
      linesOf(of.points, megabytes),
    )
  }
<section>
<h2>Numbers</h2>
${htmlTable(of)}
<ul>${spreads(of.points).map((spread) => `<li>${escape(spreadText(spread))}</li>`).join("\n")}</ul>
</section>
</main>
</body>
</html>
`;
};
