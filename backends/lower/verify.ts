// Verifiers of every form that a program takes on its way to kernels. They always run: kernels have
// no bounds checks, so a mistake in a pass would be a wrong number or a read outside of a buffer. A
// violation is an internal error that names the pass or kernel and the node.
import { type Axes, sameAxes, showAxes } from "../../dsl/axes.ts";
import { type Node, showPath, topologicalOrder } from "../../dsl/node.ts";
import { isScalar, scalar } from "../../dsl/primitives.ts";
import { locals, roles } from "../../dsl/scan.ts";
import {
  axesOf,
  type Dim,
  type ExpressionKernel,
  type Kernel,
  type LoweredProgram,
  type ScanKernel,
  size,
  type Storage,
} from "./kernel_ir.ts";
import { movedIn, recomputedLeaves } from "./scans/plan.ts";

/** An internal error: a fault of the compiler, not of the program. */
const fault = (form: string, where: string, what: string): Error =>
  new Error(`internal error of the compiler, in ${form}: ${what}\n  in ${where}`);

const without = (axes: Axes, names: readonly string[]): Axes => {
  const left: Record<string, Axes[string]> = {};
  for (const axis in axes) if (!names.includes(axis)) left[axis] = axes[axis];
  return left;
};

/** The axes of a scan's result. */
const partAxes = (node: Node): Axes | undefined => {
  const [scan] = node.args;
  const { axis, carries, step } = scan.attributes;
  const [kind, name] = node.attributes.name!.split(/\.(.*)/s);
  const length = scan.args[carries!.length].axes[axis!];
  const from = scan.args[carries!.indexOf(name)];
  switch (kind) {
    case "final":
      return from.axes;
    case "prev":
      return { [axis!]: length, ...from.axes };
    case "out":
      return { [axis!]: length, ...step!.out[name].axes };
    default: // Sums of parts have an axis of the parts beside those of the sum.
      return undefined;
  }
};

const dtypeOf = ({ dtype }: Node) => dtype;

const countOf = (axes: Axes): number => {
  let count = 0;
  for (const _ in axes) count++;
  return count;
};

/** Whether a node has exactly the axes of its arguments. */
const joinsAxes = ({ args, axes }: Node): boolean => {
  let isWhole = false;
  for (const arg of args) {
    let count = 0;
    for (const axis in arg.axes) {
      if (arg.axes[axis] !== axes[axis]) return false;
      count++;
    }
    // Mostly one argument has all of them.
    isWhole ||= count === countOf(axes);
  }
  if (isWhole) return true;
  for (const axis in axes) if (!isIn(axis, args)) return false;
  return true;
};
const isIn = (axis: string, args: readonly Node[]): boolean => {
  for (const arg of args) if (arg.axes[axis] !== undefined) return true;
  return false;
};

/** The message for a node that does not. */
const wrongJoin = ({ op, args, axes }: Node): string => {
  for (const a of args) {
    for (const b of args) {
      for (const axis in a.axes) {
        if (axis in b.axes && a.axes[axis] !== b.axes[axis]) {
          return `'${axis}' is ${a.axes[axis]} in one argument and ${b.axes[axis]} in another`;
        }
      }
    }
  }
  const expected: Axes = Object.assign({}, ...args.map((arg) => arg.axes));
  return unlike(op, axes, expected);
};

const unlike = (op: string, axes: Axes, expected: Axes): string =>
  `${op} has the axes ${showAxes(axes)} where its arguments give ${showAxes(expected)}`;

/** The error in a node, given its arguments, or undefined. */
const wrongWith = (node: Node): string | undefined => {
  const { op, args, axes, attributes } = node;
  const [x] = args;
  const agree = (expected: Axes): string | undefined =>
    sameAxes(axes, expected) ? undefined : unlike(op, axes, expected);
  for (const arg of args) if (arg.id >= node.id) return `${op} was made before its argument`;
  if (isScalar(op)) {
    if (scalar[op].dtype(args.map(dtypeOf)) !== node.dtype) return `${op} has a wrong dtype`;
    return joinsAxes(node) ? undefined : wrongJoin(node);
  }
  // Loops without allocation: these are most of what is not scalar.
  switch (op) {
    case "reduce": {
      for (const axis of attributes.over!) {
        if (!(axis in x.axes)) return `it reduces over '${axis}', which its argument lacks`;
      }
      return agree(without(x.axes, attributes.over!));
    }
    case "index": {
      let places = 0, read = 0;
      for (const axis in x.axes) if (axis in attributes.places!) read++;
      for (const axis in attributes.places!) {
        places++;
        for (const { axis: along } of attributes.places[axis].terms) {
          if (!(along in axes)) return `it moves along '${along}', which it lacks`;
        }
      }
      return places === read && read === countOf(x.axes)
        ? undefined
        : `it does not say where each axis of ${showAxes(x.axes)} is read`;
    }
    case "gather":
      return agree({ ...without(x.axes, [attributes.axis!]), ...args[1].axes });
    case "stop":
    case "recompute":
    case "materialise":
      return agree(x.axes);
    case "part": {
      const expected = partAxes(node);
      return expected && agree(expected);
    }
    case "scan":
      return wrongWithScan(node);
    default:
      return undefined;
  }
};

const wrongWithScan = (scan: Node): string | undefined => {
  const { axis, carries, step } = scan.attributes;
  const { from, each } = roles(scan);
  const lengths = new Set(Object.values(each).map((node) => node.axes[axis!]));
  if (lengths.size !== 1) return `its inputs have ${lengths.size} lengths along '${axis}'`;
  for (const name of carries!) {
    const next = step!.next[name];
    if (!sameAxes(next.axes, from[name].axes) || next.dtype !== from[name].dtype) {
      return `the carry '${name}' is ${showAxes(from[name].axes)} and then ${showAxes(next.axes)}`;
    }
  }
  const { carry, each: slices, rest } = locals(scan);
  const own = new Set([...Object.values(carry), ...Object.values(slices), ...rest]);
  const inside = topologicalOrder([...Object.values(step!.next), ...Object.values(step!.out)]);
  const foreign = inside.find((node) => node.attributes.level === step!.level && !own.has(node));
  return foreign && `its step reads '${foreign.attributes.name}', which is no argument of it`;
};

/** The size of an axis, and a node that has it. */
interface Seen {
  readonly size: Axes[string];
  readonly node: Node;
}

/**
 * Verifies the graphs between passes over one program, steps of scans included; throws on an error.
 * Nodes are immutable, so those of earlier passes are not verified again.
 */
export const graphVerifier = (): (pass: string, roots: readonly Node[]) => void => {
  let nodes = new Set<Node>();
  const sizes = new Map<string, Seen>();
  /** The first axis whose size differs from the one seen before. */
  const resized = (node: Node): readonly [string, Seen] | undefined => {
    for (const axis in node.axes) {
      const size = node.axes[axis], seen = sizes.get(axis);
      if (seen === undefined) sizes.set(axis, { size, node });
      else if (seen.size !== size) return [axis, seen];
    }
    return undefined;
  };
  /** Verifies new nodes; false if an axis has a size that differs from that in an earlier pass. */
  const verifyNew = (pass: string, roots: readonly Node[], isAlone: boolean): boolean => {
    const stack = [...roots].reverse();
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      if (nodes.has(node)) continue;
      nodes.add(node);
      const other = resized(node);
      if (other !== undefined) {
        if (!isAlone) return false;
        const [axis, seen] = other;
        const what = `'${axis}' is ${seen.size} in ${showPath(seen.node)}, but ` +
          `${node.axes[axis]} here`;
        throw fault(`the pass '${pass}'`, showPath(node), what);
      }
      const wrong = wrongWith(node);
      if (wrong !== undefined) throw fault(`the pass '${pass}'`, showPath(node), wrong);
      const { step } = node.attributes;
      stack.push(...node.args);
      if (step !== undefined) stack.push(...Object.values(step.next), ...Object.values(step.out));
    }
    return true;
  };
  return (pass, roots) => {
    if (verifyNew(pass, roots, nodes.size === 0)) return;
    // A pass may reuse a name that an earlier one removed: verifies this graph by itself.
    nodes = new Set();
    sizes.clear();
    verifyNew(pass, roots, true);
  };
};

/** The error in axes that a kernel does not iterate over. */
const outsideOf = (axes: Axes, space: ReadonlyMap<string, number>): string | undefined => {
  const axis = Object.keys(axes).find((one) => space.get(one) !== axes[one]);
  return axis && `'${axis}' is ${axes[axis]}, but the kernel runs over ` +
      `${space.has(axis) ? space.get(axis) : "no such axis"}`;
};

const spaceOf = (dims: readonly Dim[]): ReadonlyMap<string, number> =>
  new Map(dims.map((dim) => [dim.axis, dim.size]));

const wrongWithLoops = (kernel: ExpressionKernel): string | undefined => {
  const { space, over, reductions, contraction, roots } = kernel;
  const all = spaceOf([...space, ...over]);
  if (all.size !== space.length + over.length) return "it runs over an axis twice";
  for (const { node, storage } of roots) {
    const wrong = outsideOf(node.axes, all);
    if (wrong !== undefined) return `the result ${node.op} does not fit: ${wrong}`;
    const isOfRows = !over.some(({ axis }) => axis in node.axes);
    const expected = isOfRows ? size(space) : size(space) * size(over);
    const elements = size(storage.dims);
    if (elements !== expected) return `a result has ${elements} elements of ${expected}`;
  }
  for (const node of reductions) {
    const wrong = outsideOf(node.args[0].axes, all);
    if (wrong !== undefined) return `a reduction does not fit: ${wrong}`;
    const names = over.map(({ axis }) => axis).sort().join(), own = node.attributes.over!.join();
    if (names !== own) return `it reduces over ${own} in rows of ${names}`;
    if (Object.keys(node.args[0].axes).length !== all.size) return "a reduction lacks an axis";
  }
  if (contraction !== undefined) {
    const { node, left, right, batch, rows, columns, over: terms } = contraction;
    const every = spaceOf([...batch, ...rows, ...columns, ...terms]);
    for (const operand of [node, left, right]) {
      const wrong = outsideOf(operand.axes, every);
      if (wrong !== undefined) return `an operand does not fit: ${wrong}`;
    }
    const wrong = outsideOf(axesOf([...batch, ...rows, ...columns]), all);
    if (wrong !== undefined) return `its product does not fit: ${wrong}`;
  }
  return undefined;
};

const wrongWithLanes = (kernel: ScanKernel): string | undefined => {
  const { scan, parallel, perLane, roots, recomputes } = kernel;
  const all = spaceOf([...parallel, ...perLane]);
  if (all.size !== parallel.length + perLane.length) return "an axis is both held and of the lanes";
  const { step } = scan.attributes;
  const outs = roots.flatMap(({ kind, name, partial }) =>
    kind === "out" ? [partial?.reduction ?? step!.out[name]] : []
  );
  const next = [scan, ...recomputes === undefined ? [] : [recomputes.scan]]
    .flatMap((node) => Object.values(node.attributes.step!.next));
  const sums = topologicalOrder([...next, ...outs]).filter(({ op }) => op === "reduce")
    .map(({ args }) => args[0]);
  for (const node of [...next, ...outs, ...sums]) {
    const wrong = outsideOf(node.axes, all);
    if (wrong !== undefined) return `${node.op} of its step does not fit: ${wrong}`;
  }
  const again = recomputes === undefined ? undefined : recomputedLeaves(scan, recomputes.scan);
  const moved = movedIn(topologicalOrder([...next, ...outs]), again);
  const parted = parallel.find(({ axis }) => moved.has(axis));
  if (parted !== undefined) return `its lanes lie along '${parted.axis}', and its step moves there`;
  return undefined;
};

/** The storages that a kernel reads, by their nodes. */
const readsOf = (
  kernel: Kernel,
  stored: ReadonlyMap<Node, Storage>,
): ReadonlyMap<Node, Storage> => {
  const reads = new Map<Node, Storage>();
  const isScan = kernel.shape === "scan";
  const own = new Set(isScan ? [] : kernel.roots.map(({ node }) => node));
  const seen = new Set<Node>();
  const stack: Node[] = [];
  const visit = (node: Node) => {
    const storage = stored.get(node);
    const isHere = own.has(node) || kernel.again.has(node);
    if (storage !== undefined && !isHere) reads.set(node, storage);
    else if (!seen.has(node)) {
      seen.add(node);
      stack.push(node);
    }
  };
  if (isScan) {
    const { recomputes } = kernel;
    const inputs = recomputes === undefined ? undefined : roles(recomputes.scan);
    // Recomputed carries start from stored ones and are not read themselves.
    const again = inputs === undefined ? [] : [...Object.values(inputs.each), ...inputs.rest];
    for (const arg of [...kernel.scan.args, ...again]) {
      const isAgain = arg.op === "part" && arg.args[0] === recomputes?.scan;
      if (!isAgain) visit(arg);
    }
  } else {
    for (const { node, storage } of kernel.roots) {
      const from = stored.get(node);
      if (from !== undefined && from !== storage) reads.set(node, from);
      else visit(node);
    }
  }
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) node.args.forEach(visit);
  return reads;
};

/** Verifies a lowered program; throws on an error. */
export const verifyLowered = (lowered: LoweredProgram): void => {
  const { kernels, stored, inputs, params, literals, outputs, copies } = lowered;
  for (const list of [inputs, params]) {
    const names = new Set<string>();
    for (const { name } of list) {
      if (names.has(name!)) {
        throw fault("the lowered program", name!, `'${name}' is stored in two places`);
      }
      names.add(name!);
    }
  }
  /** The value that each written storage holds. */
  const written = new Map<Storage, Node | undefined>();
  [...inputs, ...params, ...literals].forEach((storage) => written.set(storage, undefined));
  for (const kernel of kernels) {
    const wrong = (what: string) => fault(`a ${kernel.shape} kernel`, kernel.path, what);
    const misfit = kernel.shape === "scan" ? wrongWithLanes(kernel) : wrongWithLoops(kernel);
    if (misfit !== undefined) throw wrong(misfit);
    for (const [node, storage] of readsOf(kernel, stored)) {
      if (!written.has(storage)) throw wrong(`it reads ${showPath(node)} before that is computed`);
      const holds = written.get(storage);
      if (holds !== undefined && holds !== node) {
        throw wrong(`it reads ${showPath(node)} where ${showPath(holds)} has been written`);
      }
      if (!sameAxes(axesOf(storage.dims), node.axes)) {
        const own = showAxes(axesOf(storage.dims));
        throw wrong(`it reads ${showPath(node)} of ${showAxes(node.axes)} as ${own}`);
      }
    }
    if (kernel.shape === "scan") {
      const { checkpoints, recomputes, roots } = kernel;
      for (const storage of Object.values(recomputes?.checkpoints.storage ?? {})) {
        if (!written.has(storage)) throw wrong("it reads carries before they are stored");
      }
      Object.values(checkpoints?.storage ?? {}).forEach((one) => written.set(one, undefined));
      roots.forEach(({ storage }) => written.set(storage, undefined));
    } else kernel.roots.forEach(({ node, storage }) => written.set(storage, node));
  }
  const ends = [...Object.values(outputs), ...copies.map(({ from }) => from)];
  if (ends.some((storage) => !written.has(storage))) {
    throw fault("the lowered program", "its outputs", "an output is never computed");
  }
};
