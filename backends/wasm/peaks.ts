// Peak rates of the processor on plain loops with all threads: multiply-adds in registers, and a
// copy larger than caches. Kernels are measured against these.
import type { Peaks } from "../backend.ts";
import {
  access,
  assemble,
  doWhile,
  type Func,
  get,
  i32,
  instruction,
  memoryOf,
  set,
} from "./assembler/encode.ts";
import type { Engine } from "./engine.ts";
import type { Pool } from "./threads/pool.ts";

/** The parameters of a kernel's function. */
const [, from, to] = [0, 1, 2];
const firstLocal = 4;

/** Parallel sums: enough that no addition waits for another, and as many as registers hold. */
const sumsOf = ({ wide }: Engine): number => wide ? 24 : 12;
/** Additions to each sum in a round of the loop. */
const repeats = 4;
/** Rounds in a unit of work. */
const rounds = 2 ** 14;
const unitsOfAdds = 64;

const units = [...get(to), ...get(from), ...instruction["i32.sub"]];

/** Independent sums of products, again and again. */
const adds = (engine: Engine): Func => {
  const sums = sumsOf(engine);
  const [counter, x, y] = [firstLocal, firstLocal + 1, firstLocal + 2];
  const all = Array.from({ length: sums }, (_, k) => firstLocal + 3 + k);
  const add = (sum: number) =>
    engine.relaxed
      ? [...get(x), ...get(y), ...get(sum), ...instruction["f32x4.relaxed_madd"], ...set(sum)]
      : [
        ...[...get(x), ...get(y), ...instruction["f32x4.mul"]],
        ...[...get(sum), ...instruction["f32x4.add"], ...set(sum)],
      ];
  return {
    params: 4,
    locals: ["i32", ...Array.from({ length: sums + 2 }, () => "v128" as const)],
    body: [
      ...[...units, ...i32(rounds), ...instruction["i32.mul"], ...set(counter)],
      ...doWhile(
        [
          ...Array.from({ length: repeats }, () => all.flatMap(add)).flat(),
          ...[...get(counter), ...i32(-1), ...instruction["i32.add"], ...set(counter)],
        ],
        get(counter),
      ),
      // The sums are written, so that the engine does not eliminate them; the counter is now 0.
      ...all.flatMap((sum, k) => [...get(counter), ...get(sum), ...access["v128.store"](16 * k)]),
    ],
  };
};

/** Bytes of a copy's unit of work, and the number of units: together more than caches hold. */
const piece = 2 ** 20;
const unitsOfCopy = 64;

/** Copies the first half of the memory to the second, piece by piece. */
const copy: Func = (() => {
  const [at, end] = [firstLocal, firstLocal + 1];
  const bytes = (unit: number) => [...get(unit), ...i32(piece), ...instruction["i32.mul"]];
  const half = piece * unitsOfCopy;
  return {
    params: 4,
    locals: ["i32", "i32"],
    body: [
      ...[...bytes(from), ...set(at), ...bytes(to), ...set(end)],
      ...doWhile(
        [
          ...[...get(at), ...get(at), ...access["v128.load"](0), ...access["v128.store"](half)],
          ...[...get(at), ...i32(16), ...instruction["i32.add"], ...set(at)],
        ],
        [...get(at), ...get(end), ...instruction["i32.lt_s"]],
      ),
    ],
  };
})();

/** Measures a pool: the best of several runs. */
export const measurePeaks = (pool: Pool, engine: Engine): Peaks => {
  const pages = 2 * piece * unitsOfCopy / 65536;
  const memory = memoryOf(pages, pool.shared);
  const team = pool.open({
    module: new WebAssembly.Module(assemble([adds(engine), copy], pages, pool.shared)),
    memory,
    programs: [
      [{ func: 0, args: 0, units: unitsOfAdds }],
      [{ func: 1, args: 0, units: unitsOfCopy }],
    ],
    scratch: Array.from({ length: pool.threads }, () => 0),
  });
  const seconds = (program: number): number => {
    const times = Array.from({ length: 10 }, () => {
      const began = performance.now();
      team.run(program);
      return performance.now() - began;
    });
    return Math.min(...times) / 1000;
  };
  const flops = 8 * sumsOf(engine) * repeats * rounds * unitsOfAdds;
  const peaks = {
    flopsPerSecond: flops / seconds(0),
    bytesPerSecond: 2 * piece * unitsOfCopy / seconds(1),
  };
  team.close();
  return peaks;
};
