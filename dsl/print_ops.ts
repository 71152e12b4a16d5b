// How each operation is printed: `a - b` and not `a + (-b)`, `softmax(x, "key")` and not its parts.
// A derived operation is recognised by building it again: equal expressions are one object.
// print.ts combines the phrases.
import { type Axes, showAxes } from "./axes.ts";
import { type AffineIndex, type Node, nodeOf, tensorOf } from "./node.ts";
import * as ops from "./ops.ts";
import { isIdentity } from "./structure.ts";

/** Text, and the precedence of its outermost operation. */
export interface Text {
  readonly text: string;
  readonly binds: number;
}

/** Precedences, lowest first; an atom never needs brackets. */
export const binding = { compare: 0, sum: 1, product: 2, sign: 3, atom: 4 } as const;

/** A phrase: a node's operands, and the text made from theirs. */
export interface Phrase {
  readonly operands: readonly Node[];
  readonly write: (texts: readonly Text[]) => Text;
}

const atom = (text: string): Text => ({ text, binds: binding.atom });
const phrase = (operands: readonly Node[], write: (...texts: Text[]) => Text): Phrase => ({
  operands,
  write: (texts) => write(...texts),
});
const bracketed = (of: Text, least: number): string => of.binds >= least ? of.text : `(${of.text})`;
const infix = (sign: string, binds: number) => (a: Text, b: Text): Text => ({
  text: `${bracketed(a, binds)} ${sign} ${bracketed(b, binds + 1)}`,
  binds,
});
/** Operators with obscure precedence: their operands are in brackets. */
const bits = (sign: string) => (a: Text, b: Text): Text => ({
  text: `${bracketed(a, binding.atom)} ${sign} ${bracketed(b, binding.atom)}`,
  binds: binding.compare,
});
const call = (name: string, operands: readonly Node[], ...further: readonly string[]): Phrase =>
  phrase(
    operands,
    (...texts) => atom(`${name}(${[...texts.map((of) => of.text), ...further].join(", ")})`),
  );

const quoted = (name: string): string => JSON.stringify(name);
const listed = (names: readonly string[]): string =>
  names.length === 1 ? quoted(names[0]) : `[${names.map(quoted).join(", ")}]`;

/** A number with the digits that a person reads. */
export const showNumber = (value: number): string =>
  Number.isFinite(value) ? `${Number(value.toPrecision(6))}` : `${value}`;

const number = (value: number): Text => ({
  text: showNumber(value),
  binds: value < 0 ? binding.sign : binding.atom,
});

/** Functions that ops.ts composes: the outermost operation, and how to find the argument below. */
const derived: readonly {
  readonly name: string;
  readonly op: Node["op"];
  readonly at: readonly number[];
  readonly build: ops.Unary;
}[] = [
  { name: "square", op: "mul", at: [0], build: ops.square },
  { name: "silu", op: "mul", at: [0], build: ops.silu },
  { name: "gelu", op: "mul", at: [0, 0], build: ops.gelu },
  { name: "sigmoid", op: "select", at: [0, 0], build: ops.sigmoid },
  { name: "softplus", op: "add", at: [0, 2], build: ops.softplus },
  { name: "relu", op: "max", at: [0], build: ops.relu },
];

const below = (node: Node, at: readonly number[]): Node | undefined =>
  at.reduce<Node | undefined>((found, k) => found?.args[k], node);

const derivedPhrase = (node: Node): Phrase | undefined => {
  for (const { name, op, at, build } of derived) {
    if (node.op !== op) continue;
    const x = below(node, at);
    if (x?.dtype === "f32" && nodeOf(build(tensorOf(x))) === node) return call(name, [x]);
  }
};

const isSum = (node: Node): boolean => node.op === "reduce" && node.attributes.how === "add";

const isInverse = ({ op, args: [one] }: Node): boolean =>
  op === "div" && one.op === "const" && one.attributes.value === 1;

const softmaxPhrase = (node: Node): Phrase | undefined => {
  const [e, scale] = node.args;
  const x = e.op === "exp" ? below(e, [0, 0]) : undefined;
  const total = isInverse(scale) ? scale.args[1] : undefined;
  if (x === undefined || total === undefined || !isSum(total)) return;
  const over = total.attributes.over!;
  if (over.length !== 1 || !(over[0] in x.axes)) return;
  return nodeOf(ops.softmax(tensorOf<Axes>(x), over[0])) === node
    ? call("softmax", [x], quoted(over[0]))
    : undefined;
};

const meanPhrase = (node: Node): Phrase | undefined => {
  const [total, scale] = node.args;
  if (!isSum(total) || scale.op !== "const") return;
  const [x] = total.args;
  const over = total.attributes.over!;
  const sizes = over.map((axis) => x.axes[axis]);
  const count = sizes.reduce<number>((n, size) => typeof size === "number" ? n * size : NaN, 1);
  if (scale.attributes.value !== count) return;
  return call("mean", [x], listed(over));
};

const sumPhrase = (node: Node): Phrase => {
  const [a, b] = node.args;
  if (b.op === "neg") return phrase([a, b.args[0]], infix("-", binding.sum));
  const minus = infix("-", binding.sum);
  if (b.op === "const" && b.dtype === "f32" && b.attributes.value! < 0) {
    const amount = number(-b.attributes.value!);
    return phrase([a], (a) => minus(a, amount));
  }
  if (a.op === "index" && b.op === "index") {
    const [x, y] = [a.args[0], b.args[0]];
    const axis = changed(b)[0];
    if (axis !== undefined && axis in x.axes && axis in y.axes) {
      const [first, second] = [x.axes[axis], y.axes[axis]];
      const whole = typeof first === "number" && typeof second === "number" &&
        node.axes[axis] === first + second;
      if (whole && nodeOf(ops.concat(tensorOf<Axes>(x), tensorOf<Axes>(y), axis)) === node) {
        return call("concat", [x, y], quoted(axis));
      }
    }
  }
  return phrase([a, b], infix("+", binding.sum));
};

const negPhrase = (node: Node): Phrase => {
  const [x] = node.args;
  if (x.op === "max" && x.args.every((arg) => arg.op === "neg")) {
    return call("minimum", x.args.map((arg) => arg.args[0]));
  }
  return phrase([x], (x) => ({ text: `-${bracketed(x, binding.sign)}`, binds: binding.sign }));
};

const reducePhrase = (node: Node): Phrase => {
  const [x] = node.args;
  const over = node.attributes.over!;
  if (node.attributes.how === "max") return call("max", [x], listed(over));
  const both = x.op === "mul" && over.every((axis) => x.args.every((arg) => axis in arg.axes));
  return both && x.args[0] !== x.args[1]
    ? call("contract", x.args, listed(over))
    : call("sum", [x], listed(over));
};

// ---- movement -----------------------------------------------------------------------------------

/** The input axes that an index node does not read as they are. */
const changed = (node: Node): readonly string[] =>
  Object.entries(node.attributes.places!)
    .filter(([axis, place]) =>
      !isIdentity(place, axis) || node.axes[axis] !== node.args[0].axes[axis]
    )
    .map(([axis]) => axis);

const axisName = (axis: string): string =>
  /^[\p{L}_][\p{L}\p{N}_]*$/u.test(axis) ? axis : quoted(axis);

const showPlace = ({ terms, offset, divisor, exact, modulo }: AffineIndex): string => {
  const parts = [
    ...terms.map(({ axis, times }) => {
      const size = Math.abs(times) === 1 ? "" : `${showNumber(Math.abs(times))} `;
      return `${times < 0 ? "- " : "+ "}${size}${axisName(axis)}`;
    }),
    ...(offset === 0 && terms.length > 0 ? [] : [`${offset < 0 ? "- " : "+ "}${Math.abs(offset)}`]),
  ];
  const sum = parts.join(" ").replace(/^\+ /, "").replace(/^- /, "-");
  const inner = parts.length > 1 && (divisor > 1 || modulo > 0) ? `(${sum})` : sum;
  const divided = divisor > 1 ? `${inner} ${exact ? "/" : "div"} ${divisor}` : inner;
  return modulo > 0 ? `${divided} mod ${modulo}` : divided;
};

/** The general form: the position read along each axis that is not read unchanged. */
const anyIndex = (node: Node): Phrase => {
  const places = changed(node).map((axis) =>
    `${axis}: ${showPlace(node.attributes.places![axis])}`
  );
  const fill = node.attributes.fill === 0 ? "" : ` else ${showNumber(node.attributes.fill!)}`;
  return phrase(
    node.args,
    (x) => atom(`${bracketed(x, binding.atom)}[${places.join(", ")}]${fill}`),
  );
};

/** Tries the constructors of structure.ts: the one that builds this very node is the phrase. */
const indexPhrase = (node: Node): Phrase => {
  const [x] = node.args;
  const t = tensorOf<Axes>(x);
  const { places, fill } = node.attributes;
  const axes = changed(node);
  const fresh = Object.fromEntries(
    Object.entries(node.axes).filter(([axis]) => !(axis in x.axes)),
  );
  if (axes.length === 0) return call("expand", [x], showAxes(fresh));
  const tries: [() => ReturnType<typeof ops.flip>, Phrase][] = [];
  const [axis] = axes;
  const size = x.axes[axis], now = node.axes[axis];
  const { terms, offset, divisor, modulo } = places![axis];
  const told = quoted(axis);
  if (axes.length === 1 && terms.length === 0) {
    tries.push([() => ops.take(t, axis, offset), call("take", [x], told, `${offset}`)]);
  } else if (axes.length === 1 && terms.length === 1) {
    const [{ axis: from, times }] = terms;
    if (from !== axis && !(from in x.axes)) {
      tries.push([() => ops.rename(t, axis, from), call("rename", [x], told, quoted(from))]);
    } else if (typeof now === "number" && typeof size === "number") {
      const after = now - size + offset;
      const filled = fill === 0 ? [] : [showNumber(fill!)];
      const stride = times === 1 ? [] : [`${times}`];
      tries.push(
        [() => ops.flip(t, axis), call("flip", [x], told)],
        [
          () => ops.slice(t, axis, offset, now, times),
          call("slice", [x], told, `${offset}`, `${now}`, ...stride),
        ],
        [
          () => ops.pad(t, axis, -offset, after, fill),
          call("pad", [x], told, `${-offset}`, `${after}`, ...filled),
        ],
      );
    }
  } else if (axes.length === 1) {
    const into = Object.fromEntries(terms.map((term) => [term.axis, node.axes[term.axis]]));
    tries.push([() => ops.split(t, axis, into), call("split", [x], told, showAxes(into))]);
    const [{ axis: out, times: stride }, { axis: tap, times: dilation }] = terms;
    const width = node.axes[tap], count = node.axes[out];
    if (typeof width === "number" && typeof count === "number" && typeof size === "number") {
      const before = -offset;
      // The least padding behind that makes so many windows.
      const span = (count - 1) * stride + (width - 1) * dilation + 1;
      const after = Math.max(0, span - size - before);
      const options = { stride, dilation, before, after };
      const given = Object.entries({ ...options }).filter(([name, value]) =>
        value !== (name === "stride" || name === "dilation" ? 1 : 0)
      );
      const shown = given.length === 0
        ? []
        : [`{ ${given.map(([name, value]) => `${name}: ${value}`).join(", ")} }`];
      tries.push([
        () => ops.slidingWindows(t, axis, { out, tap, size: width }, options),
        call(
          "slidingWindows",
          [x],
          told,
          `{ out: ${quoted(out)}, tap: ${quoted(tap)}, size: ${width} }`,
          ...shown,
        ),
      ]);
    }
  } else if (divisor > 1 || modulo > 0) {
    const to = terms[0].axis;
    const slowest = axes.toSorted((a, b) => places![b].divisor - places![a].divisor);
    tries.push([() => ops.merge(t, slowest, to), call("merge", [x], listed(slowest), quoted(to))]);
  }
  for (const [make, written] of tries) {
    try {
      if (nodeOf(make()) === node) return written;
    } catch (error) {
      // A constructor that refuses these arguments did not make the node.
      if (!(error instanceof Error && error.name === "AxisError")) throw error;
    }
  }
  return anyIndex(node);
};

// ---- every operation ----------------------------------------------------------------------------

/** `recurrence(...)` for the output of the scan that it makes. */
const recurrencePhrase = (node: Node): Phrase | undefined => {
  const [scan] = node.args;
  const { axis, reverse, carries, eachs } = scan.attributes;
  if (node.attributes.name !== "out.h" || carries!.join() !== "h" || eachs!.join() !== "a,b") {
    return;
  }
  const [a, b] = scan.args.slice(1).map((arg) => tensorOf<Axes>(arg));
  if (nodeOf(ops.recurrence(axis!, a, b, { reverse })) !== node) return;
  const written = call(
    "recurrence",
    scan.args.slice(1, 3),
    ...(reverse ? ["{ reverse: true }"] : []),
  );
  return {
    operands: written.operands,
    write: (texts) => written.write([atom(quoted(axis!)), ...texts]),
  };
};

const infixes: Partial<Record<Node["op"], (a: Text, b: Text) => Text>> = {
  less: infix("<", binding.compare),
  equal: infix("==", binding.compare),
  xor: bits("^"),
  shiftLeft: bits("<<"),
  shiftRight: bits(">>"),
  quotient: infix("/", binding.product),
  remainder: infix("%", binding.product),
};

/** What the language calls an operation, where it is something else. */
const spoken: Partial<Record<Node["op"], string>> = {
  max: "maximum",
  stop: "stopGradient",
  recompute: "checkpoint",
  bits: "bitcastU32",
  toWord: "toU32",
};

/** The phrase of a node. print.ts itself handles scans, named leaves and parts of scans. */
export const phraseOf = (node: Node): Phrase => {
  const { op, args, attributes } = node;
  const known = derivedPhrase(node);
  if (known !== undefined) return known;
  const operator = infixes[op];
  if (operator !== undefined) return phrase(args, operator);
  switch (op) {
    case "const":
      return phrase(
        [],
        () => node.dtype === "u32" ? atom(`${attributes.value}`) : number(attributes.value!),
      );
    case "iota":
      return phrase(
        [],
        () => atom(`iota(${quoted(attributes.axis!)}, ${node.axes[attributes.axis!]})`),
      );
    case "literal":
      return phrase([], () => atom(`literal(${showAxes(node.axes)})`));
    case "local":
      return phrase([], () => atom(attributes.name!));
    case "add":
      return sumPhrase(node);
    case "mul":
      return softmaxPhrase(node) ?? phrase(args, infix("*", binding.product));
    case "neg":
      return negPhrase(node);
    case "div":
      return meanPhrase(node) ?? phrase(args, infix("/", binding.product));
    case "reduce":
      return reducePhrase(node);
    case "index":
      return indexPhrase(node);
    case "gather":
      return phrase(
        args,
        (x, at) => atom(`gather(${x.text}, ${quoted(attributes.axis!)}, ${at.text})`),
      );
    case "part":
      return recurrencePhrase(node) ??
        phrase(args, (scan) => atom(`${scan.text}.${attributes.name}`));
    default:
      return call(spoken[op] ?? op, args);
  }
};
