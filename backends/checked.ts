// Checks of programs before any backend sees them, and of values before they are taken: each name
// means one thing, and values have the right number of elements. The sentences are the same on
// every device.
import { type AnyTensor, type Axes, AxisError, sameAxes, showAxes, volume } from "../dsl/axes.ts";
import { type Dtype, type Node, nodeOf, showPath, topologicalOrder } from "../dsl/node.ts";
import { refuseOther } from "../dsl/parameters.ts";
import type { Program, Values } from "./backend.ts";

/** The meaning of a name: its elements, in the order of the axes. */
export interface Slot {
  readonly dtype: Dtype;
  readonly axes: Axes;
}

/** The names that programs of one machine use. */
export interface Names {
  /** All parameters, read or only updated. */
  readonly params: ReadonlyMap<string, Slot>;
  readonly programs: ReadonlyMap<string, {
    readonly inputs: ReadonlyMap<string, Slot>;
    /** The parameters that it reads, and those that it gives new values. */
    readonly reads: readonly string[];
    readonly updates: readonly string[];
  }>;
}

const quoted = (names: readonly string[]): string => names.map((name) => `'${name}'`).join(", ");

const refuseOrder = (program: string, name: string, order: readonly string[], node: Node): void => {
  const axes = Object.keys(node.axes);
  const isExact = order.length === axes.length && new Set(order).size === order.length &&
    order.every((axis) => axis in node.axes);
  if (isExact) return;
  throw new AxisError(
    `the output '${name}' of the program '${program}' has ${
      showAxes(node.axes)
    }, but its order is ` +
      `[${quoted(order)}]; name each of its axes once`,
  );
};

const refuseOpen = (node: Node): void => {
  if (node.op === "local") {
    throw new AxisError(
      `'${node.attributes.name}' is known in the step of a scan alone, but is used outside of it; ` +
        "return it from the step",
    );
  }
  for (const axis of Object.keys(node.axes)) {
    if (typeof node.axes[axis] === "number") continue;
    throw new AxisError(
      `axis '${axis}' of '${showPath(node)}' has the symbolic size ${String(node.axes[axis])}; ` +
        "bind it before the program is opened",
    );
  }
};

const refuseUpdate = (program: string, name: string, node: Node, slot: Slot, isRead: boolean) => {
  const show = ({ dtype, axes }: Slot) => `${dtype} ${showAxes(axes)}`;
  if (node.dtype !== slot.dtype || !sameAxes(node.axes, slot.axes)) {
    throw new AxisError(
      `the parameter '${name}' is ${show(slot)}, but the program '${program}' updates it with ` +
        show(node),
    );
  }
  // A program that does not read a parameter knows its order only from the new value.
  if (isRead || Object.keys(node.axes).join() === Object.keys(slot.axes).join()) return;
  throw new AxisError(
    `the parameter '${name}' has the order ${showAxes(slot.axes)}, but the program '${program}', ` +
      `which does not read it, updates it in the order ${showAxes(node.axes)}; give both one order`,
  );
};

/** The names of programs to be opened together. Throws an AxisError if they conflict. */
export const checked = (programs: Readonly<Record<string, Program>>): Names => {
  const params = new Map<string, Node>();
  const found = Object.entries(programs).map(([key, { outputs, updates = {} }]) => {
    const inputs = new Map<string, Node>();
    const reads = new Set<string>();
    for (const [name, { of, order }] of Object.entries(outputs)) {
      refuseOrder(key, name, order, nodeOf(of));
    }
    const tensors: readonly AnyTensor[] = [
      ...Object.values(outputs).map(({ of }) => of),
      ...Object.values(updates),
    ];
    for (const node of topologicalOrder(tensors.map(nodeOf))) {
      refuseOpen(node);
      if (node.op !== "input" && node.op !== "param") continue;
      const name = node.attributes.name!;
      const known = node.op === "input" ? inputs : params;
      const other = known.get(name);
      if (other === undefined) known.set(name, node);
      else refuseOther(node.op === "input" ? "input" : "parameter", other, node);
      if (node.op === "param") reads.add(name);
    }
    return { key, inputs, reads, updates };
  });
  const slots = new Map<string, Slot>(params);
  for (const { key, reads, updates } of found) {
    for (const [name, of] of Object.entries(updates)) {
      const slot = slots.get(name);
      if (slot === undefined) slots.set(name, nodeOf(of));
      else refuseUpdate(key, name, nodeOf(of), slot, reads.has(name));
    }
  }
  return {
    params: slots,
    programs: new Map(
      found.map(({ key, inputs, reads, updates }) => [
        key,
        { inputs, reads: [...reads], updates: Object.keys(updates) },
      ]),
    ),
  };
};

/** Throws unless `data` are the elements of a slot; `what` is its name in the sentence. */
export const refuseValue = ({ dtype, axes }: Slot, data: unknown, what: string): void => {
  const wanted = dtype === "f32" ? Float32Array : Uint32Array;
  if (!(data instanceof wanted)) {
    const got = Object(data).constructor?.name ?? typeof data;
    throw new TypeError(
      `${what} holds ${dtype} ${showAxes(axes)} and takes a ${wanted.name}, not a ${got}`,
    );
  }
  if (data.length !== volume(axes)) {
    throw new RangeError(
      `${what} has ${showAxes(axes)} = ${volume(axes)} elements, but got ${data.length}`,
    );
  }
};

/** Throws unless the inputs are those of a program. */
export const refuseInputs = (slots: ReadonlyMap<string, Slot>, inputs: Values): void => {
  for (const [name, slot] of slots) {
    if (inputs[name] === undefined || inputs[name] === null) {
      throw new RangeError(
        `the input '${name}' is missing; it has ${showAxes(slot.axes)} = ${
          volume(slot.axes)
        } elements of ${slot.dtype}`,
      );
    }
    refuseValue(slot, inputs[name], `the input '${name}'`);
  }
};
