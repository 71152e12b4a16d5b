// The forms in which a recurrence can be written give the same values and gradients.
import { assertGreater, assertLess } from "@std/assert";
import type { AnyTensor } from "../../dsl/axes.ts";
import { grad } from "../../dsl/grad.ts";
import { contract, exp, input, neg, softplus, sum } from "../../dsl/ops.ts";
import type { Sequence } from "../../models/layers.ts";
import { chunkedSelectiveScan, selectiveScan } from "../../models/mamba.ts";
import {
  chunkwiseMlstm,
  type MlstmInputs,
  parallelMlstm,
  recurrentMlstm,
} from "../../models/mlstm.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import { numbers } from "../support/check.ts";
import { webgpu } from "../support/device.ts";
import type { Backend } from "../../backends/backend.ts";

/** Sum under fixed weights, so that every element counts. */
const scored = (of: AnyTensor): AnyTensor => {
  const axes = { ...sizeOf };
  const weights: AnyTensor = input("weights", axes);
  return sum(contract(of, weights, Object.keys(axes)) as AnyTensor, []);
};

let sizeOf: Record<string, number> = {};

/** Largest difference of values and gradients, relative to the largest of each. */
const difference = async (
  backend: Backend,
  forms: readonly AnyTensor[],
  leaves: Readonly<Record<string, AnyTensor>>,
  values: Readonly<Record<string, Float32Array>>,
): Promise<number> => {
  const outputs = forms.map((of) => {
    const slopes = Object.entries(grad(scored(of), leaves)).map(([name, g]) =>
      [`d ${name}`, { of: g, order: Object.keys(shapes[name]) }] as const
    );
    return { value: { of, order: Object.keys(sizeOf) }, ...Object.fromEntries(slopes) };
  });
  const machine = await backend.open(
    Object.fromEntries(outputs.map((outputs, k) => [`${k}`, { outputs }])),
  );
  const all = await Promise.all([machine.run("0", values)]);
  for (let k = 1; k < forms.length; k++) all.push(await machine.run(`${k}`, values));
  machine.close();
  let worst = 0;
  for (const name of Object.keys(all[0])) {
    const largest = Math.max(...all[0][name].map(Math.abs));
    assertGreater(largest, 0, `${name} is zero`);
    for (const other of all.slice(1)) {
      other[name].forEach((x, k) => {
        worst = Math.max(worst, Math.abs(x - all[0][name][k]) / largest);
      });
    }
  }
  return worst;
};

let shapes: Record<string, Record<string, number>> = {};

const cell = (batch: number, head: number, token: number, feature: number, gates: number) => {
  const vector = { batch, head, token, feature }, gate = { batch, head, token };
  shapes = { q: vector, k: vector, v: vector, inputGate: gate, forgetGate: gate };
  sizeOf = vector;
  const leaves = Object.fromEntries(
    Object.entries(shapes).map(([name, axes]) => [name, input(name, axes)]),
  );
  const volume = batch * head * token * feature;
  const values = {
    q: numbers(1, volume),
    k: numbers(2, volume),
    v: numbers(3, volume),
    inputGate: numbers(4, volume / feature, -gates, gates),
    forgetGate: numbers(5, volume / feature, -gates, gates + 2),
    weights: numbers(6, volume),
  };
  const inputs = leaves as unknown as MlstmInputs;
  return { leaves, values, inputs };
};

for (const [words, tokens, gates] of [["", 13, 2], [" with strong gates", 21, 12]] as const) {
  Deno.test(`mLSTM: parallel, recurrent and chunkwise are one${words}`, async () => {
    const { leaves, values, inputs } = cell(2, 2, tokens, 4, gates);
    const forms = [
      parallelMlstm(inputs),
      recurrentMlstm(inputs),
      chunkwiseMlstm(inputs, 5),
      chunkwiseMlstm(inputs, tokens),
      chunkwiseMlstm(inputs, 64),
    ];
    // The stabiliser's epsilon acts in a scale that the forms share only nearly.
    const found = await difference(referenceBackend(), forms, leaves, values);
    assertLess(found, 1e-5, `${found}`);
  });
}

const scanCase = (batch: number, token: number, channel: number, state: number) => {
  shapes = {
    u: { batch, token, channel },
    delta: { batch, token, channel },
    A: { channel, state },
    B: { batch, token, state },
    C: { batch, token, state },
  };
  sizeOf = shapes.u;
  const leaves = Object.fromEntries(
    Object.entries(shapes).map(([name, axes]) => [name, input(name, axes)]),
  ) as Record<string, AnyTensor>;
  const values = Object.fromEntries(
    [...Object.entries(shapes), ["weights", shapes.u] as const].map(([name, axes], k) => [
      name,
      numbers(10 + k, Object.values(axes).reduce((a, b) => a * b, 1)),
    ]),
  );
  const inputs = {
    u: leaves.u as Sequence,
    delta: softplus(leaves.delta) as Sequence,
    A: neg(exp(leaves.A)),
    B: leaves.B,
    C: leaves.C,
  };
  return { leaves, values, inputs };
};

Deno.test("the selective scan: sequential and chunked are one", async () => {
  const { leaves, values, inputs } = scanCase(2, 19, 3, 4);
  const forms = [
    selectiveScan(inputs),
    chunkedSelectiveScan(inputs, 5),
    chunkedSelectiveScan(inputs, 19),
    chunkedSelectiveScan(inputs, 64),
  ];
  const found = await difference(referenceBackend(), forms, leaves, values);
  assertLess(found, 1e-6, `${found}`);
});

Deno.test({
  name: "all forms on WebGPU",
  ignore: webgpu === undefined,
  fn: async () => {
    const mlstm = cell(2, 2, 21, 4, 3);
    const cells = [
      parallelMlstm(mlstm.inputs),
      recurrentMlstm(mlstm.inputs),
      chunkwiseMlstm(mlstm.inputs, 8),
    ];
    const a = await difference(webgpu!, cells, mlstm.leaves, mlstm.values);
    assertLess(a, 1e-4, `mLSTM: ${a}`);
    const scan = scanCase(2, 19, 3, 4);
    const scans = [selectiveScan(scan.inputs), chunkedSelectiveScan(scan.inputs, 8)];
    const b = await difference(webgpu!, scans, scan.leaves, scan.values);
    assertLess(b, 1e-4, `selective scan: ${b}`);
  },
});
