// Does opening and closing leave anything behind? Builds, opens, runs and closes the training step of
// a small Mamba N times on one device, as a study does with its trials, and shows the resident memory
// of the process on the way.
//   deno run -A --v8-flags=--expose-gc bench/opens.ts [DEVICE] [N]
// Garbage is collected before each look; without the flag, what is shown rises and falls with V8's own
// collections, and by what its young generation grows to.
// The last line is the memory after the last close over that after the hundredth; it should be at most
// 1.05, and the status is 1 where it is more.
import * as E from "fp-ts/Either.js";
import { openBackend } from "../experiments/machines/device.ts";
import { filled, leavesOf } from "../experiments/inspect/explain.ts";
import { decodeSpec } from "../experiments/specs/decode.ts";
import { programsOf } from "../experiments/training/programs.ts";
import mamba from "../experiments/specs/presets/mamba.json" with { type: "json" };

const [device = "wasm", count = "500"] = Deno.args;
const opens = Number(count), first = 100;

const right = <A, B>(of: E.Either<A, B>): B => {
  if (E.isRight(of)) return of.right;
  console.error(of.left);
  Deno.exit(1);
};
const spec = right(decodeSpec({
  ...mamba,
  clip: { frames: 40 },
  encoder: { ...mamba.encoder, dim: 16, depth: 1, state: 4 },
  batch: 2,
}));
const { backend } = right(await openBackend(device));
console.log(backend.device);
const megabytes = () => {
  (globalThis as { readonly gc?: () => void }).gc?.();
  return Deno.memoryUsage().rss / 1e6;
};
let early = NaN;
for (let k = 1; k <= opens; k++) {
  const { train } = programsOf(spec).programs;
  const leaves = leavesOf(train);
  const machine = await backend.open({ train });
  machine.write(filled(leaves.filter(({ op }) => op === "param")));
  await machine.run("train", filled(leaves.filter(({ op }) => op === "input")));
  machine.close();
  if (k === first) early = megabytes();
  if (k % 50 === 0) console.log(`${k} opens: ${megabytes().toFixed(0)} MB`);
}
const ratio = megabytes() / early;
console.log(`after ${opens} over after ${first}: ${ratio.toFixed(3)}`);
backend.close();
Deno.exit(ratio <= 1.05 ? 0 : 1);
