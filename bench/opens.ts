// Does opening and closing leave anything behind? Opens, runs and closes a machine N times on one
// device, as a study does with its trials, and shows the process's resident memory on the way.
//   deno run -A bench/opens.ts [DEVICE] [N]
// The last line is the memory after the last close over that after the hundredth; it should be at most
// 1.05, and the status is 1 where it is more.
import * as E from "fp-ts/Either.js";
import type { Program } from "../backends/backend.ts";
import { grad, input, mul, param, recurrence, scale, sigmoid, sub, sum } from "../mod.ts";
import { contract, expand, scalarOf } from "../mod.ts";
import { openBackend } from "../experiments/backend.ts";

const [device = "wasm", count = "500"] = Deno.args;
const opens = Number(count), first = 100;

/** One step of training with a product, a scan and its gradient; `n` makes each kind another one. */
const step = (n: number): Program => {
  const x = input("x", { time: 200 + n, channel: 64 });
  const w = param("w", { channel: 64, out: 96 }, () => scalarOf(0));
  const y = sigmoid(contract(x, w, "channel"));
  const loss = sum(mul(recurrence("time", scale(y, 0.5), y), y), ["time", "out"]);
  const { w: dw } = grad(loss, { w });
  return {
    outputs: { loss: { of: loss, order: [] } },
    updates: { w: sub(w, scale(expand(dw, { channel: 64, out: 96 }), 1e-3)) },
  };
};
/** Some programs in turn, so that what is kept of each shows as well. */
const kinds = 8;
const programs = Array.from({ length: kinds }, (_, n) => step(n));

const asked = await openBackend(device);
if (E.isLeft(asked)) throw new Error(asked.left);
const { backend } = asked.right;
console.log(backend.device);
const megabytes = () => Deno.memoryUsage().rss / 1e6;
let early = NaN;
for (let k = 1; k <= opens; k++) {
  const n = k % kinds;
  const machine = await backend.open({ step: programs[n] });
  machine.write({ w: new Float32Array(64 * 96).fill(0.01) });
  await machine.run("step", { x: new Float32Array((200 + n) * 64).fill(0.5) });
  machine.close();
  if (k === first) early = megabytes();
  if (k % 50 === 0) console.log(`${k} opens: ${megabytes().toFixed(0)} MB`);
}
const ratio = megabytes() / early;
console.log(`after ${opens} over after ${first}: ${ratio.toFixed(3)}`);
backend.close();
Deno.exit(ratio <= 1.05 ? 0 : 1);
