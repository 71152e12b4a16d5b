// per-kernel times of a step: deno run -A zz_step.ts NAME [runs] [threads]
import { STEPS } from "./bench/training.ts";
import { wasmBackend } from "./backends/wasm/backend.ts";
const [name, runs = "7", threads = "2", top = "45"] = Deno.args;
const b = wasmBackend({ threads: +threads });
const step = (STEPS as any)[name]();
const m = await b.open({ step: step.program });
m.write(step.parameters);
const moments = (step.program.updates ? Object.keys(step.program.updates) : []).filter((
  n: string,
) => !(n in step.parameters));
for (const n of moments) {
  const shape = step.shapes[n];
  m.write({ [n]: new Float32Array(shape.reduce((a: number, x: number) => a * x, 1)) });
}
const rep = m.report("step");
const t: number[][] = rep.kernels.map(() => []);
const whole: number[] = [];
for (let k = 0; k < +runs; k++) {
  const ts = await m.time!("step", step.inputs);
  ts.forEach((x, i) => t[i].push(x));
  const t0 = performance.now();
  await m.run("step", step.inputs);
  whole.push(performance.now() - t0);
}
const p = { flopsPerSecond: 205e9, bytesPerSecond: 60e9 };
const groups = new Map<string, { n: number; ms: number; fl: number; by: number; floor: number }>();
rep.kernels.forEach((k, i) => {
  const best = Math.min(...t[i]);
  const w = k.writes.map((x) => Object.entries(x).map(([a, n]) => `${a}${n}`).join("x")).slice(0, 3)
    .join(" ");
  const key = `${k.shapes.join("+")} ${(k.flops / 1e6).toFixed(0)}MF ${
    ((k.bytesRead + k.bytesWritten) / 1e6).toFixed(1)
  }MB ${w} ${k.path.replace(/\d+/g, "#").slice(0, 44)}`;
  const g = groups.get(key) ?? { n: 0, ms: 0, fl: 0, by: 0, floor: 0 };
  g.n++;
  g.ms += best;
  g.floor += 1000 *
    Math.max(k.flops / p.flopsPerSecond, (k.bytesRead + k.bytesWritten) / p.bytesPerSecond);
  groups.set(key, g);
});
const sorted = [...groups].sort((a, c) => (c[1].ms - c[1].floor) - (a[1].ms - a[1].floor));
let tot = 0, fl = 0;
for (const [, g] of sorted) {
  tot += g.ms;
  fl += g.floor;
}
for (const [k, g] of sorted.slice(0, +top)) {
  console.log(
    `${g.ms.toFixed(1).padStart(7)} floor ${g.floor.toFixed(1).padStart(6)} n ${
      String(g.n).padStart(3)
    }  ${k.slice(0, 150)}`,
  );
}
console.log(
  b.device,
  "kernels",
  tot.toFixed(0),
  "floor",
  fl.toFixed(0),
  "whole best",
  Math.min(...whole).toFixed(0),
  "median",
  whole.sort((a, b) => a - b)[Math.floor(whole.length / 2)].toFixed(0),
);
m.close();
b.close();
