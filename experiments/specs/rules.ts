// Rules between fields of a spec. A rule is checked only if every field it uses is valid by itself.
import { patchGrid, type Spec, type SpecError, styleOf } from "./spec.ts";
import { rate } from "../data/synth/voices.ts";

interface Rule {
  /** The field that the error names. */
  readonly path: string;
  /** All fields that the rule uses; it is checked only if these are valid by themselves. */
  readonly reads: readonly string[];
  /** What is wrong, if anything. */
  readonly problem: (spec: Spec) => string | undefined;
}

const rules: readonly Rule[] = [
  {
    path: "frontEnd.window",
    reads: ["frontEnd.window", "frontEnd.fft"],
    problem: ({ frontEnd: f }) =>
      f.window > f.fft ? `${f.window} is more than frontEnd.fft, ${f.fft}` : undefined,
  },
  {
    path: "frontEnd.fMin",
    reads: ["frontEnd.fMin", "frontEnd.fMax"],
    problem: ({ frontEnd: f }) =>
      f.fMin >= f.fMax ? `${f.fMin} is not below frontEnd.fMax, ${f.fMax}` : undefined,
  },
  {
    path: "frontEnd.fMax",
    reads: ["frontEnd.fMax", "frontEnd.sampleRate"],
    problem: ({ frontEnd: f }) =>
      f.fMax > f.sampleRate / 2
        ? `${f.fMax} is more than half of frontEnd.sampleRate, ${f.sampleRate / 2}`
        : undefined,
  },
  {
    path: "clip.frames",
    reads: ["clip.frames", "patch.time"],
    problem: ({ clip, patch }) =>
      clip.frames % patch.time !== 0
        ? `${clip.frames} is not divisible by patch.time, ${patch.time}`
        : undefined,
  },
  {
    path: "frontEnd.mels",
    reads: ["frontEnd.mels", "patch.frequency"],
    problem: ({ frontEnd: f, patch }) =>
      f.mels % patch.frequency !== 0
        ? `${f.mels} is not divisible by patch.frequency, ${patch.frequency}`
        : undefined,
  },
  {
    path: "masking.ratio",
    reads: [
      "masking.kind",
      "masking.ratio",
      "clip.frames",
      "patch.time",
      "frontEnd.mels",
      "patch.frequency",
    ],
    problem: (spec) => {
      const { patches, visible } = patchGrid(spec);
      if (visible > 0 && visible < patches) return undefined;
      return `${spec.masking.ratio} of ${patches} patches leaves ${visible} visible; ` +
        "at least one must be visible and one masked";
    },
  },
  {
    path: "schedule.warmupSteps",
    reads: ["schedule.warmupSteps", "schedule.steps"],
    problem: ({ schedule: s }) =>
      s.warmupSteps > s.steps
        ? `${s.warmupSteps} is more than schedule.steps, ${s.steps}`
        : undefined,
  },
  {
    path: "data.seconds",
    reads: ["data", "frontEnd.fft", "frontEnd.sampleRate"],
    // The front end reflects half a window at both ends, which needs that many samples.
    problem: ({ data, frontEnd: f }) =>
      data.kind === "synthetic" && data.seconds * f.sampleRate <= f.fft / 2
        ? `${data.seconds} s is not longer than half of frontEnd.fft, ` +
          `${f.fft / 2 / f.sampleRate} s`
        : undefined,
  },
  {
    path: "evaluation",
    reads: ["evaluation", "frontEnd.sampleRate"],
    problem: ({ evaluation, frontEnd: f }) =>
      evaluation?.kind === "synthetic" && f.sampleRate !== rate
        ? `synthetic tasks are at ${rate} Hz and frontEnd.sampleRate is ${f.sampleRate}; ` +
          'set evaluation.kind to "none", or to "hear" and name tasks at that rate'
        : undefined,
  },
  {
    path: "optimiser",
    reads: ["optimiser.peakLearningRate", "optimiser.baseLearningRate"],
    problem: ({ optimiser: { peakLearningRate: peak, baseLearningRate: base } }) =>
      peak !== undefined && base !== undefined
        ? "peakLearningRate and baseLearningRate are both given; leave one out"
        : peak === undefined && base === undefined
        ? "give peakLearningRate, or baseLearningRate, which grows with the batch"
        : undefined,
  },
  {
    path: "accumulate",
    reads: ["accumulate", "batch"],
    problem: ({ accumulate, batch }) =>
      batch % accumulate !== 0
        ? `the batch, ${batch}, is not divisible by ${accumulate} parts`
        : undefined,
  },
  {
    path: "encoder.heads",
    reads: ["encoder"],
    problem: ({ encoder: e }) =>
      e.family === "transformer" && e.dim % e.heads !== 0
        ? `${e.dim} channels are not divisible by ${e.heads} heads`
        : e.family === "xlstm" && (e.expand * e.dim) % e.heads !== 0
        ? `${e.expand * e.dim} inner channels (expand × dim) are not divisible by ${e.heads} heads`
        : e.family === "xlstm" && e.slstm.length > 0 && e.dim % e.heads !== 0
        ? `${e.dim} channels are not divisible by ${e.heads} heads, which sLSTM blocks need`
        : undefined,
  },
  {
    path: "encoder.slstm",
    reads: ["encoder"],
    problem: ({ encoder: e }) =>
      e.family !== "xlstm"
        ? undefined
        : e.slstm.some((k) => k >= e.depth)
        ? `block ${e.slstm.find((k) => k >= e.depth)} is beyond the last, ${e.depth - 1}`
        : new Set(e.slstm).size < e.slstm.length
        ? "a block is named twice"
        : undefined,
  },
  {
    path: "encoder.positions",
    reads: ["encoder"],
    problem: ({ encoder: e }) =>
      e.positions !== "rotary"
        ? undefined
        : e.family !== "transformer"
        ? `"rotary" turns queries and keys of attention, which ${e.family} blocks do not have`
        : (e.dim / e.heads) % 2 !== 0
        ? `"rotary" turns pairs of features, but heads have ${e.dim / e.heads}`
        : undefined,
  },
  {
    path: "objective.decoder.dim",
    reads: ["encoder", "objective"],
    problem: ({ encoder: e, objective }) => {
      const style = styleOf({ encoder: e, objective });
      if (style.style === "ssast" || e.family === "mamba" || e.family === "module") {
        return undefined;
      }
      const { dim } = style.decoder;
      const inner = e.family === "xlstm" ? e.expand * dim : dim;
      return inner % e.heads !== 0
        ? `${inner} channels of its blocks are not divisible by the encoder's ${e.heads} heads`
        : undefined;
    },
  },
];

/** The contradictions of a spec; `sound` says which fields are valid by themselves. */
export const contradictions = (
  spec: Spec,
  sound: (path: string) => boolean,
): readonly SpecError[] =>
  rules.filter((rule) => rule.reads.every(sound)).flatMap((rule): SpecError[] => {
    const problem = rule.problem(spec);
    return problem === undefined ? [] : [{ _tag: "Contradiction", path: rule.path, problem }];
  });
