// The published encoders as data: six sizes of each family, patch 4 × 16.
import type { Encoder } from "./encoder.ts";

/** Widths, depths and attention heads of the size table that all families share. */
const table = {
  tiny: { dim: 192, depth: 12, heads: 3 },
  small: { dim: 384, depth: 12, heads: 6 },
  base: { dim: 768, depth: 12, heads: 12 },
  medium: { dim: 512, depth: 12, heads: 8 },
  large: { dim: 1024, depth: 24, heads: 16 },
  huge: { dim: 1280, depth: 32, heads: 16 },
} as const;

/** Size names. */
export type SizeName = keyof typeof table;
/** Family names: SSAST, SSAM and AxLSTM in the papers. */
export type FamilyName = Exclude<Encoder["family"], "module">;

/** An encoder of one of the families; plain data, unlike a user's module. */
export type FamilyEncoder = Extract<Encoder, { readonly family: FamilyName }>;

/** All size names, the smallest of the published three first. */
export const sizeNames: readonly SizeName[] = Object.keys(table) as SizeName[];

/** Settings that all published encoders share. */
const shell = {
  patch: { time: 4, frequency: 16 },
  norm: "layer",
  positions: "sin-cos",
  registers: 0,
  stochasticDepth: 0,
} as const;

/**
 * The published encoder of a family and size. mLSTM cells have four heads at every size, whatever the
 * table says; `expand` 3 with twice the depth is a variant that the published code has as well.
 */
export const publishedEncoder = (family: FamilyName, size: SizeName): FamilyEncoder => {
  const { heads, ...common } = table[size];
  switch (family) {
    case "transformer":
      return { family, ...shell, ...common, heads, mlp: 4, order: "bidirectional" };
    case "mamba":
      return {
        family,
        ...shell,
        ...common,
        state: 24,
        conv: 4,
        expand: 3,
        form: "sequential",
        order: "causal",
      };
    case "xlstm":
      return {
        family,
        ...shell,
        ...common,
        heads: 4,
        expand: 2,
        conv: 4,
        slstm: [],
        form: "parallel",
        order: "alternating",
      };
  }
};
