// Codecs of the model's configuration: encoders of all families, front end, masks, style of
// pre-training, fidelity. Shared by specs and checkpoints.
import * as t from "io-ts";
import type * as E from "fp-ts/Either.js";
import type { Shell } from "../../models/encoder.ts";
import { corrected, faithful, type Fidelity } from "../../models/fidelity.ts";
import type { FrontEnd } from "../../models/frontend.ts";
import type { Masking } from "../../models/masking.ts";
import type { PatchSize } from "../../models/patches.ts";
import type { CustomSizes, Family, Settings } from "../../models/stack.ts";
import {
  above0,
  between0and1,
  type Docs,
  fields,
  from0,
  from0below1,
  listOf,
  multipleOf,
  numberThat,
  oneOf,
  optional,
  schemaOf,
  tagged,
  textThat,
  wholeFrom,
  withSchema,
} from "../io/schema.ts";

/** An encoder without its patch size. */
export type EncoderSpec =
  | (Exclude<Family, { readonly family: "module" }> & Shell)
  | (ModuleSpec & Shell);

/** A user-defined architecture, by the path of its module. */
export interface ModuleSpec extends Omit<CustomSizes, "block"> {
  readonly family: "module";
}

type Of<F extends EncoderSpec["family"]> = Extract<EncoderSpec, { readonly family: F }>;

const count = wholeFrom(1);

const shell = {
  dim: multipleOf(4),
  depth: count,
  order: oneOf("causal", "reversed", "alternating", "bidirectional"),
  norm: oneOf("layer", "rms"),
  positions: oneOf("sin-cos", "learned", "rotary", "none"),
  registers: wholeFrom(0),
  stochasticDepth: from0below1,
};
const shellDocs: Docs<Shell> = {
  dim: "Channels of a token.",
  depth: "Blocks.",
  order: "The order in which blocks read the tokens: first to last, last to first, in turns, or " +
    "both ways at once. In all but the last attention is causal.",
  norm: "Layer norm, or RMS norm, which does not subtract the mean.",
  positions:
    "How tokens know where they stand: fixed sines and cosines, a learnt table, rotation " +
    "of queries and keys (Transformers only), or not at all.",
  registers: "Learnt tokens in addition to the class token that hold no patch.",
  stochasticDepth: "Share of clips for which the last block is skipped in training; earlier " +
    "blocks are skipped less often. 0 skips nothing.",
};
const family = "The kind of blocks; the other fields of the encoder depend on it.";

const transformer = { family: oneOf("transformer"), ...shell, heads: count, mlp: above0 };
const transformerDocs: Docs<Of<"transformer">> = {
  family,
  ...shellDocs,
  heads: "Heads of attention; they divide dim.",
  mlp: "Width of the hidden layer between attentions, in multiples of dim.",
};
const mamba = {
  family: oneOf("mamba"),
  ...shell,
  state: count,
  conv: count,
  expand: count,
  form: oneOf("sequential", "chunked"),
};
const mambaDocs: Docs<Of<"mamba">> = {
  family,
  ...shellDocs,
  state: "Numbers of state for each inner channel.",
  conv: "Tokens that the causal convolution before the scan sees.",
  expand: "Inner channels, in multiples of dim.",
  form:
    "How the scan is computed: token by token, or in chunks; the same numbers but for rounding.",
};
const xlstm = {
  family: oneOf("xlstm"),
  ...shell,
  heads: count,
  expand: count,
  conv: count,
  slstm: listOf(wholeFrom(0), "a list of block numbers"),
  form: oneOf("parallel", "recurrent", "chunkwise"),
};
const xlstmDocs: Docs<Of<"xlstm">> = {
  family,
  ...shellDocs,
  heads: "Heads of the cells; they divide expand × dim.",
  expand: "Inner channels of an mLSTM block, in multiples of dim.",
  conv: "Tokens that the causal convolution before the cell sees.",
  slstm: "Numbers of the blocks, from 0, that are sLSTM; all others are mLSTM.",
  form:
    "How mLSTM cells are computed: all tokens at once, token by token, or chunk by chunk; the " +
    "same numbers but for rounding.",
};

const setting = (u: unknown): u is Settings[string] =>
  typeof u === "number" && Number.isFinite(u) || typeof u === "string" || typeof u === "boolean";
const isSettings = (u: unknown): u is Settings =>
  t.UnknownRecord.is(u) && !Array.isArray(u) && Object.values(u).every(setting);
const settings: t.Type<Settings> = withSchema(
  new t.Type<Settings>(
    "an object of numbers, texts and booleans",
    isSettings,
    (u, c) => isSettings(u) ? t.success(u) : t.failure(u, c),
    t.identity,
  ),
  { type: "object" },
);
const custom = {
  family: oneOf("module"),
  module: textThat("the path of a module (.ts, .js)", /\.[mc]?[jt]s$/),
  ...shell,
  settings: optional(settings),
};
type Custom = { readonly [K in keyof Required<Of<"module">>]: Of<"module">[K] };
const customDocs: Docs<Of<"module">> = {
  family: family + " May be left out where module is given.",
  module:
    "The path of a module that exports block, relative to the spec's file; docs/encoders.md " +
    "says what it must do.",
  ...shellDocs,
  settings: "Further settings of block: numbers, texts and booleans by name.",
};

/** An encoder in a spec: its fields depend on `family`. */
export const encoderSpec: t.Type<EncoderSpec> = tagged("family", {
  transformer: fields<Of<"transformer">>(transformer, transformerDocs),
  mamba: fields<Of<"mamba">>(mamba, mambaDocs),
  xlstm: fields<Of<"xlstm">>(xlstm, xlstmDocs),
  module: fields<Custom>(custom, customDocs),
}) as t.Type<EncoderSpec>;

/** Frames and bands of a patch. */
export const patchSize: t.Type<PatchSize> = fields<PatchSize>(
  { time: count, frequency: count },
  { time: "Frames, or rows of patches.", frequency: "Mel bands, or columns of patches." },
);

const patch = { patch: patchSize };

/** An encoder in a checkpoint, with its patch size. */
export const encoder: t.Type<EncoderSpec & { readonly patch: PatchSize }> = tagged("family", {
  transformer: fields<Of<"transformer"> & typeof of>({ ...transformer, ...patch }),
  mamba: fields<Of<"mamba"> & typeof of>({ ...mamba, ...patch }),
  xlstm: fields<Of<"xlstm"> & typeof of>({ ...xlstm, ...patch }),
  module: fields<Custom & typeof of>({ ...custom, ...patch }),
}) as t.Type<EncoderSpec & { readonly patch: PatchSize }>;
declare const of: { readonly patch: PatchSize };

/** Audio to log-mel spectrogram. */
export const frontEnd: t.Type<FrontEnd> = fields<FrontEnd>(
  {
    sampleRate: count,
    // Tables of longer transforms would take more than 100 MB.
    fft: numberThat(
      "a whole number from 2 to 8192",
      (n) => Number.isInteger(n) && n > 1 && n <= 8192,
      { type: "integer", minimum: 2, maximum: 8192 },
    ),
    window: count,
    hop: count,
    mels: count,
    fMin: from0,
    fMax: above0,
  },
  {
    sampleRate: "Samples a second; recordings of another rate are resampled.",
    fft: "Samples of a Fourier transform.",
    window: "Samples of the Hann window within it.",
    hop: "Samples from one frame to the next.",
    mels: "Mel bands of a frame; patch.frequency divides them.",
    fMin: "Lowest frequency of the bands, in Hz.",
    fMax: "Highest frequency of the bands, in Hz; at most half of sampleRate.",
  },
);

type Simple = Extract<Masking, { readonly kind: "unstructured" | "time" | "frequency" }>;
type Blocks = Extract<Masking, { readonly kind: "blocks" }>;
const maskDocs: Docs<Simple> = {
  kind: "What is hidden together: single patches, whole time steps, whole bands of frequency, or " +
    "rectangles of patches.",
  ratio: "Share of the patches that is hidden from the encoder.",
};
const simple = fields<Simple>({
  kind: oneOf("unstructured", "time", "frequency"),
  ratio: between0and1,
}, maskDocs);

/** Which patches are hidden from the encoder. */
export const masking: t.Type<Masking> = tagged("kind", {
  unstructured: simple,
  time: simple,
  frequency: simple,
  blocks: fields<Blocks>({ kind: oneOf("blocks"), ratio: between0and1, block: patchSize }, {
    ...maskDocs,
    block: "Size of a rectangle in patches.",
  }),
});

const points = {
  maskedPositions: oneOf("dropped", "kept"),
  loss: oneOf("all", "masked"),
  rows: oneOf("frequency", "time"),
  deviation: oneOf("sample", "population"),
  padding: oneOf("always", "as needed"),
};
const pointDocs: Docs<Fidelity> = {
  maskedPositions: 'Whether a hidden patch still has its position; published: "dropped".',
  loss: 'Patches that the training loss is over; published, and kept: "all".',
  rows: 'The axis that is taken for the slower one in embeddings; published: "frequency".',
  deviation: 'What an embedded clip is divided by; published: "sample".',
  padding: 'Silence after a clip that fills its last stretch; published: "always".',
};

/** All points of fidelity. */
export const fidelity: t.Type<Fidelity> = fields<Fidelity>(points, pointDocs);

/** A preset of all points, or a preset with the points that differ. */
export type FidelitySpec =
  | "faithful"
  | "corrected"
  | ({ readonly from: "faithful" | "corrected" } & Partial<Fidelity>);

const named = oneOf("faithful", "corrected");
type Changed =
  & { readonly from: "faithful" | "corrected" }
  & { [K in keyof Fidelity]: Fidelity[K] | undefined };
const changed = fields<Changed>({
  from: named,
  maskedPositions: optional(points.maskedPositions),
  loss: optional(points.loss),
  rows: optional(points.rows),
  deviation: optional(points.deviation),
  padding: optional(points.padding),
}, { from: "What holds for the points that are not given.", ...pointDocs });

/** Fidelity in a spec. */
export const fidelitySpec: t.Type<FidelitySpec> = withSchema(
  new t.Type<FidelitySpec>(
    `${named.name} or an object with 'from' and the points that differ`,
    (u): u is FidelitySpec => named.is(u) || changed.is(u),
    (u, c): E.Either<t.Errors, FidelitySpec> =>
      t.UnknownRecord.is(u)
        ? changed.validate(u, c) as E.Either<t.Errors, FidelitySpec>
        : named.is(u)
        ? t.success(u)
        : t.failure(u, c),
    t.identity,
  ),
  { anyOf: [schemaOf(named), schemaOf(changed)] },
);

/** All points of a spec's fidelity. */
export const fidelityOf = (spec: FidelitySpec): Fidelity => {
  const sets = { faithful, corrected };
  if (typeof spec === "string") return sets[spec];
  const { from, ...points } = spec;
  return { ...sets[from], ...points };
};
