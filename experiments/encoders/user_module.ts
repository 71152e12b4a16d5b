// User-defined encoders: a spec names a module, `"encoder": { "module": "./my_encoder.ts" }`, whose export
// `block` builds blocks. The module is loaded when the spec is read, and its block is tried on a short
// sequence, so that a mistake is reported before any work.
import { pathToFileURL } from "node:url";
import * as E from "fp-ts/Either.js";
import { type AnyTensor, AxisError, sameAxes, showAxes } from "../../dsl/axes.ts";
import { nodeOf } from "../../dsl/node.ts";
import { input } from "../../dsl/ops.ts";
import type { Shell } from "../../models/encoder.ts";
import { scope, type Sequence } from "../../models/layers.ts";
import type { CustomBlock, Family } from "../../models/stack.ts";
import type { EncoderSpec } from "./config.ts";
import { reasonOf } from "../io/reason.ts";

/** Why a module cannot be used, to follow its path. */
export interface ModuleError {
  readonly _tag: "ModuleError";
  readonly module: string;
  readonly problem: string;
}

const blocks = new Map<string, CustomBlock>();

const refused = (module: string, problem: string): E.Either<ModuleError, never> =>
  E.left({ _tag: "ModuleError", module, problem });

const firstLine = (error: unknown): string => reasonOf(error).split("\n")[0];

const load = async (module: string): Promise<E.Either<ModuleError, CustomBlock>> => {
  try {
    if (!(await Deno.stat(module)).isFile) return refused(module, "is not a file");
  } catch (error) {
    return error instanceof Deno.errors.NotFound
      ? refused(module, "does not exist; a spec names a module relative to its own file")
      : refused(module, `cannot be read: ${firstLine(error)}`);
  }
  let exported: Readonly<Record<string, unknown>>;
  try {
    exported = await import(pathToFileURL(module).href);
  } catch (error) {
    return refused(module, `cannot be loaded: ${firstLine(error)}`);
  }
  const { block } = exported;
  if (typeof block === "function") return E.right(block as CustomBlock);
  const names = Object.keys(exported);
  return refused(
    module,
    block === undefined
      ? "exports no 'block', a function (at, options) => (x) => y; it exports " +
        (names.length === 0 ? "nothing" : names.join(", "))
      : `exports a 'block' that is ${typeof block}, not a function (at, options) => (x) => y`,
  );
};

/** What is wrong with a block, found by applying it to a few tokens of the encoder's width. */
const tried = (
  block: CustomBlock,
  encoder: Extract<EncoderSpec, { readonly family: "module" }>,
): string | undefined => {
  const { dim, depth, norm, order, settings = {} } = encoder;
  const x: Sequence = input("x", {
    batch: 2 as number,
    token: 5 as number,
    channel: dim as number,
  });
  const options = { number: 0, depth, causal: order !== "bidirectional", norm, settings };
  try {
    const made = block(scope("blocks.0"), options);
    if (typeof made !== "function") return "its 'block' gives no function (x) => y";
    const y: unknown = made(x);
    // Anything but a tensor has no node.
    const axes = nodeOf(y as AnyTensor)?.axes;
    if (axes === undefined) return "its block gives something that is no tensor";
    return sameAxes(axes, nodeOf(x).axes) &&
        Object.keys(axes).every((axis) => axis in nodeOf(x).axes)
      ? undefined
      : `its block turns ${showAxes(nodeOf(x).axes)} into ${
        showAxes(axes)
      }; the axes must be the same`;
  } catch (error) {
    return error instanceof AxisError
      ? `its block is wrong: ${error.message}`
      : `its block fails: ${firstLine(error)}`;
  }
};

/** Loads the module of an encoder, if it has one, for `withBlock`. */
export const loadEncoder = async (
  encoder: EncoderSpec,
): Promise<E.Either<ModuleError, void>> => {
  if (encoder.family !== "module") return E.right(undefined);
  const { module } = encoder;
  const found = blocks.get(module);
  const block = found === undefined ? await load(module) : E.right(found);
  if (E.isLeft(block)) return block;
  const problem = tried(block.right, encoder);
  if (problem !== undefined) return refused(module, problem);
  blocks.set(module, block.right);
  return E.right(undefined);
};

/** Whether an encoder's module, if it has one, is loaded. */
export const isLoaded = (encoder: EncoderSpec): boolean =>
  encoder.family !== "module" || blocks.has(encoder.module);

/** An encoder with its block function. Throws a `RangeError` if its module is not loaded. */
export const withBlock = <E extends EncoderSpec>(encoder: E): E & Family & Shell => {
  if (encoder.family !== "module") return encoder as E & Family & Shell;
  const block = blocks.get(encoder.module);
  if (block !== undefined) return { ...encoder, block } as E & Family & Shell;
  throw new RangeError(`the module ${encoder.module} was not loaded`);
};

/** Why a module cannot be used, in one sentence. */
export const moduleErrorText = ({ module, problem }: ModuleError): string =>
  `the module ${module} ${problem}`;
