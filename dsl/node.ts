// The expression graph: immutable nodes, interned, so that structurally equal expressions are one
// object and common subexpressions cost nothing. Ids grow with creation, so descending id order is
// a reverse topological order, which autodiff and the compiler follow.
import { type AnyTensor, type Axes, AxisError, type None, type Tensor } from "./axes.ts";

/** The type of an element: a float (f32 on devices, f64 in the reference), a u32 or a bool. */
export type Dtype = "f32" | "u32" | "bool";

/** Where an input axis of an `index` node is read: floor((plus + sum(times * axis)) / over) % modulo. */
export interface AffineIndex {
  readonly terms: readonly { readonly axis: string; readonly times: number }[];
  readonly offset: number;
  /** The divisor; with `exact`, positions that it does not divide read the fill value. */
  readonly divisor: number;
  readonly exact: boolean;
  /** 0: none. */
  readonly modulo: number;
}

/** A random key: two u32, or as many keys as the axes `A` have positions. */
export interface Key<A = None> {
  /** The upper u32. */
  readonly high: Tensor<A>;
  /** The lower u32. */
  readonly low: Tensor<A>;
  /** Which of several equal parts of a tensor is drawn; see `splitKey`. Without it, all or the first. */
  readonly part?: Tensor<None>;
}

/** A random key of any axes. */
// deno-lint-ignore no-explicit-any
export type AnyKey = Key<any>;

/** The initialiser of a parameter: an expression of the random key for its name. */
export type Initialiser = (key: AnyKey, axes: Axes) => AnyTensor;

/** The step of a scan: a closed graph on `local` leaves named `carry.x`, `each.x` and `rest.0`... */
export interface Step {
  readonly level: number;
  readonly next: Readonly<Record<string, Node>>;
  readonly out: Readonly<Record<string, Node>>;
}

/** Attributes that distinguish nodes of one operation besides their arguments. */
export interface Attributes {
  readonly value?: number;
  readonly name?: string;
  readonly over?: readonly string[];
  readonly axis?: string;
  readonly how?: "add" | "max";
  readonly places?: Readonly<Record<string, AffineIndex>>;
  readonly fill?: number;
  readonly init?: Initialiser;
  readonly trainable?: boolean;
  readonly data?: Float32Array | Uint32Array;
  readonly reverse?: boolean;
  readonly carries?: readonly string[];
  readonly eachs?: readonly string[];
  readonly step?: Step;
  readonly level?: number;
}

/** Every operation of the language: the scalar functions and the structural nodes. */
export type Op =
  | ScalarName
  | "const"
  | "literal"
  | "iota"
  | "input"
  | "param"
  | "local"
  | "reduce"
  | "index"
  | "gather"
  | "scan"
  | "part"
  | "stop"
  | "recompute"
  /**
   * Only made by the compiler: its argument as rounded when it was stored;
   * backends/lower/graph/materialise.ts.
   */
  | "materialise";

/** One expression. At run time a `Tensor<A>` is a `Node`. */
export interface Node {
  readonly id: number;
  readonly op: Op;
  readonly dtype: Dtype;
  readonly axes: Axes;
  readonly args: readonly Node[];
  readonly attributes: Attributes;
  /** The named functions that built it, outermost first. */
  readonly path: readonly string[];
}

/** The node behind a tensor. */
export const nodeOf = (tensor: AnyTensor): Node => tensor as unknown as Node;

/** A node as a tensor of the axes that the caller vouches for. */
export const tensorOf = <A>(node: Node): Tensor<A> => node as unknown as Tensor<A>;

/** The intern table of the process, which holds its nodes weakly. */
const interned = new Map<string, WeakRef<Node>>();
const collected = new FinalizationRegistry<string>((key) => {
  if (interned.get(key)?.deref() === undefined) interned.delete(key);
});
let nextId = 0;

/**
 * Nodes of the current `withFreshTable` call, held so that they cannot be collected; undefined outside of
 * one.
 */
let own: Map<string, Node> | undefined;

/**
 * Runs `build` with an empty intern table, so that node ids depend only on `build`, not on what the
 * process made earlier or has collected since. The order of ids decides the order of sums and
 * kernels.
 */
export const withFreshTable = <R>(build: () => R): R => {
  const before = own;
  own = new Map();
  try {
    return build();
  } finally {
    own = before;
  }
};

let path: readonly string[] = [];

/** Runs `build` with `name` on the path that errors and `explain` show. Used through `named`. */
export const withScope = <R>(name: string, build: () => R): R => {
  const outer = path;
  path = [...outer, name];
  try {
    return build();
  } catch (error) {
    if (error instanceof AxisError && !error.message.includes("\n  in ")) {
      error.message += `\n  in ${path.join(" > ")}`;
    }
    throw error;
  } finally {
    path = outer;
  }
};

/**
 * Runs `build` so that its nodes get the path of an earlier one: for rewriting it, or for its
 * derivative.
 */
export const withPathOf = <R>(node: Node, build: () => R): R => {
  const outer = path;
  path = node.path;
  try {
    return build();
  } finally {
    path = outer;
  }
};

const identities = new WeakMap<object, number>();
let nextIdentity = 0;
const identity = (of: object): number => {
  const seen = identities.get(of);
  if (seen !== undefined) return seen;
  identities.set(of, nextIdentity);
  return nextIdentity++;
};

const stepKey = (step: Step): string => {
  const part = (nodes: Readonly<Record<string, Node>>) =>
    Object.keys(nodes).map((name) => `${name}=${nodes[name].id}`).join(",");
  return `${step.level}[${part(step.next)}|${part(step.out)}]`;
};

const attributesKey = ({ init, data, step, ...plain }: Attributes): string => {
  const objects = [init, data].map((of) => of === undefined ? "" : identity(of)).join();
  const text = JSON.stringify(plain, (_, value) => {
    if (typeof value === "number" && !Number.isFinite(value)) return `${value}`;
    return Object.is(value, -0) ? "-0" : value;
  });
  return `${text}${objects}${step === undefined ? "" : stepKey(step)}`;
};

/** The one node with these fields: new, or found in the intern table. */
export const intern = (
  op: Op,
  dtype: Dtype,
  axes: Axes,
  args: readonly Node[],
  attributes: Attributes = {},
): Node => {
  const sorted = Object.keys(axes).sort().map((axis) => `${axis}:${axes[axis]}`).join(",");
  const order = op === "input" || op === "param" || op === "literal"
    ? Object.keys(axes).join()
    : "";
  const key = `${op} ${dtype} {${sorted}|${order}} (${args.map((arg) => arg.id).join()}) ${
    attributesKey(attributes)
  }`;
  const found = own === undefined ? interned.get(key)?.deref() : own.get(key);
  if (found !== undefined) return found;
  for (const axis of Object.keys(axes)) {
    const size = axes[axis];
    if (typeof size === "number" && !(Number.isInteger(size) && size >= 1)) {
      throw new AxisError(
        `axis '${axis}' can not have the size ${size}; it must be a whole number of at least 1`,
      );
    }
  }
  const made: Node = Object.freeze({ id: nextId++, op, dtype, axes, args, attributes, path });
  if (own !== undefined) own.set(key, made);
  else {
    interned.set(key, new WeakRef(made));
    collected.register(made, key);
  }
  return made;
};

/**
 * All nodes that the roots depend on, in ascending (topological) order. Steps of scans are not
 * entered.
 */
export const topologicalOrder = (roots: readonly Node[]): readonly Node[] => {
  const seen = new Set<Node>();
  const stack = [...roots];
  while (stack.length > 0) {
    const top = stack.pop()!;
    if (seen.has(top)) continue;
    seen.add(top);
    stack.push(...top.args);
  }
  return [...seen].sort((a, b) => a.id - b.id);
};

/** Rebuilds `roots` from the leaves up, each node after its arguments; `was` is the old node. */
export const rewrite = (
  roots: readonly Node[],
  change: (node: Node, was: Node) => Node,
): readonly Node[] => {
  const done = new Map<Node, Node>();
  for (const node of topologicalOrder(roots)) {
    const args = node.args.map((arg) => done.get(arg)!);
    const same = args.every((arg, k) => arg === node.args[k]);
    const { op, dtype, axes, attributes } = node;
    done.set(
      node,
      withPathOf(node, () => change(same ? node : intern(op, dtype, axes, args, attributes), node)),
    );
  }
  return roots.map((root) => done.get(root)!);
};

/**
 * A copy of a graph, steps included, in the current intern table and in the same order.
 * Initialisers are left out: parameters with one name and shape are one leaf.
 */
export const cloneGraph = (roots: readonly Node[]): readonly Node[] => {
  const done = new Map<Node, Node>();
  const copy = (some: readonly Node[]): readonly Node[] => {
    for (const node of topologicalOrder(some)) {
      if (done.has(node)) continue;
      const { op, dtype, axes, args, attributes: { step, init: _init, ...plain } } = node;
      const all = (nodes: Readonly<Record<string, Node>>) => {
        const made = copy(Object.values(nodes));
        return Object.fromEntries(Object.keys(nodes).map((name, k) => [name, made[k]]));
      };
      const attributes = step === undefined
        ? plain
        : { ...plain, step: { ...step, next: all(step.next), out: all(step.out) } };
      const made = args.map((arg) => done.get(arg)!);
      done.set(node, withPathOf(node, () => intern(op, dtype, axes, made, attributes)));
    }
    return some.map((root) => done.get(root)!);
  };
  return copy(roots);
};

/** The path of a node as a sentence shows it: `encoder > block 3 > attention > contract`. */
export const showPath = (node: Node): string => [...node.path, node.op].join(" > ");

/** The scalar primitives. */
export type ScalarName =
  | "add"
  | "mul"
  | "max"
  | "neg"
  | "div"
  | "exp"
  | "log"
  | "log1p"
  | "sin"
  | "cos"
  | "sqrt"
  | "tanh"
  | "erf"
  | "erfc"
  | "floor"
  | "less"
  | "equal"
  | "select"
  | "toFloat"
  | "toWord"
  | "bits"
  | "xor"
  | "shiftLeft"
  | "shiftRight"
  | "quotient"
  | "remainder";
