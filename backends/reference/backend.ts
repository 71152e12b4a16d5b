// The reference interpreter as a backend: float64, slow and obvious. It is the fallback on a
// machine without any device, and the oracle of tests.
import { type Node, nodeOf, topologicalOrder } from "../../dsl/node.ts";
import type { Backend, Machine, Program, Values } from "../backend.ts";
import { inTurn } from "../in_turn.ts";
import { interpret, ordered } from "./interpret.ts";

/** Opens programs on the interpreter. */
const open = (programs: Readonly<Record<string, Program>>): Promise<Machine> => {
  const params = new Map<string, Node>();
  for (const { outputs, updates } of Object.values(programs)) {
    const roots = [
      ...Object.values(outputs).map((output) => nodeOf(output.of)),
      ...Object.values(updates ?? {}).map(nodeOf),
    ];
    for (const node of topologicalOrder(roots)) {
      if (node.op === "param") params.set(node.attributes.name!, node);
    }
  }
  const held = new Map<string, Float32Array | Uint32Array>();
  const narrow = (node: Node, x: Float64Array) =>
    node.dtype === "f32" ? Float32Array.from(x) : Uint32Array.from(x);
  const run = (key: string, inputs: Values): Values => {
    const program = programs[key];
    const outputs = Object.entries(program.outputs),
      updates = Object.entries(program.updates ?? {});
    const roots = [
      ...outputs.map(([, output]) => nodeOf(output.of)),
      ...updates.map(([, of]) => nodeOf(of)),
    ];
    const values = interpret(
      roots,
      ({ op, attributes: { name } }) => op === "input" ? inputs[name!] : held.get(name!)!,
    );
    updates.forEach(([name], k) => {
      const node = roots[outputs.length + k];
      const param = params.get(name);
      const order = Object.keys((param ?? node).axes);
      held.set(name, narrow(node, ordered(values[outputs.length + k], node, order)));
    });
    return Object.fromEntries(outputs.map(([name, output], k) => [
      name,
      narrow(roots[k], ordered(values[k], roots[k], output.order)),
    ]));
  };
  return Promise.resolve({
    write: (values) => {
      for (const [name, data] of Object.entries(values)) held.set(name, data.slice());
    },
    run: (key, inputs) => Promise.resolve(run(key, inputs)),
    read: (names) =>
      Promise.resolve(Object.fromEntries(names.map((name) => [name, held.get(name)!.slice()]))),
    report: () => ({ kernels: [], pipelines: 0, peakBytes: 0, precision: "f32" }),
    close: () => held.clear(),
  });
};

/** The float64 interpreter as a backend. */
export const referenceBackend = (): Backend =>
  inTurn({
    name: "reference",
    device: "reference interpreter (float64)",
    open,
    close: () => {},
  });
