// Which kinds of things a random program contains, told from its terms: what faults have been made of.
// A test asserts that each is a tenth of the programs or more.
import type { Random } from "./recipes.ts";
import { everything, reachable, type Term } from "./terms.ts";

const sizesDiffer = (terms: readonly Term[]): boolean => {
  const sizes = new Map<string, number>();
  return terms.some(({ axes }) =>
    Object.entries(axes).some(([axis, size]) => {
      const known = sizes.get(axis) ?? size;
      sizes.set(axis, known);
      return known !== size;
    })
  );
};

/** Whether a leaf is renamed to two names, or stands beside itself renamed. */
const renamesLeaf = (terms: readonly Term[]): boolean => {
  const renamed = new Set(
    terms.filter(({ op, args }) => op === "rename" && args[0].args.length === 0)
      .map(({ args }) => args[0]),
  );
  return terms.some(({ op, args }) =>
    op !== "rename" && args.some((arg) => renamed.has(arg)) && args.length > 1
  );
};

const isReduction = ({ op }: Term) => op === "sum" || op === "maximum" || op === "mean";
const functions = new Set(["tanh", "exp", "sigmoid", "softplus", "gelu", "sin", "log1p", "sqrt"]);

/** Those of some terms that follow from one of others; both are in order. */
const following = (terms: readonly Term[], from: (of: Term) => boolean): ReadonlySet<Term> => {
  const found = new Set<Term>();
  for (const of of terms) {
    if (from(of) || of.args.some((arg) => found.has(arg))) found.add(of);
  }
  return found;
};

const factors = (of: Term): number =>
  of.op === "mul" ? of.args.reduce((sum, arg) => sum + factors(arg), 0) : 1;

const scanKinds = (scan: Term): readonly string[] => {
  const { carry, each, inside } = scan.step!;
  const ops = new Set(inside.map(({ op }) => op));
  const read = new Set(inside.flatMap(({ args }) => args));
  const carried = new Set<Term>(Object.values(carry));
  const fromCarry = following([...carried, ...inside], (of) => carried.has(of));
  const reduced = following(inside, isReduction);
  const kinds: readonly (readonly [string, boolean])[] = [
    ["a scan's step slices", ops.has("slice")],
    ["a scan's step pads", ops.has("pad") || ops.has("concat")],
    ["a scan's step sums", ops.has("sum") || ops.has("mean")],
    ["a scan's step takes a maximum", ops.has("maximum") || ops.has("softmax")],
    [
      "a scan's step mixes its carry",
      inside.some((of) => (of.op === "contract" || of.op === "softmax") && fromCarry.has(of)),
    ],
    [
      "a function after a reduction in a step",
      inside.some((of) => functions.has(of.op) && reduced.has(of)),
    ],
    [
      "one axis in two sizes in a step",
      sizesDiffer([...inside, ...carried, ...Object.values(each)]),
    ],
    ["a carry of words", Object.values(carry).some(({ dtype }) => dtype === "u32")],
    ["a step that reads no input", Object.values(each).every((leaf) => !read.has(leaf))],
    ["a scan backwards", scan.reverse!],
    ["a scan over length 1", scan.numbers![0] === 1],
  ];
  return kinds.filter(([, is]) => is).map(([kind]) => kind);
};

/** All kinds of a program. */
export const kindsOf = (of: Random): ReadonlySet<string> => {
  const roots = [...Object.values(of.outputs), ...Object.values(of.updates)];
  const order = reachable(roots), all = everything(roots);
  const scans = order.filter(({ op }) => op === "scan");
  const behind = scans.some((scan) => reachable(scan.args).some(({ op }) => op === "scan"));
  const kinds: readonly (readonly [string, boolean])[] = [
    ["one axis in two sizes", sizesDiffer(order)],
    ["one leaf under several names of axes", renamesLeaf(all)],
    ["several outputs", Object.keys(of.outputs).length > 1],
    ["updates", Object.keys(of.updates).length + of.descended.length > 0],
    ["a scan", scans.length > 0],
    ["several scans", scans.length > 1],
    ["a scan after a scan", behind],
    ["a first gradient", of.order > 0],
    ["a second gradient", of.order > 1],
    ["a first gradient of a scan", of.order > 0 && scans.length > 0],
    ["a second gradient of a scan", of.order > 1 && scans.length > 0],
    [
      "a gradient of a maximum of three factors",
      of.order > 0 && all.some((one) => one.op === "maximum" && factors(one.args[0]) > 2),
    ],
    ["special values", of.special],
    ["a chain of a thousand", order.length > 1000],
  ];
  return new Set([
    ...kinds.filter(([, is]) => is).map(([kind]) => kind),
    ...scans.flatMap(scanKinds),
  ]);
};

const names = [
  "one axis in two sizes",
  "one leaf under several names of axes",
  "several outputs",
  "updates",
  "a scan",
  "several scans",
  "a scan after a scan",
  "a first gradient",
  "a second gradient",
  "a first gradient of a scan",
  "a second gradient of a scan",
  "a gradient of a maximum of three factors",
  "special values",
  "a chain of a thousand",
  "a scan's step slices",
  "a scan's step pads",
  "a scan's step sums",
  "a scan's step takes a maximum",
  "a scan's step mixes its carry",
  "a function after a reduction in a step",
  "one axis in two sizes in a step",
  "a carry of words",
  "a step that reads no input",
  "a scan backwards",
  "a scan over length 1",
];

/** Of how many programs each kind is, from 0 to 1. */
export const shares = (
  kinds: readonly ReadonlySet<string>[],
): readonly (readonly [string, number])[] =>
  names.map((name) => [name, kinds.filter((one) => one.has(name)).length / kinds.length] as const);
