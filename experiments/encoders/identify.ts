// Identifies the encoder of a checkpoint from the names and shapes of its tensors alone: published files
// have no description.
import * as E from "fp-ts/Either.js";
import { publishedFrontEnd } from "../../models/frontend.ts";
import {
  type FamilyEncoder,
  type FamilyName,
  publishedEncoder,
  sizeNames,
} from "../../models/sizes.ts";
import { quoted } from "../../backends/runtime/text.ts";

/** Shapes of tensors by name. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

/** What follows from them. */
export interface Recognised {
  readonly encoder: FamilyEncoder;
  /** Frames that its position table is made for, with 80 mel bands. */
  readonly frames: number;
}

/** Maximum number of blocks; building more would take long. */
const mostBlocks = 256;

/** Tensors of every family from which its sizes follow, with their number of axes. */
const shell = {
  "patch_embed.proj.weight": 4,
  "pos_embed": 3,
  "cls_token": 3,
  "encoder_norm.weight": 1,
};

/** The same for blocks; the first tensor of each family identifies it. */
const marks: Readonly<Record<FamilyName, Readonly<Record<string, number>>>> = {
  transformer: { "attn.qkv_layer.weight": 2, "mlp.layer1.weight": 2 },
  mamba: { "mixer.A_log": 2, "mixer.conv1d.weight": 3 },
  xlstm: {
    "layer.mlstm_cell.igate.weight": 2,
    "layer.learnable_skip": 1,
    "layer.conv1d.conv.weight": 3,
  },
};

/**
 * The encoder whose tensors have these names and shapes. What does not follow from them is as published: the
 * order of tokens, the form of scans. A Transformer's `heads` leave no trace either; without the
 * option they are those of the published size with this width, or one per 64 channels. A left is a
 * sentence that says what was missing or made no sense.
 */
export const recognise = (
  shapes: Shapes,
  { heads }: { readonly heads?: number } = {},
): E.Either<string, Recognised> => {
  const family = familyOf(shapes);
  if (family === undefined) return E.left(strangerText(shapes));
  const blocks = blocksOf(shapes);
  if (E.isLeft(blocks)) return blocks;
  const depth = blocks.right;
  const slstm = family !== "xlstm" ? [] : Array.from({ length: depth }, (_, k) => k)
    .filter((k) => shapes.has(`blocks.${k}.layer.slstm_cell._bias_`));
  const first = Array.from({ length: depth }, (_, k) => k).find((k) => !slstm.includes(k))!;
  const inBlock = (name: string): string => `blocks.${first}.${name}`;
  const needed = [
    ...Object.entries(shell),
    ...Object.entries(marks[family]).map(([name, axes]) => [inBlock(name), axes] as const),
  ];
  for (const [name, axes] of needed) {
    const shape = shapes.get(name);
    if (shape === undefined) return E.left(`there is no '${name}', from which sizes follow`);
    if (shape.length !== axes || !shape.every((n) => Number.isSafeInteger(n) && n > 0)) {
      return E.left(`'${name}' is ${shapeText(shape)}, where ${axes} axes were expected`);
    }
  }
  const of = (name: string): readonly number[] => shapes.get(name)!;

  const [dim, , time, frequency] = of("patch_embed.proj.weight");
  if (dim % 4 !== 0) return E.left(`its width, ${dim}, is not a multiple of 4`);
  const frames = framesOf(of("pos_embed"), dim, { time, frequency });
  if (E.isLeft(frames)) return frames;
  const common = {
    dim,
    depth,
    patch: { time, frequency },
    norm: shapes.has("encoder_norm.bias") ? "layer" : "rms",
    registers: shapes.get("register_tokens")?.[1] ?? 0,
  } as const;
  const whole = (name: string, n: number): E.Either<string, number> =>
    Number.isInteger(n / dim) ? E.right(n / dim) : E.left(
      `'${name}' has ${n} inner channels, which are not a multiple of its width, ${dim}`,
    );
  const found = (encoder: FamilyEncoder): E.Either<string, Recognised> =>
    E.right({ encoder, frames: frames.right });

  switch (family) {
    case "transformer": {
      const count = headsOf(dim, heads);
      if (E.isLeft(count)) return count;
      const mlp = of(inBlock("mlp.layer1.weight"))[0] / dim;
      const sizes = { ...common, heads: count.right, mlp };
      return found({ ...base(family), ...sizes });
    }
    case "mamba": {
      const [inner, state] = of(inBlock("mixer.A_log")), taps = of(inBlock("mixer.conv1d.weight"));
      const expand = whole(inBlock("mixer.A_log"), inner);
      if (E.isLeft(expand)) return expand;
      return found({ ...base(family), ...common, state, conv: taps[2], expand: expand.right });
    }
    case "xlstm": {
      const [inner] = of(inBlock("layer.learnable_skip"));
      const expand = whole(inBlock("layer.learnable_skip"), inner);
      if (E.isLeft(expand)) return expand;
      const [cells] = of(inBlock("layer.mlstm_cell.igate.weight"));
      if (heads !== undefined && heads !== cells) {
        return E.left(
          `its gates are of ${cells} heads, and not of the ${heads} that were asked for`,
        );
      }
      if (inner % cells !== 0) {
        return E.left(`${inner} channels are not ${cells} heads of one size`);
      }
      const conv = of(inBlock("layer.conv1d.conv.weight"))[2];
      return found({
        ...base(family),
        ...common,
        heads: cells,
        conv,
        expand: expand.right,
        slstm,
      });
    }
  }
};

/** The name of the published size of an encoder, if it has one. */
export const sizeOf = (encoder: FamilyEncoder): string | undefined =>
  sizeNames.find((size) => {
    const { dim, depth } = publishedEncoder(encoder.family, size);
    return dim === encoder.dim && depth === encoder.depth;
  });

// What does not follow from names and shapes, as published.
const base = <F extends FamilyName>(family: F): Extract<FamilyEncoder, { readonly family: F }> =>
  publishedEncoder(family, "tiny") as Extract<FamilyEncoder, { readonly family: F }>;

const shapeText = (shape: readonly number[]): string =>
  shape.length <= 8 ? `[${shape.join(", ")}]` : `of ${shape.length} axes`;

const familyOf = (shapes: Shapes): FamilyName | undefined => {
  const families = Object.keys(marks) as FamilyName[];
  const found = families.filter((family) => {
    const ending = `.${Object.keys(marks[family])[0]}`;
    return [...shapes.keys()].some((name) => name.startsWith("blocks.") && name.endsWith(ending));
  });
  return found.length === 1 ? found[0] : undefined;
};

const strangerText = (shapes: Shapes): string => {
  const known = Object.entries(marks)
    .map(([family, names]) => `'blocks.0.${Object.keys(names)[0]}' (${family})`);
  const names = [...shapes.keys()].slice(0, 5).map(quoted).join(", ");
  return `its tensors should be named for one family, as ${known.slice(0, -1).join(", ")} or ` +
    `${known.at(-1)} are; it has ${shapes.size}${names === "" ? "" : `, such as ${names}`}`;
};

/** The number of blocks; they must be numbered from 0 without gaps. */
const blocksOf = (shapes: Shapes): E.Either<string, number> => {
  const numbers = new Set(
    [...shapes.keys()].flatMap((name) => {
      const block = /^blocks\.(\d{1,9})\./.exec(name);
      return block === null ? [] : [Number(block[1])];
    }),
  );
  const gap = Array.from({ length: numbers.size }, (_, k) => k).find((k) => !numbers.has(k));
  if (gap !== undefined) return E.left(`it has ${numbers.size} blocks, but none numbered ${gap}`);
  return numbers.size <= mostBlocks
    ? E.right(numbers.size)
    : E.left(`it has ${numbers.size} blocks, where at most ${mostBlocks} are expected`);
};

const framesOf = (
  [, tokens, channels]: readonly number[],
  dim: number,
  patch: { readonly time: number; readonly frequency: number },
): E.Either<string, number> => {
  const { mels } = publishedFrontEnd, columns = mels / patch.frequency;
  if (channels !== dim) {
    return E.left(`'pos_embed' is ${channels} wide, but patches are embedded in ${dim} channels`);
  }
  if (!Number.isInteger(columns)) {
    return E.left(`patches of ${patch.frequency} bands do not divide the ${mels} mel bands`);
  }
  const rows = (tokens - 1) / columns;
  return Number.isInteger(rows) && rows > 0 ? E.right(rows * patch.time) : E.left(
    `'pos_embed' has ${tokens} rows, which are not one more than a multiple of the ${columns} ` +
      `patches in ${mels} mel bands`,
  );
};

const headsOf = (dim: number, asked: number | undefined): E.Either<string, number> => {
  const sizes = sizeNames.map((size) => publishedEncoder("transformer", size))
    .flatMap((encoder) => encoder.family === "transformer" ? [encoder] : []);
  const heads = asked ?? sizes.find((size) => size.dim === dim)?.heads ?? dim / 64;
  if (Number.isInteger(dim / heads) && Number.isInteger(heads)) return E.right(heads);
  return E.left(
    asked === undefined
      ? `the number of heads does not follow from its width, ${dim}; give it with --heads`
      : `its width, ${dim}, is not a multiple of ${asked} heads`,
  );
};
