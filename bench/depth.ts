// How does the time of compiling grow with a program? Lowers and prints chains of 10,000 and of 100,000
// operations as WebAssembly, as many operations of each a round so that collecting garbage counts alike,
// and shows the ratio of their times. Ten is linear; at most 12 is aimed at on a quiet machine.
//   deno run -A bench/depth.ts [ROUNDS]
// The last line is the least of the rounds; the status is 1 where it is more than 12.
import type { Program } from "../backends/backend.ts";
import { compile } from "../backends/wasm/compile.ts";
import type { AnyTensor } from "../dsl/axes.ts";
import * as d from "../dsl/ops.ts";

const [rounds = "5"] = Deno.args;
const most = 12;

/** y <- 0.999 y + x from y = x on: two operations a step. */
const chain = (operations: number): Program => {
  const x = d.input("x", { n: 4 });
  let y: AnyTensor = x;
  for (let k = 0; k < operations / 2; k++) y = d.add(d.mul(y, d.constant(0.999)), x);
  return { outputs: { y: { of: d.sum(y, "n"), order: [] } } };
};

/** Milliseconds of compiling a chain, the mean of so many times. */
const measured = (operations: number, times: number): number => {
  const program = chain(operations);
  let ms = 0;
  for (let k = 0; k < times; k++) {
    const { took } = compile(program, { engine: { relaxed: true, wide: false } });
    ms += took.lowering + took.printing;
  }
  return ms / times;
};

measured(10_000, 3);
let least = Infinity;
for (let round = 0; round < Number(rounds); round++) {
  const short = measured(10_000, 10), long = measured(100_000, 1);
  least = Math.min(least, long / short);
  console.log(
    `10,000: ${short.toFixed(1)} ms, 100,000: ${long.toFixed(0)} ms, ${(long / short).toFixed(2)}`,
  );
}
console.log(`least: ${least.toFixed(2)}`);
Deno.exit(least <= most ? 0 : 1);
