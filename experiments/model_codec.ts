// Codecs of what models take as data: encoders of every family, the front end, masks, the style of
// pre-training and the points of fidelity. Specs and checkpoints read them alike.
import * as t from "io-ts";
import type * as E from "fp-ts/Either.js";
import type { Encoder, Shell } from "../models/encoder.ts";
import { corrected, faithful, type Fidelity } from "../models/fidelity.ts";
import type { FrontEnd } from "../models/frontend.ts";
import type { Masking } from "../models/masking.ts";
import type { PatchSize } from "../models/patches.ts";
import type { Family } from "../models/stack.ts";
import {
  above0,
  between0and1,
  fields,
  from0,
  from0below1,
  multipleOf,
  numberThat,
  oneOf,
  optional,
  tagged,
  wholeFrom,
} from "./codec.ts";

/** An encoder without its patch size. */
export type EncoderSpec = Family & Shell;
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

const transformer = { family: oneOf("transformer"), ...shell, heads: count, mlp: above0 };
const mamba = {
  family: oneOf("mamba"),
  ...shell,
  state: count,
  conv: count,
  expand: count,
  form: oneOf("sequential", "chunked"),
};
const xlstm = {
  family: oneOf("xlstm"),
  ...shell,
  heads: count,
  expand: count,
  conv: count,
  slstm: t.readonlyArray(wholeFrom(0), "a list of block numbers"),
  form: oneOf("parallel", "recurrent", "chunkwise"),
};

/** An encoder as a spec writes it: its other fields depend on `family`. */
export const encoderSpec: t.Type<EncoderSpec> = tagged("family", {
  transformer: fields<Of<"transformer">>(transformer),
  mamba: fields<Of<"mamba">>(mamba),
  xlstm: fields<Of<"xlstm">>(xlstm),
});

/** Frames and bands of a patch. */
export const patchSize: t.Type<PatchSize> = fields<PatchSize>({ time: count, frequency: count });

const patch = { patch: patchSize };

/** An encoder as checkpoints describe it, with its patch size. */
export const encoder: t.Type<Encoder> = tagged("family", {
  transformer: fields<Of<"transformer"> & typeof of>({ ...transformer, ...patch }),
  mamba: fields<Of<"mamba"> & typeof of>({ ...mamba, ...patch }),
  xlstm: fields<Of<"xlstm"> & typeof of>({ ...xlstm, ...patch }),
});
declare const of: { readonly patch: PatchSize };

/** Audio to log-mel spectrogram. */
export const frontEnd: t.Type<FrontEnd> = fields<FrontEnd>({
  sampleRate: count,
  // Tables of longer transforms would take more than 100 MB.
  fft: numberThat(
    "a whole number from 2 to 8192",
    (n) => Number.isInteger(n) && n > 1 && n <= 8192,
  ),
  window: count,
  hop: count,
  mels: count,
  fMin: from0,
  fMax: above0,
});

type Simple = Extract<Masking, { readonly kind: "unstructured" | "time" | "frequency" }>;
type Blocks = Extract<Masking, { readonly kind: "blocks" }>;
const simple = fields<Simple>({
  kind: oneOf("unstructured", "time", "frequency"),
  ratio: between0and1,
});

/** What is hidden from the encoder. */
export const masking: t.Type<Masking> = tagged("kind", {
  unstructured: simple,
  time: simple,
  frequency: simple,
  blocks: fields<Blocks>({ kind: oneOf("blocks"), ratio: between0and1, block: patchSize }),
});

const points = {
  maskedPositions: oneOf("dropped", "kept"),
  loss: oneOf("all", "masked"),
  rows: oneOf("frequency", "time"),
  deviation: oneOf("sample", "population"),
  padding: oneOf("always", "as needed"),
};

/** Every point of fidelity. */
export const fidelity: t.Type<Fidelity> = fields<Fidelity>(points);

/** A name for all points, or one to start from with the points that differ. */
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
});

/** Fidelity as a spec writes it. */
export const fidelitySpec: t.Type<FidelitySpec> = new t.Type<FidelitySpec>(
  `${named.name} or an object with 'from' and the points that differ`,
  (u): u is FidelitySpec => named.is(u) || changed.is(u),
  (u, c): E.Either<t.Errors, FidelitySpec> =>
    t.UnknownRecord.is(u)
      ? changed.validate(u, c) as E.Either<t.Errors, FidelitySpec>
      : named.is(u)
      ? t.success(u)
      : t.failure(u, c),
  t.identity,
);

/** All points of what a spec writes. */
export const fidelityOf = (spec: FidelitySpec): Fidelity => {
  const sets = { faithful, corrected };
  if (typeof spec === "string") return sets[spec];
  const { from, ...points } = spec;
  return { ...sets[from], ...points };
};
