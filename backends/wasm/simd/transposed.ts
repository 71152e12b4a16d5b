// Small values whose elements lanes would read one by one, as they are no neighbours along the vectors
// of a kernel: a copy is made first, in which they are. A head's gates at all keys are read by every
// token: 8,000 numbers are turned for 2,000,000 that are computed.
import type { Node } from "../../../dsl/node.ts";
import { copying, type ExpressionKernel, size, type Storage } from "../../lower/kernel_ir.ts";
import type { VectorLoop } from "./vector_axis.ts";

/** A kernel reads an element of a value at least so many times, if the value is turned for it. */
const leastReads = 8;

/** What a kernel reads turned, and the kernels that turn it. */
export interface Turned {
  readonly copies: readonly ExpressionKernel[];
  readonly stored: ReadonlyMap<Node, Storage>;
}

/** Whether a kernel reads a value so often that it is turned where that helps. */
export const isReadOften = ({ space, over }: ExpressionKernel) => (of: Storage): boolean =>
  size(of.dims) * leastReads <= size(space) * size(over);

/** The storage with the axes first that are further in than the one along which a step is `stride`. */
const turn = (of: Storage, stride: number, id: number): Storage | undefined => {
  let inner = 1;
  const at = of.dims.findLastIndex((dim) => {
    if (inner >= stride) return true;
    inner *= dim.size;
    return false;
  });
  if (inner !== stride || at < 0) return undefined;
  const dims = [...of.dims.slice(at + 1), ...of.dims.slice(0, at + 1)];
  return { id, dtype: of.dtype, dims, role: "temporary" };
};

/** What is read turned by a kernel whose vectors lie along `loop`. */
export const turnedFor = (
  kernel: ExpressionKernel,
  loop: VectorLoop | undefined,
  stored: ReadonlyMap<Node, Storage>,
): Turned => {
  const often = isReadOften(kernel);
  const strided = [...loop?.strides ?? []].filter(([of, stride]) => stride > 1 && often(of));
  const turned = new Map(strided.flatMap(([storage, stride], k) => {
    // No other kernel makes storages with the number of this one's, and numbers are small.
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
