// The report page of a pre-training run: a summary, the numbers, the loss over the run, and spectrograms
// of held-out clips before and after. It is one self-contained file, and a pure function of data.
import type { Metric, Timing } from "./metrics.ts";
import { fidelityOf } from "../encoders/config.ts";
import type { Spec } from "../specs/spec.ts";
import { count, durationText, escape, lossText, wholeText } from "../plots/html.ts";
import { type Baseline, lossFigure } from "./loss_chart.ts";
import {
  colourBar,
  colourRange,
  type Example,
  panels,
  score,
  type Spectrogram,
} from "../plots/spectrogram.ts";
import { style } from "../plots/style.ts";

export type { Baseline, Example, Metric, Spec, Spectrogram, Timing };

/** The content of a report. */
export interface ReportData {
  /** The spec of the run. */
  readonly spec: Spec;
  /** The device's description. */
  readonly device: string;
  /** Number of trained parameters of the model. */
  readonly parameters: number;
  /** The recordings. */
  readonly clips: {
    /** Where they come from, to follow "from", e.g. `the synthesised corpus`. */
    readonly source: string;
    readonly training: number;
    readonly heldOut: number;
  };
  /** The metrics so far, by step. */
  readonly metrics: readonly Metric[];
  /** The timings, by step. */
  readonly timings: readonly Timing[];
  /** Baselines without training, over the held-out clips; the summary compares with the first. */
  readonly baselines: readonly Baseline[];
  /** Held-out clips, in the order shown. */
  readonly examples: readonly Example[];
  /** The unit of a spectrogram's values, e.g. `standard deviations from the clip's mean`. */
  readonly units: string;
  /** Skipped files, and why. */
  readonly skipped: readonly { readonly path: string; readonly reason: string }[];
  /** Further notes for the reader, one paragraph each. */
  readonly notes: readonly string[];
  /** Versions of software, by name. */
  readonly versions: Readonly<Record<string, string>>;
}

/**
 * The report as one HTML document without network access or scripts. Throws if sizes of spectrograms or
 * masks do not match.
 */
export function reportPage(data: ReportData): string {
  const { spec } = data;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(spec.name)}: a pre-training run</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body>
<header>
<p class="kind">Formant pre-training report</p>
<h1>${escape(spec.name)}</h1>
<p>${summary(data)}</p>
${data.notes.map((note) => `<p class="soft">${escape(note)}</p>`).join("\n")}
</header>
<main>
${numbers(data)}
<section>
<h2>Loss</h2>
<p>Mean squared error of the reconstruction by training step: of training batches over
${lossOver(spec)}, of held-out clips over the hidden ones.</p>
${lossFigure(data.metrics, data.baselines)}
</section>
${examples(data)}
${downstream(spec)}
</main>
<footer>
<h2>What was run</h2>
${skippedFiles(data)}
${details("Specification", `<pre>${escape(JSON.stringify(spec, null, 2))}</pre>`)}
${details("Versions", rows("list", "", Object.entries(data.versions)))}
</footer>
</body>
</html>
`;
}

interface Outcome {
  readonly steps: number;
  readonly seconds: number;
  readonly first?: Metric;
  readonly last?: Metric;
  readonly best?: Metric;
  readonly clipsPerSecond?: number;
}

function outcome({ metrics, timings }: Pick<ReportData, "metrics" | "timings">): Outcome {
  const measured = metrics.filter((metric) => metric.heldOutLoss !== undefined);
  const end = metrics[metrics.length - 1];
  const speeds = timings.flatMap((timing) => timing.clipsPerSecond ?? []).sort((a, b) => a - b);
  return {
    steps: end?.step ?? 0,
    seconds: timings.at(-1)?.elapsed ?? 0,
    first: measured[0],
    last: measured[measured.length - 1],
    best: measured.reduce<Metric | undefined>(
      (best, metric) =>
        best === undefined || metric.heldOutLoss! < best.heldOutLoss! ? metric : best,
      undefined,
    ),
    // The median: the first steps wait for compilation.
    clipsPerSecond: speeds[Math.floor(speeds.length / 2)],
  };
}

const families: Readonly<Record<Spec["encoder"]["family"], string>> = {
  transformer: "Transformer",
  mamba: "Mamba",
  xlstm: "xLSTM",
  module: "custom",
};

const lossOver = (spec: Spec): string =>
  fidelityOf(spec.fidelity).loss === "all" ? "all patches" : "the hidden patches";

const fidelityText = ({ fidelity }: Spec): string =>
  typeof fidelity === "string" ? fidelity : `${fidelity.from}, but for some points`;

// The summary at the top. It reports the result, also if the run went badly.
function summary(data: ReportData): string {
  const { spec, clips, parameters, baselines } = data;
  const { steps, seconds, first, last } = outcome(data);
  const planned = spec.schedule.steps;
  const made = steps < planned
    ? `${wholeText(steps)} of ${count(planned, "step")}`
    : count(steps, "step");
  const trained = `A ${families[spec.encoder.family]} encoder of ${wholeText(parameters)} ` +
    `parameters was trained to fill in masked patches of log-mel spectrograms: ${made} of ` +
    `${count(spec.batch, "clip")} each from ${escape(clips.source)}, ` +
    `in ${durationText(seconds)}.`;
  if (first === undefined || last === undefined) return trained;
  const [from, to] = [first.heldOutLoss!, last.heldOutLoss!];
  const fell = first === last || to === from
    ? `is ${lossText(to)}`
    : `${to < from ? "fell" : to > from ? "rose" : "went"} from ${lossText(from)} ` +
      `to ${lossText(to)}`;
  const mean = baselines[0];
  const against = mean === undefined ? "" : `; ${escape(mean.label)} gives ${lossText(mean.loss)}` +
    (to < mean.loss ? "" : ", which the model does not beat");
  return `${trained} On ${count(clips.heldOut, "clip")} that it never saw, the loss ${fell}` +
    `${against}.`;
}

type Row = readonly [string, string];

function rows(name: string, caption: string, of: readonly Row[], main?: string): string {
  const lines = of.map(([head, value]) =>
    `<tr${head === main ? ' class="main"' : ""}><th scope="row">${escape(head)}</th>` +
    `<td>${escape(value)}</td></tr>`
  );
  return `<table${name === "" ? "" : ` class="${name}"`}>` +
    `${caption === "" ? "" : `<caption>${caption}</caption>`}<tbody>${lines.join("\n")}</tbody>` +
    `</table>`;
}

function numbers(data: ReportData): string {
  const { spec, clips, baselines } = data;
  const { steps, seconds, first, last, best, clipsPerSecond } = outcome(data);
  const loss = (metric: Metric): string => {
    const value = lossText(metric.heldOutLoss!);
    return metric === last ? value : `${value} (step ${wholeText(metric.step)})`;
  };
  const measured = (head: string, metric: Metric | undefined): readonly Row[] =>
    metric === undefined ? [] : [[head, loss(metric)]];
  const after = "Held-out loss, last";
  const results: readonly Row[] = [
    ...measured("Held-out loss, first", first),
    ...measured("Held-out loss, best", best),
    ...measured(after, last),
    ...(last?.averageHeldOutLoss === undefined
      ? []
      : [["The same with averaged parameters", lossText(last.averageHeldOutLoss)] as const]),
    ...baselines.map((baseline): Row => [capital(baseline.label), lossText(baseline.loss)]),
    [
      "Steps",
      steps < spec.schedule.steps
        ? `${wholeText(steps)} of ${wholeText(spec.schedule.steps)}`
        : wholeText(steps),
    ],
    ["Time", durationText(seconds)],
    ...(clipsPerSecond === undefined
      ? []
      : [["Clips per second", clipsPerSecond.toFixed(clipsPerSecond < 100 ? 1 : 0)] as const]),
  ];
  const { encoder, clip, frontEnd, patch, masking } = spec;
  const clipSeconds = clip.frames * frontEnd.hop / frontEnd.sampleRate;
  const setting: readonly Row[] = [
    ["Specification", spec.name],
    ["Device", data.device],
    [
      "Encoder",
      `${families[encoder.family]}, ${count(encoder.depth, "block")} of ` +
      count(encoder.dim, "channel"),
    ],
    ["Order", encoder.order],
    [
      "Objective",
      `${spec.objective.style === "mae" ? "MAE" : "SSAST"} style, ${fidelityText(spec)}`,
    ],
    ["Parameters", wholeText(data.parameters)],
    ["Recordings", `${wholeText(clips.training)} training, ${wholeText(clips.heldOut)} held out`],
    [
      "Clip",
      `${Number(clipSeconds.toFixed(2))} s, ${clip.frames} frames × ${frontEnd.mels} mel bands`,
    ],
    [
      "Patches",
      `${patch.time} × ${patch.frequency}, ${
        Number((100 * masking.ratio).toFixed(1))
      } % masked (${masking.kind})`,
    ],
    ["Batch", count(spec.batch, "clip")],
  ];
  return `<section class="numbers" aria-label="Key numbers">
${rows("", "Result", results, after)}
${rows("", "Setting", setting)}
</section>`;
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function examples(data: ReportData): string {
  if (data.examples.length === 0) return "";
  const range = colourRange(data.examples);
  const each = data.examples.map((example) => {
    const { model, mean } = score(example, data.spec.patch);
    return `<article class="example"><header><h3>${escape(example.name)}</h3>
<p class="soft">squared error in masked patches ${lossText(model)}; ` +
      `by the clip's mean ${lossText(mean)}</p></header>
<div class="panels">
${panels(example, data.spec, range)}
</div></article>`;
  });
  return `<section>
<h2>Held-out clips</h2>
<p>Each clip as it is, as the model saw it, and as the model filled it in. All pictures share one
scale of colours; frequency runs along the mel scale.</p>
${colourBar(range, data.units)}
${each.join("\n")}
</section>`;
}

// The page of scores is written after this one.
function downstream({ evaluation = { kind: "none" } }: Spec): string {
  if (evaluation.kind === "none") return "";
  const tasks = evaluation.kind === "synthetic"
    ? `synthetic tasks, ${wholeText(evaluation.clips)} clips of each`
    : `the tasks in ${escape(evaluation.tasks)}`;
  return `<section>
<h2>Downstream tasks</h2>
<p>What the encoder's embeddings are worth on ${tasks}, beside its untrained self and log-mel
statistics: <a href="evaluation/evaluation.html">the scores</a>, which are written once training has
ended and all tasks are done.</p>
</section>`;
}

function details(title: string, body: string): string {
  return `<details><summary>${title}</summary>\n${body}\n</details>`;
}

function skippedFiles(data: ReportData): string {
  const { skipped } = data;
  if (skipped.length === 0) return "<p>No recording was skipped.</p>";
  return details(
    `${count(skipped.length, "recording")} skipped`,
    rows("list", "", skipped.map(({ path, reason }): Row => [path, reason])),
  );
}
