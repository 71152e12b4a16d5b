// Transposed copies of small operands whose elements a kernel's lanes would gather one by one: the
// copy is contiguous along the vectors. Every token reads the gates of a head at all keys, for
// example: 8,000 numbers are transposed for 2,000,000 computed ones.
import type { Node } from "../../../dsl/node.ts";
import { copying, type ExpressionKernel, size, type Storage } from "../../lower/kernel_ir.ts";
import type { VectorLoop } from "./vector_axis.ts";

/** Least reads of each element for which a value is transposed. */
const leastReads = 8;

/** A kernel's transposed operands, and the kernels that transpose them. */
export interface Turned {
  readonly copies: readonly ExpressionKernel[];
  readonly stored: ReadonlyMap<Node, Storage>;
}

/** Whether a kernel reads a value so often that transposing it pays. */
export const isReadOften = ({ space, over }: ExpressionKernel) => (of: Storage): boolean =>
  size(of.dims) * leastReads <= size(space) * size(over);

/** The storage with those axes first that are faster than the one whose step is `stride`. */
const turn = (of: Storage, stride: number, id: number): Storage | undefined => {
  let inner = 1;
  const at = of.dims.findLastIndex((dim) => {
    if (inner >= stride) return true;
    inner *= dim.size;
    return false;
  });
  if (inner !== stride) return undefined;
  const dims = [...of.dims.slice(at + 1), ...of.dims.slice(0, at + 1)];
  return { id, dtype: of.dtype, dims, role: "temporary" };
};

/** The operands to transpose for a kernel with vectors along `loop`. */
export const turnedFor = (
  kernel: ExpressionKernel,
  loop: VectorLoop | undefined,
  stored: ReadonlyMap<Node, Storage>,
): Turned => {
  const often = isReadOften(kernel);
  const strided = [...loop?.strides ?? []].filter(([of, stride]) => stride > 1 && often(of));
  const turned = new Map(strided.flatMap(([storage, stride], k) => {
    // A unique id: no other kernel makes storages from this one's, and ids are small.
    const id = -1 - kernel.roots[0].storage.id - (k + 1) * 2 ** 24;
    const made = turn(storage, stride, id);
    return made === undefined ? [] : [[storage, made] as const];
  }));
  if (turned.size === 0) return { copies: [], stored };
  const nodes = [...stored].filter(([, storage]) => turned.has(storage));
  const copies = [...turned].map(([from, to]) => {
    const [node] = nodes.find(([, storage]) => storage === from)!;
    return copying(node, to, `${kernel.path} > turned`);
  });
  const now = nodes.map(([node, storage]) => [node, turned.get(storage)!] as const);
  return { copies, stored: new Map([...stored, ...now]) };
};
