// Discovery of subgroup-matrix units (tensor cores): which multiplications a device reports, and
// which of them are used. The extension is new, so each must first compute the same product as
// ordinary code does.
import type { Program, Values } from "../../backend.ts";
import { contract, input } from "../../../dsl/ops.ts";
import { webgpuBackend } from "../backend.ts";
import type { WebgpuDevice } from "../device/device.ts";
import { subgroupMatrices } from "../wgsl/subgroup_contraction.ts";
import type { Matrices } from "../target.ts";

/** One multiplication that a device offers, in WebGPU's words: M x K by K x N. */
export interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Least sizes for which matrices are used: below, most of the work would be padding. */
const LEAST = 16;

/**
 * The multiplications that kernels use, on devices with one subgroup size: of each precision the
 * largest whose sums are f32.
 */
export const matricesOf = (
  offered: readonly MatrixConfig[],
  subgroup: number,
): readonly Matrices[] =>
  (["f16", "f32"] as const).flatMap((component) => {
    const [largest] = offered
      .filter((one) => one.componentType === component && one.resultComponentType === "f32")
      // Powers of two, none larger than a subgroup's part of a tile.
      .filter(({ M, N, K }) => [M, N, K].every((n) => [4, 8, 16, 32].includes(n)))
      .sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K);
    if (largest === undefined) return [];
    const sizes = { rows: largest.M, columns: largest.N, over: largest.K };
    const spelling = subgroupMatrices(component, sizes);
    return [{ ...sizes, component, subgroup, least: LEAST, spelling }];
  });

/** Sizes of the test product: more than a tile, and no multiple of a matrix. */
const SIZES = { item: 2, row: 150, inner: 70, column: 75 };
/**
 * Largest difference relative to the largest result: allows another order of sums, but no rounding
 * of intermediate results.
 */
const TOLERANCE = 1e-5;

const product = (precision: "f16" | "f32"): Program => {
  const { item, row, inner, column } = SIZES;
  const x = input("x", { item, row, inner }), y = input("y", { item, inner, column });
  return {
    outputs: { z: { of: contract(x, y, "inner"), order: ["item", "row", "column"] } },
    precision,
  };
};

const operands = (): Values => {
  const { item, row, inner, column } = SIZES;
  const noise = (count: number, seed: number) =>
    Float32Array.from({ length: count }, (_, k) => Math.sin(seed + k * k));
  return { x: noise(item * row * inner, 1), y: noise(item * inner * column, 2) };
};

/** Why a device's matrices are not used, as a sentence; undefined if they are correct. */
const refusal = async (device: WebgpuDevice, one: Matrices): Promise<string | undefined> => {
  const open = { product: product(one.component) };
  const compute = async (matrices: readonly Matrices[]) => {
    const machine = await webgpuBackend({ ...device, matrices }).open(open);
    const { z } = await machine.run("product", operands());
    machine.close();
    return Array.from(z);
  };
  const words = `subgroup matrices of ${one.rows} x ${one.columns} x ${one.over} ${one.component}`;
  try {
    const [want, got] = [await compute([]), await compute([one])];
    const largest = want.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    // NaN is a difference as well.
    const wrong = want.findIndex((x, k) => !(Math.abs(x - got[k]) <= TOLERANCE * largest));
    return wrong < 0
      ? undefined
      : `${words} are not used: a product came out as ${got[wrong]} instead of ${want[wrong]}`;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    return `${words} are not used: ${why.split("\n")[0]}`;
  }
};

/** The matrices that pass the test on a device, and why the others do not. */
export const soundMatrices = async (
  device: WebgpuDevice,
  offered: readonly Matrices[],
): Promise<{ readonly matrices: readonly Matrices[]; readonly refused: readonly string[] }> => {
  const refusals: (string | undefined)[] = [];
  for (const one of offered) refusals.push(await refusal(device, one));
  return {
    matrices: offered.filter((_, k) => refusals[k] === undefined),
    refused: refusals.filter((why) => why !== undefined),
  };
};
