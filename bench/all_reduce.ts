// `mpirun -n 2 deno run -A bench/all_reduce.ts`: how long the processes of a run take to add up
// gradients, and to say that they go on. The floor is one copy in memory, measured in the same run.
import * as E from "fp-ts/Either.js";
import { openProcesses } from "../experiments/machines/processes.ts";
import { median } from "./measure.ts";

const opened = await openProcesses();
if (E.isLeft(opened)) {
  console.error(opened.left);
  Deno.exit(1);
}
const { share, reduce, gather, finish } = opened.right;
const rounds = 40;

const timed = async (act: () => unknown): Promise<string> => {
  const times: number[] = [];
  for (let k = 0; k < rounds; k++) {
    const began = performance.now();
    await act();
    times.push(performance.now() - began);
  }
  return `median ${median(times).toFixed(3)} ms, least ${Math.min(...times).toFixed(3)} ms`;
};

const show = (text: string) => {
  if (share.rank === 0) console.log(text);
};
show(`${share.of} processes`);
for (const megabytes of [1, 4, 16]) {
  const x = new Float32Array(megabytes * 2 ** 18).fill(1), copy = new Float32Array(x.length);
  show(`${megabytes} MB summed: ${await timed(() => reduce({ x }))}`);
  show(`${megabytes} MB copied: ${await timed(() => copy.set(x))}`);
}
show(`nothing said: ${await timed(() => gather(""))}`);
await finish();
