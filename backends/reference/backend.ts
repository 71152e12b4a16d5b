// The reference interpreter behind the interface of every backend: float64 inside, slow and
// obvious. It is what remains on a machine without any device, and what tests compare with.
import { showAxes, volume } from "../../dsl/axes.ts";
import { type Node, node, reachable } from "../../dsl/node.ts";
import type { Backend, Machine, Program, Values } from "../backend.ts";
import { interpret, ordered } from "./interpret.ts";

/** Opens programs on the interpreter. */
const open = (programs: Readonly<Record<string, Program>>): Promise<Machine> => {
  const params = new Map<string, Node>();
  for (const { outputs, updates } of Object.values(programs)) {
    const roots = [
      ...Object.values(outputs).map((output) => node(output.of)),
      ...Object.values(updates ?? {}).map(node),
    ];
    for (const of of reachable(roots)) if (of.op === "param") params.set(of.attributes.name!, of);
  }
  const held = new Map<string, Float32Array | Uint32Array>();
  const check = (of: Node, data: Float32Array | Uint32Array, what: string) => {
    if (data.length !== volume(of.axes)) {
      throw new RangeError(
        `${what} has ${showAxes(of.axes)} = ${volume(of.axes)} elements, but got ${data.length}`,
      );
    }
  };
  const narrow = (of: Node, x: Float64Array) =>
    of.dtype === "f32" ? Float32Array.from(x) : Uint32Array.from(x);
  const run = (key: string, inputs: Values): Values => {
    const program = programs[key];
    if (program === undefined) {
      throw new RangeError(
        `there is no program '${key}'; there is ${Object.keys(programs).join(", ")}`,
      );
    }
    const outputs = Object.entries(program.outputs),
      updates = Object.entries(program.updates ?? {});
    const roots = [
      ...outputs.map(([, output]) => node(output.of)),
      ...updates.map(([, of]) => node(of)),
    ];
    const values = interpret(roots, (leaf) => {
      const name = leaf.attributes.name!;
      const isInput = leaf.op === "input";
      const data = isInput ? inputs[name] : held.get(name);
      if (data === undefined) {
        throw new RangeError(
          isInput ? `the input '${name}' is missing` : `the parameter '${name}' has not been set`,
        );
      }
      check(leaf, data, isInput ? `the input '${name}'` : `the parameter '${name}'`);
      return data;
    });
    updates.forEach(([name], k) => {
      const of = roots[outputs.length + k];
      const param = params.get(name);
      const order = Object.keys((param ?? of).axes);
      held.set(name, narrow(of, ordered(values[outputs.length + k], of, order)));
    });
    return Object.fromEntries(outputs.map(([name, output], k) => [
      name,
      narrow(roots[k], ordered(values[k], roots[k], output.order)),
    ]));
  };
  return Promise.resolve({
    write: (values) => {
      for (const [name, data] of Object.entries(values)) {
        const of = params.get(name);
        if (of === undefined) continue;
        check(of, data, `the parameter '${name}'`);
        held.set(name, data.slice());
      }
    },
    // The microtask turns what a run throws into a rejection, as on other backends.
    run: (key, inputs) => Promise.resolve().then(() => run(key, inputs)),
    read: (names) =>
      Promise.resolve().then(() =>
        Object.fromEntries(names.map((name) => {
          const data = held.get(name);
          if (data === undefined) throw new RangeError(`there is no parameter '${name}'`);
          return [name, data.slice()];
        }))
      ),
    report: () => ({ kernels: [], pipelines: 0, peakBytes: 0, precision: "f32" }),
    close: () => held.clear(),
  });
};

/** The float64 interpreter as a backend. */
export const referenceBackend = (): Backend => ({
  name: "reference",
  device: "reference interpreter (float64)",
  open,
  close: () => {},
});
