// `deno task accuracy`: errors of the functions of one f32 argument relative to float64, over all f32
// values or every Nth. Errors are in units in the last place (ulp) of the exact value, and are compared
// with the documented bound: on WebAssembly a number of ulp, on WebGPU what WGSL allows.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import { tensorOf } from "../../dsl/node.ts";
import { recip } from "../../dsl/ops.ts";
import { apply, scalar } from "../../dsl/primitives.ts";
import type { ScalarName } from "../../dsl/node.ts";
import { input } from "../../dsl/structure.ts";
import { openBackend } from "../machines/device.ts";

/** Error bounds of a device by function: the largest allowed error at x with exact value y. */
export type Promises = Readonly<Record<string, (x: number, y: number) => number>>;

const leastNormal = 2 ** -126;
const view = new DataView(new ArrayBuffer(8));
/** The unit in the last place of the f32 near `y`. */
export const ulp = (y: number): number => {
  view.setFloat64(0, y);
  const exponent = ((view.getUint16(0) >> 4) & 0x7ff) - 1023;
  return 2 ** (Math.min(Math.max(exponent, -126), 127) - 23);
};
const ulps = (count: number) => (_x: number, y: number): number => count * ulp(y);

/** On WebAssembly; rounding the exact value alone costs half an ulp. */
export const wasmPromises: Promises = {
  neg: ulps(0),
  recip: ulps(0.5),
  exp: ulps(3),
  log: ulps(4),
  log1p: ulps(2),
  sin: ulps(2),
  cos: ulps(2),
  sqrt: ulps(0.5),
  tanh: ulps(2),
  erf: ulps(4),
  // See docs/decisions/0016-two-wider-bounds.md.
  erfc: ulps(4.25),
  floor: ulps(0),
};

/** On WebGPU: WGSL's table of accuracies, with our own bounds for functions that it lacks. */
export const webgpuPromises: Promises = {
  neg: ulps(0),
  recip: ulps(2.5),
  // WGSL allows 3, not 4; see docs/decisions/0016-two-wider-bounds.md.
  exp: (x, y) => (4 + 2 * Math.abs(x)) * ulp(y),
  log: (x, y) => x >= 0.5 && x <= 2 ? 2 ** -21 : 3 * ulp(y),
  log1p: (x, y) => x < -0.35 && x >= -0.5 ? 2 ** -21 : 8 * ulp(y),
  sin: () => 2 ** -11,
  cos: () => 2 ** -11,
  sqrt: ulps(5),
  tanh: () => 1e-5,
  erf: ulps(16),
  erfc: (x, y) => (16 + 2 * x * x) * ulp(y),
  floor: ulps(0),
};

const unary = (Object.keys(scalar) as ScalarName[]).filter((name) =>
  scalar[name].arity === 1 && scalar[name].dtype(["f32"]) === "f32"
);
/** The measured functions: all primitives of one f32 argument, and 1 / x. */
export const functions: Readonly<Record<string, (x: number) => number>> = Object.fromEntries([
  ...unary.map((name) => [name, (x: number) => scalar[name].meaning(x, 0, 0)]),
  ["recip", (x: number) => 1 / x],
]);

/** The result for one function. */
export interface Row {
  readonly name: string;
  /** The largest error in ulp and its argument, without subnormal numbers. */
  readonly worst: number;
  readonly at: number;
  /** The same where the argument or the value is subnormal. */
  readonly subnormal: number;
  readonly subnormalAt: number;
  /** The largest error as a fraction of the bound, and its argument. */
  readonly share: number;
  readonly shareAt: number;
}

/** Number of values computed in one run. */
const block = 2 ** 18;
const rangeOf = (x: number): number => Math.abs(x) > 3.4028234663852886e38 ? 2 ** 128 : Math.abs(x);
/** The distance between two f32, with infinity as the successor of the largest. */
const distance = (found: number, right: number): number => {
  if (Number.isNaN(found) || Number.isNaN(right)) {
    return Number.isNaN(found) && Number.isNaN(right) ? 0 : Infinity;
  }
  const size = Math.min(Math.abs(right), 2 ** 128);
  const other = rangeOf(found);
  return Math.sign(found) === Math.sign(right) || found === 0 || right === 0
    ? Math.abs(other - size)
    : other + size;
};
const isSubnormal = (x: number): boolean => x !== 0 && Math.abs(x) < leastNormal;

/** Measures functions on every `stride`th f32. `flushes`: subnormal numbers may be flushed to zero. */
export const accuracy = async (
  backend: Backend,
  promises: Promises,
  stride: number,
  flushes: boolean,
  names: readonly string[] = Object.keys(functions),
): Promise<readonly Row[]> => {
  const x = input("x", { n: block }, "f32");
  const programs = Object.fromEntries(names.map((name) => {
    const of = name === "recip" ? recip(tensorOf(x)) : tensorOf(apply(name as ScalarName, x));
    return [name, { outputs: { y: { of, order: ["n"] } } }];
  }));
  const machine = await backend.open(programs);
  const rows = new Map(
    names.map((name) => [name, {
      name,
      worst: 0,
      at: 0,
      subnormal: 0,
      subnormalAt: 0,
      share: 0,
      shareAt: 0,
    }]),
  );
  const words = new Uint32Array(block), floats = new Float32Array(words.buffer);
  for (let first = 0; first < 2 ** 32; first += block * stride) {
    const count = Math.min(block, Math.ceil((2 ** 32 - first) / stride));
    for (let k = 0; k < block; k++) words[k] = first + Math.min(k, count - 1) * stride;
    for (const name of names) {
      const { y: found } = await machine.run(name, { x: floats });
      const exact = functions[name], promised = promises[name], row = rows.get(name)!;
      for (let k = 0; k < count; k++) {
        const x = floats[k], right = exact(x), low = isSubnormal(x);
        let off = distance(found[k], right), allowed = promised(x, right);
        if (off === 0) continue;
        if (flushes && low) {
          const atZero = distance(found[k], exact(x < 0 ? -0 : 0));
          if (atZero < off) [off, allowed] = [atZero, promised(0, exact(0))];
        }
        if (flushes && Math.abs(right) < leastNormal) allowed = Math.max(allowed, leastNormal);
        const inUlp = off / ulp(right), share = off === 0 ? 0 : off / allowed;
        if (low || isSubnormal(right)) {
          if (inUlp > row.subnormal) [row.subnormal, row.subnormalAt] = [inUlp, x];
        } else if (inUlp > row.worst) [row.worst, row.at] = [inUlp, x];
        if (share > row.share) [row.share, row.shareAt] = [share, x];
      }
    }
  }
  machine.close();
  return [...rows.values()];
};

const shown = (value: number): string =>
  value >= 1000 ? value.toExponential(1) : `${Number(value.toPrecision(3))}`;

/** The rows as a table in Markdown. */
export const accuracyTable = (rows: readonly Row[]): string => {
  const cells = [
    ["function", "largest error (ulp)", "at", "subnormal (ulp)", "at", "of what is promised", "at"],
    ...rows.map((row) => [
      row.name,
      shown(row.worst),
      row.worst === 0 ? "" : `${row.at}`,
      shown(row.subnormal),
      row.subnormal === 0 ? "" : `${row.subnormalAt}`,
      `${shown(100 * row.share)}%`,
      row.share === 0 ? "" : `${row.shareAt}`,
    ]),
  ];
  const widths = cells[0].map((_, k) => Math.max(...cells.map((row) => row[k].length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((text, k) => text.padEnd(widths[k])).join(" | ")} |`;
  return [line(cells[0]), line(widths.map((n) => "-".repeat(n))), ...cells.slice(1).map(line)]
    .join("\n");
};

/** The command. Exit status 1 if an error exceeds its bound. */
export const measureAccuracy = async (device: string, stride: number): Promise<number> => {
  const opened = await openBackend(device);
  if (E.isLeft(opened)) {
    console.error(opened.left);
    return 1;
  }
  const { backend, notes } = opened.right;
  notes.forEach((note) => console.error(note));
  const onWebgpu = backend.name === "webgpu";
  const promises = onWebgpu ? webgpuPromises : wasmPromises;
  const rows = await accuracy(backend, promises, stride, onWebgpu);
  console.log(accuracyTable(rows));
  const wrong = rows.filter(({ share }) => !(share <= 1)).map(({ name }) => name);
  if (wrong.length > 0) console.error(`farther off than is promised: ${wrong.join(", ")}`);
  return wrong.length > 0 ? 1 : 0;
};
