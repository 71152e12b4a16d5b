// Our side of a comparison: a workload as one program whose leaves stay on the device.
import type { Backend, KernelReport } from "../backends/backend.ts";
import { ordered } from "../backends/reference/interpret.ts";
import { type AnyTensor, volume } from "../dsl/axes.ts";
import { nodeOf } from "../dsl/node.ts";
import type { Running, Values } from "./peer.ts";
import { leavesOf, orderOf, type Workload } from "./workloads.ts";

/** Our side, and what it costs at least. */
export interface Ours extends Running {
  readonly flops: number;
  /** Bytes that our kernels read and write. */
  readonly bytes: number;
  /** Bytes of reading all leaves and writing all results once. */
  readonly floorBytes: number;
  readonly kernels: readonly KernelReport[];
  /** Milliseconds of each kernel on the device in one run. Absent where there are no timestamps. */
  readonly time?: () => Promise<readonly number[]>;
}

const sum = (list: readonly number[]): number => list.reduce((total, x) => total + x, 0);

/** Compiles a workload and gives it its values. */
export const openOurs = async (
  backend: Backend,
  workload: Workload,
  values: Values,
): Promise<Ours> => {
  const { loss } = workload;
  const stored = Object.entries(workload.results).filter(([, of]) => of !== loss);
  const leaves = leavesOf(workload);
  const isLeaf = new Set(leaves.map(({ name }) => name));
  // A result that is no leaf's new value has a place of its own.
  const nameOf = (key: string): string => isLeaf.has(key) ? key : `result.${key}`;
  /** The order in which a result is compared: a gradient's is that of what it is the gradient for. */
  const axesOf = (key: string, of: AnyTensor): readonly string[] => {
    const leaf = leaves.find(({ name }) => key === name || key === `gradient of ${name}`);
    return Object.keys(leaf?.axes ?? orderOf(of));
  };
  const machine = await backend.open({
    main: {
      outputs: loss === undefined ? {} : { loss: { of: loss, order: [] } },
      updates: Object.fromEntries(stored.map(([key, of]) => [nameOf(key), of])),
    },
  });
  machine.write(Object.fromEntries(Object.entries(values).map(([key, { data }]) => [key, data])));
  // Results are written before they are read; a machine wants all that it holds to be set at first.
  const results = stored.filter(([key]) => !isLeaf.has(key));
  machine.write(Object.fromEntries(
    results.map(([key, of]) => [nameOf(key), new Float32Array(volume(nodeOf(of).axes))]),
  ));
  let last = new Float32Array(1);
  const { kernels } = machine.report("main");
  const { time } = machine;
  return {
    run: async () => {
      const { loss: now } = await machine.run("main", {});
      if (now !== undefined) last = Float32Array.from(now);
    },
    read: async () => {
      const read = await machine.read(stored.map(([key]) => nameOf(key)));
      const named = stored.map(([key, of]) => {
        const values = Float64Array.from(read[nameOf(key)]);
        // New values of leaves come in the leaves' order.
        const given = isLeaf.has(key) ? values : ordered(values, nodeOf(of), axesOf(key, of));
        return [key, Float32Array.from(given)];
      });
      return { ...Object.fromEntries(named), ...(loss === undefined ? {} : { loss: last }) };
    },
    close: machine.close,
    kernels,
    flops: sum(kernels.map((kernel) => kernel.flops)),
    bytes: sum(kernels.map((kernel) => kernel.bytesRead + kernel.bytesWritten)),
    floorBytes: 4 * sum([
      ...leaves.map(({ axes }) => volume(axes)),
      ...Object.values(workload.results).map((of) => volume(nodeOf(of).axes)),
    ]),
    ...(time === undefined ? {} : { time: () => time("main", {}) }),
  };
};
