// Chooses the vector axis: every memory access of a kernel's body is recorded with its address, and
// the axis along which most of them are contiguous is taken.
import type * as affine from "../../codegen/index_math.ts";
import { type Dim, size, type Storage } from "../../lower/kernel_ir.ts";
import type { Access, Emitter, Env } from "./emitter.ts";
import { laneStride, width } from "./lanes.ts";

/** Cost of a vector access, in vector operations. */
const accessCost = (stride: number | undefined): number =>
  stride === 0 ? 0.5 : stride === 1 ? 1 : 8;
/** Overhead of each run of a vector loop, in vector operations. */
const loopCost = 6;
/** Shorter axes may be flattened with their neighbours. */
const longEnough = 64;

/** The axes that a vector loop runs over: one, or the last ones flattened. */
export interface VectorLoop {
  readonly dims: readonly Dim[];
  readonly cost: number;
  /** The strides of vector accesses whose stride is constant. */
  readonly strides: ReadonlyMap<Storage, number>;
}

/** The last axes that together make a loop long enough; none if the last alone does. */
export const trailing = (dims: readonly Dim[]): readonly Dim[] => {
  let from = dims.length;
  while (from > 0 && size(dims.slice(from)) < longEnough) from--;
  return dims.slice(from);
};

const stridesOf = (accesses: readonly Access[], name: string | undefined) => {
  const found = new Map<Storage, Set<number | undefined>>();
  for (const { storage, address, isStore } of accesses) {
    const stride = laneStride(address, name);
    if (isStore || stride === 0) continue;
    found.set(storage, (found.get(storage) ?? new Set()).add(stride));
  }
  return new Map(
    [...found].flatMap(([storage, [stride, ...others]]) =>
      stride === undefined || others.length > 0 ? [] : [[storage, stride] as const]
    ),
  );
};

/**
 * The best of some axes, or of flattened runs of axes, for `body`, which is printed by fresh
 * emitters; undefined if all sizes are 1. Operands that `turns` accepts are transposed where they
 * would be strided.
 */
export const vectorLoop = (
  candidates: readonly (readonly Dim[])[],
  all: readonly Dim[],
  fresh: () => Emitter,
  body: (emit: Emitter, env: Env) => void,
  turns: (storage: Storage) => boolean = () => false,
): VectorLoop | undefined => {
  const probe = (flat: readonly Dim[]) => {
    const emit = fresh();
    const any = emit.make.parameter(0);
    const names = new Map<string, string>();
    const name = (of: affine.IndexExpr, key: string) => {
      if (of.terms.length > 0) names.set(key, of.terms[0].atom.text);
      return of;
    };
    const env = new Map<string, affine.IndexExpr>();
    for (const dim of all) {
      if (!flat.includes(dim)) env.set(dim.axis, name(emit.named(any, dim.size), dim.axis));
    }
    const at = name(emit.named(any, size(flat)), "");
    for (const [axis, where] of emit.unflatten(at, flat)) env.set(axis, where);
    body(emit, env);
    return { names, accesses: emit.accesses(), work: emit.make.work() };
  };
  const plain = probe([]);
  const costs = candidates.filter((dims) => size(dims) > 1).map((dims): VectorLoop => {
    const flat = dims.length > 1;
    const { names, accesses, work } = flat ? probe(dims) : plain;
    const name = names.get(flat ? "" : dims[0].axis);
    const costOf = ({ storage, address, isStore }: Access): number => {
      const stride = laneStride(address, name);
      return accessCost(!isStore && stride !== 0 && turns(storage) ? 1 : stride);
    };
    const each = accesses.reduce((n, one) => n + costOf(one), work);
    const extent = size(dims);
    return {
      dims,
      cost: (each * Math.ceil(extent / width) + loopCost) / extent,
      strides: stridesOf(accesses, name),
    };
  });
  return costs.reduce<VectorLoop | undefined>(
    (best, one) => best === undefined || one.cost < best.cost ? one : best,
    undefined,
  );
};
