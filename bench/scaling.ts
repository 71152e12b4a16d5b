// `deno task bench:scaling`: time per token and peak memory from 250 to 8,000 tokens, for every
// family, forward and in training, as one table and one page with two plots. Recurrences should be
// flat per token; attention's time per token grows with the tokens, its memory must not.
import * as E from "fp-ts/Either.js";
import { parseArgs } from "cli";
import type { Backend, Program } from "../backends/backend.ts";
import { compile, programReport } from "../backends/webgpu/compile.ts";
import { node } from "../dsl/node.ts";
import { openBackend } from "../experiments/backend.ts";
import { filled, leavesOf } from "../experiments/explain.ts";
import { ensureFolder, fileErrorText, writeWhole } from "../experiments/files.ts";
import { count, escape } from "../experiments/report/html.ts";
import { style } from "../experiments/report/style.ts";
import { type Encoder, features } from "../models/encoder.ts";
import { corrected } from "../models/fidelity.ts";
import type { Spectrogram } from "../models/patches.ts";
import { type FamilyName, publishedEncoder } from "../models/sizes.ts";
import { trainingStep } from "../models/training.ts";
import { input } from "../dsl/ops.ts";
import { median } from "./measure.ts";

/** What is measured: embedding a clip, or a step of pre-training on it. */
export type Pass = "forward" | "training";

/** One measurement, for one clip. */
export interface Point {
  readonly family: FamilyName;
  readonly pass: Pass;
  readonly tokens: number;
  /** Bytes of intermediate values, known before anything runs. */
  readonly peakBytes: number;
  readonly kernels: number;
  /** Milliseconds; absent when only planned. */
  readonly ms?: number;
}

const MELS = 80;

/** A tiny encoder of so many blocks; the mLSTM in chunks, whose time is linear in the tokens. */
export const encoderOf = (family: FamilyName, depth: number): Encoder => {
  const of = { ...publishedEncoder(family, "tiny"), depth };
  return of.family === "xlstm" ? { ...of, form: "chunkwise" } : of;
};

/** The program of a pass over one clip of about so many tokens, and how many they are. */
export const programOf = (
  encoder: Encoder,
  pass: Pass,
  tokens: number,
): { readonly program: Program; readonly tokens: number } => {
  const perFrame = MELS / encoder.patch.frequency / encoder.patch.time;
  const frames = Math.round(tokens / perFrame / encoder.patch.time) * encoder.patch.time;
  if (pass === "forward") {
    const clip = input("spectrogram", { batch: 1, time: frames, mel: MELS });
    const of = features(encoder, corrected.rows)(clip as unknown as Spectrogram);
    const order = Object.keys(node(of).axes);
    return { program: { outputs: { features: { of, order } } }, tokens: frames * perFrame };
  }
  const { loss, updates } = trainingStep({
    encoder,
    objective: { style: "ssast" },
    masking: { kind: "unstructured", ratio: 0.5 },
    fidelity: corrected,
    batch: 1,
    frames,
    mels: MELS,
    seed: 0,
  }, { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05 });
  return {
    program: { outputs: { loss: { of: loss, order: [] } }, updates },
    tokens: frames * perFrame,
  };
};

const anyDevice = {
  name: "any device",
  limits: {
    maxStorageBuffersPerShaderStage: 10,
    maxStorageBufferBindingSize: 2 ** 32,
    maxBufferSize: 2 ** 40,
    minStorageBufferOffsetAlignment: 256,
  } as unknown as GPUSupportedLimits,
  target: { onCpu: false },
  oneForParams: true,
};

/** What a pass needs, without a device. */
export const planned = (family: FamilyName, pass: Pass, tokens: number, depth: number): Point => {
  const of = programOf(encoderOf(family, depth), pass, tokens);
  const { peakBytes, kernels } = programReport(compile(of.program, anyDevice));
  return { family, pass, tokens: of.tokens, peakBytes, kernels: kernels.length };
};

const RUNS = 3;

/** A pass on a device: the median of a few runs after one that does not count. */
const measured = async (
  backend: Backend,
  family: FamilyName,
  pass: Pass,
  tokens: number,
  depth: number,
): Promise<Point> => {
  const of = programOf(encoderOf(family, depth), pass, tokens);
  const machine = await backend.open({ main: of.program });
  try {
    const { peakBytes, kernels } = machine.report("main");
    const leaves = leavesOf(of.program);
    const inputs = filled(leaves.filter(({ op }) => op === "input"));
    machine.write(filled(leaves.filter(({ op }) => op === "param")));
    const times: number[] = [];
    for (let k = 0; k <= RUNS; k++) {
      const began = performance.now();
      await machine.run("main", inputs);
      if (k > 0) times.push(performance.now() - began);
    }
    return {
      family,
      pass,
      tokens: of.tokens,
      peakBytes,
      kernels: kernels.length,
      ms: median(times),
    };
  } finally {
    machine.close();
  }
};

const head = [
  "family",
  "pass",
  "tokens",
  "kernels",
  "peak MB",
  "KB per token",
  "ms",
  "µs per token",
];

const cells = ({ family, pass, tokens, kernels, peakBytes, ms }: Point): readonly string[] => [
  family,
  pass,
  `${tokens}`,
  `${kernels}`,
  (peakBytes / 1e6).toFixed(1),
  (peakBytes / tokens / 1e3).toFixed(1),
  ms === undefined ? "" : ms.toFixed(1),
  ms === undefined ? "" : (1000 * ms / tokens).toFixed(1),
];

const line = (texts: readonly string[]): string => `| ${texts.join(" | ")} |`;

/** All points as a table in Markdown. */
export const tableOf = (points: readonly Point[]): string =>
  [line(head), line(head.map(() => "---")), ...points.map((point) => line(cells(point)))].join(
    "\n",
  );

const COLOURS: Readonly<Record<FamilyName, string>> = {
  transformer: "var(--held-out)",
  mamba: "var(--train)",
  xlstm: "var(--baseline)",
};

/** One plot with both axes logarithmic: a line for each family and pass. */
const plot = (
  title: string,
  unit: string,
  points: readonly Point[],
  value: (point: Point) => number,
): string => {
  const width = 720, height = 360, left = 64, bottom = 40, top = 16, right = 16;
  const xs = points.map(({ tokens }) => tokens), ys = points.map(value);
  const low = { x: Math.min(...xs), y: Math.min(...ys) / 1.3 };
  const high = { x: Math.max(...xs), y: Math.max(...ys) * 1.3 };
  const share = (v: number, from: number, to: number) =>
    from === to ? 0.5 : Math.log(v / from) / Math.log(to / from);
  const px = (v: number) => left + share(v, low.x, high.x) * (width - left - right);
  const py = (v: number) => height - bottom - share(v, low.y, high.y) * (height - bottom - top);
  const steps = Array.from(
    { length: 60 },
    (_, k) => [1, 2, 5][k % 3] * 10 ** (Math.floor(k / 3) - 6),
  );
  const marks = steps.filter((v) => v >= low.y && v <= high.y).map((v) =>
    `<line class="grid" x1="${left}" x2="${width - right}" y1="${py(v)}" y2="${py(v)}"/>` +
    `<text x="${left - 8}" y="${py(v) + 4}" text-anchor="end">${Number(v.toPrecision(3))}</text>`
  );
  const below = [...new Set(xs)].map((v) =>
    `<text x="${px(v)}" y="${height - bottom + 18}" text-anchor="middle">${v}</text>`
  );
  const kinds = [...new Set(points.map(({ family, pass }) => `${family} ${pass}`))];
  const lines = kinds.map((kind) => {
    const [family, pass] = kind.split(" ") as [FamilyName, Pass];
    const own = points.filter((point) => point.family === family && point.pass === pass);
    const path = own.map((point) => `${px(point.tokens)},${py(value(point))}`).join(" L");
    const dash = pass === "forward" ? ` stroke-dasharray="5 4"` : "";
    const stroke = `style="stroke:${COLOURS[family]};stroke-width:2"`;
    return `<path d="M${path}" ${stroke}${dash}/>` +
      own.map((point) =>
        `<circle r="3" cx="${px(point.tokens)}" cy="${py(value(point))}" ` +
        `style="fill:${COLOURS[family]}"><title>${kind}, ${point.tokens} tokens: ` +
        `${value(point).toPrecision(3)} ${unit}</title></circle>`
      ).join("");
  });
  const legend = kinds.map((kind) => {
    const [family, pass] = kind.split(" ") as [FamilyName, Pass];
    const dash = pass === "forward" ? ` stroke-dasharray="5 4"` : "";
    return `<li><svg aria-hidden="true"><line x1="0" x2="100%" y1="50%" y2="50%" ` +
      `style="stroke:${COLOURS[family]};stroke-width:2"${dash}/></svg>${escape(kind)}</li>`;
  });
  return `<section><h2>${escape(title)}</h2><figure>
<ul class="legend">${legend.join("")}</ul>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(title)}">
${marks.join("")}${below.join("")}${lines.join("")}
<text x="${width - right}" y="${height - 4}" text-anchor="end">tokens</text>
<text x="${left}" y="${top - 4}">${escape(unit)}</text>
</svg></figure></section>`;
};

/** A page with the plots and the table, which needs no network and no script. */
export const pageOf = (points: readonly Point[], device: string, depth: number): string => {
  const timed = points.filter(({ ms }) => ms !== undefined);
  const rows = points.map((point) =>
    `<tr>${cells(point).map((text) => `<td>${escape(text)}</td>`).join("")}</tr>`
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Scaling with the tokens</title>
<link rel="icon" href="data:,">
<style>${style} .wide { overflow-x: auto; } .wide td, .wide th { padding: 0.3rem 0.6rem; }</style>
</head>
<body>
<header>
<p class="kind">Formant scaling</p>
<h1>Scaling with the tokens</h1>
<p>${escape(`Tiny encoders of ${count(depth, "block")} on one clip, on ${device}.`)}
The mLSTM cell of xLSTM is written in chunks. Dashed: forward; solid: a training step.</p>
</header>
<main>
${
    timed.length === 0
      ? ""
      : plot("Time per token", "µs", timed, ({ ms, tokens }) => 1000 * ms! / tokens)
  }
${plot("Peak memory of intermediate values", "MB", points, ({ peakBytes }) => peakBytes / 1e6)}
<section><h2>Numbers</h2><div class="wide"><table>
<tr>${head.map((text) => `<th>${escape(text)}</th>`).join("")}</tr>
${rows.join("\n")}
</table></div></section>
</main>
</body>
</html>
`;
};

const usage = `usage: deno task bench:scaling [options]
  --tokens A,B,...   lengths; 250,500,1000,2000,4000,8000
  --families A,B     transformer, mamba, xlstm
  --depth N          blocks; 2
  --device D         auto, gpu, wasm, software, ...
  --plan             only memory and kernels: nothing runs, no device is needed
  --out DIR          also writes scaling.html and scaling.json there
  --json             prints JSON rows instead of the table`;

const refuse = (why: string): never => {
  console.error(`${why}\n${usage}`);
  Deno.exit(2);
};

const main = async (): Promise<number> => {
  const { values } = (() => {
    try {
      return parseArgs({
        args: Deno.args,
        options: {
          tokens: { type: "string" },
          families: { type: "string" },
          depth: { type: "string" },
          device: { type: "string" },
          plan: { type: "boolean" },
          out: { type: "string" },
          json: { type: "boolean" },
          help: { type: "boolean" },
        },
      });
    } catch (error) {
      return refuse((error as Error).message.split(". ")[0]);
    }
  })();
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const lengths = (values.tokens ?? "250,500,1000,2000,4000,8000").split(",").map(Number);
  const wrong = lengths.find((n: number) => !(Number.isInteger(n) && n >= 20 && n <= 100_000));
  if (wrong !== undefined) refuse(`--tokens: expected whole numbers from 20 to 100000`);
  const known: readonly FamilyName[] = ["transformer", "mamba", "xlstm"];
  const families = (values.families ?? known.join()).split(",") as FamilyName[];
  const unknown = families.find((family) => !known.includes(family));
  if (unknown !== undefined) refuse(`there is no family '${unknown}'`);
  const depth = Number(values.depth ?? 2);
  if (!(Number.isInteger(depth) && depth > 0)) refuse("--depth: expected a whole number from 1");
  const chosen = values.plan ? undefined : await openBackend(values.device ?? "auto");
  if (chosen !== undefined && E.isLeft(chosen)) {
    console.error(chosen.left);
    return 1;
  }
  const backend = chosen?.right.backend;
  const points: Point[] = [];
  for (const family of families) {
    for (const pass of ["forward", "training"] as const) {
      for (const tokens of lengths) {
        try {
          points.push(
            backend === undefined
              ? planned(family, pass, tokens, depth)
              : await measured(backend, family, pass, tokens, depth),
          );
          console.error(cells(points[points.length - 1]).join("  "));
        } catch (error) {
          if (!(error instanceof RangeError)) throw error;
          console.error(`${family}, ${pass}, ${tokens} tokens: ${error.message}`);
        }
      }
    }
  }
  if (values.json) points.forEach((point) => console.log(JSON.stringify(point)));
  else console.log(tableOf(points));
  if (values.out !== undefined && points.length > 0) {
    const device = backend?.device ?? "paper: only planned";
    const pages = {
      "scaling.html": pageOf(points, device, depth),
      "scaling.json": JSON.stringify(points),
    };
    const folder = await ensureFolder(values.out)();
    if (E.isLeft(folder)) {
      console.error(fileErrorText(folder.left));
      return 1;
    }
    for (const [name, text] of Object.entries(pages)) {
      const written = await writeWhole(`${values.out}/${name}`, text)();
      if (E.isLeft(written)) {
        console.error(fileErrorText(written.left));
        return 1;
      }
    }
    console.error(`${values.out}/scaling.html`);
  }
  backend?.close();
  return 0;
};

if (import.meta.main) Deno.exit(await main());
