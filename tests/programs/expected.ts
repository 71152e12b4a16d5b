// What random programs should give: their values by the eager library, which knows nothing of ours;
// their gradients by the reference interpreter, whose own are compared with central differences of the
// eager library.
import type { Values } from "../../backends/backend.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import * as eager from "../support/eager.ts";
import { disagreement } from "../support/check.ts";
import { direction, orderOf, programOf, type Random } from "./recipes.ts";
import { compute, computeRounded, type Leaves } from "./compute.ts";
import { everything, type Term } from "./terms.ts";

/** How many runs a program gets, one after the other, none awaited before the next. */
export const RUNS = 2;

/** Results by name of each run, and what parameters are in the end. */
export interface Results {
  readonly runs: readonly Values[];
  readonly params: Values;
}

/** Results, and by how much each may change where something is rounded. */
export interface Expected extends Results {
  readonly noise: readonly Readonly<Record<string, number>>[];
}

/** The reference interpreter's results. */
export const byReference = async (
  of: Random,
  { params, inputs }: Pick<Random, "params" | "inputs"> = of,
): Promise<Results & { readonly between: readonly Values[] }> => {
  const program = programOf(of);
  const machine = await referenceBackend().open({ program });
  machine.write(params);
  const runs: Values[] = [], between: Values[] = [];
  for (let run = 0; run < RUNS; run++) {
    between.push(await machine.read(Object.keys(params)));
    runs.push(await machine.run("program", inputs(run)));
  }
  const after = await machine.read(Object.keys(params));
  machine.close();
  return { runs, params: after, between };
};

/** A distance below which float32 may see another maximum. */
const NEAR = 5e-6;

const apart = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let most = 0;
  for (let k = 0; k < a.length; k++) most = Math.max(most, Math.abs(a[k] - b[k]) || 0);
  return most;
};
/** Floats off by a bit of their last, which words are not. */
const blurred = (values: Values): Values =>
  Object.fromEntries(
    Object.entries(values).map(([name, x]) => [
      name,
      x instanceof Float32Array ? x.map((one, k) => one * (1 + (k * 7 % 5 - 2) * 2 ** -23)) : x,
    ]),
  );

/**
 * What a device should give. Gradients are left out in runs where a maximum is nearly attained twice:
 * which of both it is, rounding decides.
 */
export const expectedOf = async (of: Random): Promise<Expected> => {
  const hasSlopes = of.loss !== undefined;
  const reference = hasSlopes ? await byReference(of) : undefined;
  const beside = hasSlopes
    ? await byReference(of, {
      params: blurred(of.params),
      inputs: (run) => blurred(of.inputs(run)),
    })
    : undefined;
  const terms = Object.values(of.outputs), updates = Object.values(of.updates);
  const all = [...terms, ...updates, ...(of.loss === undefined ? [] : [of.loss])];
  const laid = (x: eager.Value, order: readonly string[]) => {
    const axes = Object.fromEntries(order.map((axis) => [axis, x.axes[axis]]));
    const { data } = eager.expand(x, axes);
    return x.dtype === "f32" ? Float32Array.from(data) : Uint32Array.from(data);
  };
  let held: Leaves = of.params;
  const runs: Values[] = [], noise: Record<string, number>[] = [];
  const changed: Record<string, number> = {};
  for (let run = 0; run < RUNS; run++) {
    // What descends along a gradient is what the reference says.
    if (reference !== undefined) {
      const { between } = reference;
      for (const { name } of of.descended) held = { ...held, [name!]: between[run][name!] };
    }
    const leaves = { ...held, ...of.inputs(run) };
    const { values, gap } = compute(all, leaves);
    const { values: rounded } = of.special ? { values } : computeRounded(all, leaves);
    const found: Record<string, Float32Array | Uint32Array> = {}, off: Record<string, number> = {};
    Object.keys(of.outputs).forEach((name, k) => {
      found[name] = laid(values[k], orderOf(of, terms[k].axes));
      off[name] = apart(values[k].data, rounded[k].data);
    });
    if (reference !== undefined && gap > NEAR) {
      for (const [name, slope] of Object.entries(reference.runs[run])) {
        if (name in of.outputs) continue;
        found[name] = slope;
        off[name] = apart(slope, beside!.runs[run][name]);
      }
    }
    const news = Object.keys(of.updates).map((name, k) => {
      const x = values[terms.length + k];
      changed[name] = Math.max(changed[name] ?? 0, apart(x.data, rounded[terms.length + k].data));
      return [name, laid(x, Object.keys(of.updates[name].axes))] as const;
    });
    held = { ...held, ...Object.fromEntries(news) };
    runs.push(found);
    noise.push(off);
  }
  for (const { name } of of.descended) {
    held = { ...held, [name!]: reference!.params[name!] };
    changed[name!] = apart(reference!.params[name!], beside!.params[name!]);
  }
  return { runs, params: held as Values, noise: [...noise, changed] };
};

/** How exact a device is. */
export interface Exactness {
  /** Of the largest of a value. */
  readonly tolerance: number;
  /** Times what rounding changes. */
  readonly times: number;
}
export const single: Exactness = { tolerance: 2e-5, times: 30 };
export const halved: Exactness = { tolerance: 5e-3, times: 3e4 };

/** The first disagreement in words. */
export const complaint = (
  expected: Expected,
  found: Results,
  { tolerance, times }: Exactness = single,
): string | undefined => {
  const pairs = [
    ...expected.runs.map((want, k) => [want, found.runs[k]] as const),
    [
      expected.params,
      found.params,
    ] as const,
  ];
  for (const [k, [want, got]] of pairs.entries()) {
    for (const name in want) {
      const one = want[name];
      let largest = 0;
      for (const x of one) if (Number.isFinite(x)) largest = Math.max(largest, Math.abs(x));
      // What is zero but for the rounding of float64 is the difference of numbers of about 1.
      const least = largest > 0 && largest < 1e-10 ? 1 : 0.01;
      const blur = times * (expected.noise[k][name] ?? 0) / Math.max(largest, least);
      // What rounding decides says nothing.
      if (!(blur < 0.1)) continue;
      if (got[name] === undefined) return `${name} is missing`;
      const said = disagreement({ [name]: one }, { [name]: got[name] }, tolerance + blur, least);
      if (said !== undefined) return `${k < RUNS ? `run ${k}` : "after the runs"}: ${said}`;
    }
  }
};

/** A float of each leaf moved along its direction, by `by` times some numbers. */
const moved = (
  leaves: Leaves,
  wrt: readonly Term[],
  shifts: readonly { readonly by: number; readonly along: (of: Term) => Float32Array }[],
): Leaves => {
  const changed = wrt.map((of) => {
    const base = Float64Array.from(leaves[of.name!]);
    for (const { by, along } of shifts) along(of).forEach((x, k) => base[k] += by * x);
    return [of.name!, base] as const;
  });
  return { ...leaves, ...Object.fromEntries(changed) };
};

/** Numbers, of which each should be another. */
export interface Slope {
  readonly name: string;
  readonly found: number;
  /** By central differences with a long and with a short step; undefined where they do not agree. */
  readonly expected: number | undefined;
  /** The sum of magnitudes of the terms of `found`. */
  readonly size: number;
}

/**
 * The derivative of the loss along a direction of all leaves at once, and the derivative of that along
 * another, from gradients and from central differences of the eager library.
 */
export const slopesOf = (of: Random, gradients: Values): readonly Slope[] => {
  const { loss, wrt, order } = of;
  if (loss === undefined || order === 0) return [];
  // Differences do not stop where a gradient is told to.
  if (everything([loss]).some(({ op }) => op === "stop")) return [];
  const leaves = { ...of.params, ...of.inputs(0) };
  const other = (leaf: Term) => direction({ ...leaf, name: `${leaf.name} other` });
  const value = (along: number, across: number): number => {
    const shifts = [{ by: along, along: other }, { by: across, along: direction }];
    return compute([loss], moved(leaves, wrt, shifts)).values[0].data[0];
  };
  // A gradient is laid out as its leaf is, or the other way round.
  const dot = (prefix: string) => {
    let found = 0, size = 0;
    for (const leaf of wrt) {
      const at = eager.places(
        leaf.axes,
        Object.fromEntries(orderOf(of, leaf.axes).map((axis) => [axis, leaf.axes[axis]])),
      );
      const g = gradients[`${prefix} ${leaf.name}`];
      other(leaf).forEach((x, k) => {
        found += x * g[at[k]];
        size += Math.abs(x * g[at[k]]);
      });
    }
    return { found, size };
  };
  const first = (h: number) => (value(h, 0) - value(-h, 0)) / (2 * h);
  const second = (h: number) =>
    (value(h, h) - value(h, -h) - value(-h, h) + value(-h, -h)) / (4 * h * h);
  const agreed = (a: number, b: number, tolerance: number, size: number) =>
    size < 1e3 && Math.abs(a - b) <= tolerance * (1e-2 + Math.min(size, 10 * Math.abs(a)))
      ? b
      : undefined;
  const slopes: Slope[] = [];
  const d = dot("d");
  slopes.push({
    name: "first derivative",
    ...d,
    expected: agreed(first(1e-5), first(2e-6), 1e-6, d.size),
  });
  if (order > 1) {
    const dd = dot("dd");
    slopes.push({
      name: "second derivative",
      ...dd,
      expected: agreed(second(1e-3), second(3e-4), 1e-4, dd.size),
    });
  }
  return slopes;
};
