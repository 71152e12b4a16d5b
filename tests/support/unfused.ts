// A program without any fusion: every operation is a program of its own that reads its arguments from
// memory and writes its value there. What fusion computes must be the same, on the same device.
import type { Machine, Program, Values } from "../../backends/backend.ts";
import { intern, type Node, nodeOf, tensorOf, topologicalOrder } from "../../dsl/node.ts";

/** Given with its name, or made of nothing: never an operation of its own. */
const isLeaf = ({ op }: Node): boolean => ["const", "iota", "literal", "input"].includes(op);
const nameOf = (of: Node): string => `value ${of.id}`;

const alone = (of: Node): Program => {
  const given = (arg: Node): Node =>
    isLeaf(arg) ? arg : intern("input", arg.dtype, arg.axes, [], { name: nameOf(arg) });
  const again = ({ op, dtype, axes, args, attributes }: Node): Node =>
    intern(
      op,
      dtype,
      axes,
      args.map((arg) => arg.op === "scan" ? again(arg) : given(arg)),
      attributes,
    );
  return {
    outputs: { value: { of: tensorOf(again(of)), order: Object.keys(of.axes) } },
  };
};

/** The same values with their axes in another order, row-major. */
const laidOut = <T extends Float32Array | Uint32Array>(
  values: T,
  { axes }: Node,
  order: readonly string[],
): T => {
  const from = Object.keys(axes), sizes = order.map((axis) => Number(axes[axis]));
  const made = values.slice() as T;
  for (let k = 0; k < made.length; k++) {
    const at = new Map<string, number>();
    let rest = k;
    for (let n = order.length - 1; n >= 0; n--) {
      at.set(order[n], rest % sizes[n]);
      rest = Math.floor(rest / sizes[n]);
    }
    made[k] = values[from.reduce((flat, axis) => flat * Number(axes[axis]) + at.get(axis)!, 0)];
  }
  return made;
};

/** The operations of a program, which its values are computed by one after the other. */
export interface Unfused {
  /** To be opened together with others, by names that begin with `name`. */
  readonly programs: Readonly<Record<string, Program>>;
  /** The program's outputs, from a machine that has the programs. */
  readonly run: (machine: Machine, inputs: Values) => Promise<Values>;
}

/** A program of which every operation runs by itself. */
export const unfused = (name: string, { outputs }: Program): Unfused => {
  const roots = Object.values(outputs).map(({ of }) => nodeOf(of));
  // A scan has no value but its parts.
  const order = topologicalOrder(roots).filter((of) => !isLeaf(of) && of.op !== "scan");
  const keyOf = (of: Node) => `${name} ${nameOf(of)}`;
  return {
    programs: Object.fromEntries(order.map((of) => [keyOf(of), alone(of)])),
    run: async (machine, inputs) => {
      const values: Record<string, Float32Array | Uint32Array> = { ...inputs };
      for (const of of order) {
        const { value } = await machine.run(keyOf(of), values);
        values[nameOf(of)] = value;
      }
      return Object.fromEntries(
        Object.entries(outputs).flatMap(([key, { order }], k) =>
          isLeaf(roots[k]) ? [] : [[key, laidOut(values[nameOf(roots[k])], roots[k], order)]]
        ),
      );
    },
  };
};
