// The probe as programs: its steps against PyTorch's, and that trials do not notice each other.
import {
  assert,
  assertLess,
  assertLessOrEqual,
  assertNotEquals,
  assertStrictEquals,
} from "@std/assert";
import type { Backend, Machine } from "../../backends/backend.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import { volume } from "../../dsl/axes.ts";
import { parameters } from "../../dsl/parameters.ts";
import { probePredictions, type ProbeSizes, probeStart, probeStep } from "../../models/probe.ts";
import { devices } from "../support/device.ts";
import reference from "../support/hear/probe_reference.json" with { type: "json" };
import { assertSameNumbers } from "../support/same_numbers.ts";

const backends: readonly (readonly [string, Backend | undefined])[] = [
  ["the reference", referenceBackend()],
  ...devices,
];

interface Opened {
  readonly machine: Machine;
  /** All that a step changes. */
  readonly changed: readonly string[];
}

const open = async (backend: Backend, sizes: ProbeSizes, rows: number): Promise<Opened> => {
  const { loss, updates } = probeStep(sizes, rows);
  const read = parameters(Object.values(updates)).filter(({ name }) => name in updates);
  const said = probePredictions(sizes, sizes.clips);
  const machine = await backend.open({
    start: { outputs: {}, updates: probeStart(sizes, read) },
    train: { outputs: { loss: { of: loss, order: ["trial"] } }, updates },
    predict: { outputs: { said: { of: said, order: ["trial", "row", "channel"] } } },
  });
  for (const { name, axes } of read) machine.write({ [name]: new Float32Array(volume(axes)) });
  return { machine, changed: read.map(({ name }) => name) };
};

/** Whether a value does nothing to the loss, as batch norm subtracts it: rounding alone moves it. */
const drifts = (key: string): boolean => /^hidden.*bias$|running_mean$/.test(key);

const closeTo = (actual: ArrayLike<number>, expected: ArrayLike<number>, within: number) => {
  assertStrictEquals(actual.length, expected.length);
  for (let k = 0; k < expected.length; k++) {
    const off = Math.abs(actual[k] - expected[k]);
    assertLessOrEqual(
      off,
      within * (1 + Math.abs(expected[k])),
      `${actual[k]} for ${expected[k]} at ${k}`,
    );
  }
};

const range = (length: number, first = 0) => Uint32Array.from({ length }, (_, k) => first + k);

for (const [name, backend] of backends) {
  Deno.test({
    name: `the probe's steps are PyTorch's, on ${name}`,
    ignore: backend === undefined,
    fn: async () => {
      for (const of of reference.steps) {
        const { features, layers, hidden, classes, batch, rate } = of;
        const clips = of.embeddings.length, rows = batch + 2;
        const prediction = of.prediction as ProbeSizes["prediction"];
        const sizes = { trials: 2, clips, features, layers, hidden, classes, prediction };
        const { machine, changed } = await open(backend!, sizes, rows);
        const targets = new Float32Array(clips * classes);
        of.labels.forEach((own, clip) => own.forEach((k) => targets[clip * classes + k] = 1));
        machine.write({ embeddings: Float32Array.from(of.embeddings.flat()), targets });
        // The reference is the second trial; the first one has dropout, another rate, and fewer rows.
        const first = new Map(Object.entries(of.first));
        for (const key of changed) {
          const own = first.get(key) ?? [];
          const size = (await machine.read([key]))[key].length / 2;
          const both = new Float32Array(2 * size).fill(0.1);
          both.fill(0, size).set(own, size);
          machine.write({ [key]: both });
        }
        const losses: number[] = [];
        for (let epoch = 0, step = 0; epoch < 4; epoch++) {
          for (let start = 0; start < clips; start += batch, step++) {
            const positions = new Uint32Array(2 * rows), present = new Float32Array(2 * rows);
            const count = Math.min(batch, clips - start);
            positions.set(range(count, start), rows);
            present.fill(1, rows, rows + count).fill(1, 0, 4);
            const { loss } = await machine.run("train", {
              rows: positions,
              present,
              rate: Float32Array.of(0.02, rate),
              dropout: Float32Array.of(0.5, 0),
              step: Uint32Array.of(step + 3, step),
              seed: Uint32Array.of(1, 2),
              stream: Uint32Array.of(0, 0),
            });
            losses.push(loss[1]);
          }
        }
        closeTo(losses, of.losses, 2e-4);
        for (const [key, expected] of Object.entries(of.last)) {
          const both = (await machine.read([key]))[key];
          // Batch norm takes biases before it out again, so that their gradients are roundings, and
          // Adam makes of any gradient a step as long as the rate; running means follow them.
          closeTo(both.subarray(both.length / 2), expected, drifts(key) ? 8 * rate : 2e-3);
          if (drifts(key)) machine.write({ [key]: Float32Array.from([...expected, ...expected]) });
        }
        const rowsOfBoth = Uint32Array.of(...range(clips), ...range(clips));
        const { said } = await machine.run("predict", { rows: rowsOfBoth });
        closeTo(said.subarray(said.length / 2), of.probabilities, 2e-3);
        machine.close();
      }
    },
  });

  Deno.test({
    name: `a trial is the same in any company, and waits when no row counts, on ${name}`,
    ignore: backend === undefined,
    fn: async () => {
      const common = {
        clips: 9,
        features: 4,
        layers: 1,
        hidden: 6,
        classes: 3,
        prediction: "multiclass",
      } as const;
      const embeddings = Float32Array.from({ length: 36 }, (_, k) => Math.sin(k * k));
      const targets = Float32Array.from(
        { length: 27 },
        (_, k) => +(k % 3 === Math.floor(k / 3) % 3),
      );
      /** Trains the trial of seed 5 at a place among others, which do other things. */
      const trained = async (trials: number, place: number) => {
        const { machine, changed } = await open(backend!, { ...common, trials }, 5);
        machine.write({ embeddings, targets });
        const others = (own: number, other: (k: number) => number) =>
          Array.from({ length: trials }, (_, k) => k === place ? own : other(k));
        const keys = {
          seed: Uint32Array.from(others(5, (k) => k)),
          stream: Uint32Array.from(others(1, (k) => 7 + k)),
        };
        const all = new Float32Array(trials).fill(1);
        await machine.run("start", { fresh: all, ...keys });
        const run = (step: number, absent: boolean) => {
          const present = Float32Array.from(
            { length: 5 * trials },
            (_, k) => Math.floor(k / 5) === place ? +!absent : +(k % 5 < 3),
          );
          return machine.run("train", {
            ...keys,
            present,
            rows: Uint32Array.from(
              { length: 5 * trials },
              (_, k) => Math.floor(k / 5) === place ? k % 5 : k % 9,
            ),
            rate: Float32Array.from(others(0.05, () => 0.01)),
            dropout: Float32Array.from(others(0.25, () => 0.5)),
            step: Uint32Array.from(others(step, (k) => step + k)),
          });
        };
        const own = async () => {
          const values = await machine.read(changed);
          return changed.map((key) => {
            const size = values[key].length / trials;
            return values[key].slice(place * size, (place + 1) * size);
          });
        };
        await run(0, false);
        await run(1, false);
        const before = await own();
        await run(2, true);
        assertSameNumbers(await own(), before, "a trial without rows has changed");
        // Another one begins anew; this one goes on.
        const fresh = Float32Array.from(others(0, () => 1));
        await machine.run("start", { fresh, ...keys });
        assertSameNumbers(await own(), before, "a trial has begun anew with another");
        machine.close();
        return { before, changed };
      };
      const alone = await trained(1, 0), second = await trained(3, 1);
      assertSameNumbers((await trained(3, 2)).before, second.before);
      if (backend!.name !== "wasm") assertSameNumbers(second.before, alone.before);
      // As WebAssembly, a program of another size may add in another order: then what batch norm takes
      // out again drifts, and all else stays near.
      second.before.forEach((values, k) => {
        if (!drifts(alone.changed[k])) closeTo(values, alone.before[k], 1e-5);
      });
      const weight = alone.before[alone.changed.indexOf("hidden.0.weight")];
      assert(new Set(weight).size === weight.length, "initial weights repeat");
    },
  });
}

Deno.test("a probe's weights begin with the published spread", async () => {
  const sizes = {
    trials: 2,
    clips: 1,
    features: 300,
    layers: 2,
    hidden: 200,
    classes: 100,
    prediction: "multiclass",
  } as const;
  const { machine } = await open(referenceBackend(), sizes, 1);
  await machine.run("start", {
    fresh: Float32Array.of(1, 1),
    seed: Uint32Array.of(0, 1),
    stream: Uint32Array.of(0, 0),
  });
  const expected = {
    "hidden.0.weight": Math.sqrt(2 / 500),
    "hidden.1.weight": Math.sqrt(2) * Math.sqrt(2 / 400),
    "output.weight": Math.sqrt(2) * Math.sqrt(2 / 300),
    // Uniform between plus and minus 1/√fan-in.
    "hidden.0.bias": 1 / Math.sqrt(3 * 300),
    "output.bias": 1 / Math.sqrt(3 * 200),
  };
  for (const [key, deviation] of Object.entries(expected)) {
    const values = (await machine.read([key]))[key];
    const half = values.length / 2;
    for (const part of [values.slice(0, half), values.slice(half)]) {
      const found = Math.sqrt([...part].reduce((sum, value) => sum + value ** 2, 0) / half);
      const slack = 3 / Math.sqrt(half);
      assertLess(Math.abs(found / deviation - 1), slack, `${key}: ${found}, not ${deviation}`);
    }
    assertNotEquals(values.slice(0, half), values.slice(half));
  }
});
