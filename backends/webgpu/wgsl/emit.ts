// Prints expressions as WGSL. An environment says at which position of each axis a node is wanted;
// movement nodes only change the environment. Every value is a `let` in the outermost block that
// has all its dependencies, so loop-invariant values are computed before the loop.
import { sizeOf } from "../../../dsl/axes.ts";
import type { AffineIndex, Dtype, Node } from "../../../dsl/node.ts";
import { isScalar } from "../../../dsl/primitives.ts";
import { special, wgslMax, wgslScalar } from "./scalar.ts";
import * as affine from "../../codegen/index_math.ts";
import { nestings } from "../../codegen/nesting.ts";
import type { Dim, Storage } from "../../lower/kernel_ir.ts";
import { size } from "../../lower/kernel_ir.ts";
import { isShownInside, mustBeInside, placeOf } from "../../codegen/verify_addresses.ts";
import { type Binder, binder } from "./bindings.ts";

/** Where each axis is read. */
export type Env = ReadonlyMap<string, affine.IndexExpr>;

/** A printed value and the depth of the block that declares it. */
export interface Value {
  readonly text: string;
  readonly level: number;
}

interface Block {
  readonly lines: string[];
  readonly variables: Set<string>;
  readonly memo: Map<string, Value>;
  readonly trips: number;
}

/** Prints one kernel's body. */
export interface Emitter {
  /** The value of a node at an environment. */
  readonly emit: (node: Node, env: Env) => Value;
  /** Sets the value of a node in this kernel, where it is not computed from its arguments. */
  readonly override: (node: Node, by: (env: Env) => Value) => void;
  readonly line: (text: string) => void;
  /** Runs `inside` in a block `header { ... }` that declares variables and runs `trips` times. */
  readonly block: (
    header: string,
    variables: readonly string[],
    trips: number,
    inside: () => void,
    footer?: string,
  ) => void;
  /** A `let` for an integer, as a variable of its range. */
  readonly index: (value: affine.IndexExpr) => affine.IndexExpr;
  /** Positions of `dims` from one flattened index. */
  readonly unflatten: (
    flat: affine.IndexExpr,
    dims: readonly Dim[],
  ) => ReadonlyMap<string, affine.IndexExpr>;
  readonly store: (storage: Storage, env: Env, value: string) => void;
  readonly load: (storage: Storage, env: Env) => Value;
  readonly fresh: (prefix: string) => string;
  readonly depth: () => number;
  readonly lines: () => readonly string[];
  /** Broadcasts the value of one lane of each subgroup; control flow must be uniform. */
  readonly broadcast: (value: string, lane: number) => string;
  /** The sum or maximum over the lanes of each subgroup. */
  readonly acrossSubgroup: (how: "add" | "max", value: string) => string;
  /** The maximum of two floats; NaN if either is NaN. */
  readonly larger: (a: string, b: string) => string;
  readonly usesSubgroups: () => boolean;
  readonly helpers: () => readonly string[];
  readonly flops: () => number;
}

/** Floats as u32 in the same order, NaN above all, and back. */
const wgslKeys = `fn key_(x: f32) -> u32 {
  let n = bitcast<u32>(x);
  let key = select(n | 0x80000000u, ~n, n >= 0x80000000u);
  return select(key, 0xffffffffu, (n & 0x7fffffffu) > 0x7f800000u);
}
fn float_(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}`;

/** A constant as WGSL spells it. */
export const literal = (value: number, dtype: Dtype): string => {
  if (dtype === "bool") return value !== 0 ? "true" : "false";
  if (dtype === "u32") return `${value >>> 0}u`;
  const float = Math.fround(value);
  if (!Number.isFinite(float)) return special(float);
  const text = `${float}`;
  const spelled = /[.e]/.test(text) ? `${text}f` : `${text}.0f`;
  return text.startsWith("-") ? `(${spelled})` : spelled;
};

const isLiteral = (text: string) => /^\(?-?[\d.]+(e[+-]?\d+)?[fu]?\)?$|^(true|false)$/.test(text);

/** The WGSL type of a dtype in computations, and in storage. */
export const computed: Readonly<Record<Dtype, string>> = { f32: "f32", u32: "u32", bool: "bool" };
const storedAs: Readonly<Record<Dtype, string>> = { f32: "f32", u32: "u32", bool: "u32" };

/** The type of a storage's elements. */
export const typeOf = ({ dtype, half }: Storage): string => half ? "f16" : storedAs[dtype];

/** An element of a private array of the kernel. */
export const elementOf = (array: string, at: affine.IndexExpr, length: number): string => {
  mustBeInside(at, { elements: length, words: () => `the array '${array}' of a kernel` });
  return `${array}[${affine.show(at)}]`;
};

/** A float rounded to f16. A constant must not be beyond its largest. */
export const rounded = (value: string): string => {
  const number = isLiteral(value) ? Number.parseFloat(value.replace("(", "")) : 0;
  return Math.abs(number) > 65504 ? `f16(${number > 0 ? "" : "-"}65504.0)` : `f16(${value})`;
};

/**
 * Names that the counter could make and that are types of WGSL, which variables must not shadow.
 */
const types: ReadonlySet<string> = new Set(["i32", "u32", "f32", "f16"]);

/**
 * A new emitter. `stored` maps values that other kernels or the caller provide; those in `here` are
 * computed by this kernel although they are stored. `bound` gives the access to storages. With
 * `subgroup`, the size of all subgroups, an element that all lanes read in a loop is read by one
 * lane and broadcast: drivers on CPUs gather lane by lane otherwise.
 */
export const emitter = (
  stored: ReadonlyMap<Node, Storage>,
  here: ReadonlySet<Node> = new Set(),
  bound: Binder = binder(),
  subgroup?: number,
): Emitter => {
  const blocks: Block[] = [{ lines: [], variables: new Set(), memo: new Map(), trips: 1 }];
  const overrides = new Map<Node, (env: Env) => Value>();
  const helpers = new Set<string>();
  let counter = 0;
  let flops = 0;
  const fresh = (prefix: string): string => {
    const name = `${prefix}${counter++}`;
    return types.has(name) ? fresh(prefix) : name;
  };
  const top = () => blocks[blocks.length - 1];
  const depth = () => blocks.length - 1;

  const offsets = new Map<Storage, string>();
  /** The text that reads or names an element of a storage. */
  const bind = (storage: Storage, address: string, written: boolean): string => {
    const { name, place } = bound.reach(storage, written);
    const read = (text: string) => storage.half && !written ? `f32(${text})` : text;
    if (place === undefined) return read(`${name}[${address}]`);
    const offset = offsets.get(storage) ?? fresh("o");
    if (!offsets.has(storage)) {
      blocks[0].lines.push(`let ${offset} = i32(places[${place >> 2}][${place & 3}]);`);
      offsets.set(storage, offset);
    }
    const text = `${name}[${offset} + ${address}]`;
    return storage.dtype === "f32" || written ? read(text) : `bitcast<u32>(${text})`;
  };

  const levelOf = (variables: readonly string[]): number => {
    for (let level = depth(); level > 0; level--) {
      if (variables.some((name) => blocks[level].variables.has(name))) return level;
    }
    return 0;
  };

  const define = (level: number, dtype: Dtype, text: string, prefix = "v"): Value => {
    if (isLiteral(text)) return { text, level: 0 };
    const name = fresh(prefix);
    blocks[level].lines.push(`let ${name}: ${computed[dtype]} = ${text};`);
    return { text: name, level };
  };

  const addressOf = (storage: Storage, env: Env): affine.IndexExpr => {
    let address = affine.int(0);
    for (const { axis, size } of storage.dims) {
      const at = env.get(axis);
      if (at === undefined) throw new Error(`no position for axis '${axis}' of a stored value`);
      address = affine.sum(affine.times(address, size), at);
    }
    return address;
  };

  let subgroups = false;
  const broadcast = (value: string, lane: number): string => {
    subgroups = true;
    return `subgroupBroadcast(${value}, ${lane}u)`;
  };
  /** An element that all lanes need, from a range of which each lane reads one. */
  const subgroupBroadcastLoad = (
    storage: Storage,
    address: affine.IndexExpr,
    level: number,
    lanes: number,
  ): string => {
    const lane = address.constant - lanes * Math.floor(address.constant / lanes);
    const first = affine.sum(address, affine.int(-lane));
    const key = `stretch ${storage.id} ${affine.show(first)}`;
    const known = blocks[level].memo.get(key);
    const stretch = known?.text ?? fresh("g");
    if (known === undefined) {
      const own = `${affine.show(first)} + i32(sg)`, last = size(storage.dims) - 1;
      // Elements beyond the storage are not used.
      const isInside = affine.low(first) >= 0 && affine.high(first) + lanes - 1 <= last;
      const at = isInside ? own : `clamp(${own}, 0, ${last})`;
      const read = bind(storage, at, false);
      blocks[level].lines.push(`let ${stretch}: f32 = ${read};`);
      blocks[level].memo.set(key, { text: stretch, level });
    }
    return broadcast(stretch, lane);
  };

  /** The address of an environment in a storage, clamped if it cannot be shown to lie inside. */
  const placeIn = (storage: Storage, env: Env): affine.IndexExpr => {
    const address = addressOf(storage, env);
    const isShown = isShownInside(address, placeOf(storage));
    return isShown ? address : clamped(address, size(storage.dims));
  };

  const load = (storage: Storage, env: Env): Value => {
    const address = placeIn(storage, env);
    const key = `load ${storage.id} ${affine.show(address)}`;
    const level = levelOf(affine.depends(address));
    const found = blocks[level].memo.get(key);
    if (found !== undefined) return found;
    const isAlike = subgroup !== undefined && level > 0 && storage.dtype === "f32" &&
      !affine.varies(address);
    const read = isAlike
      ? subgroupBroadcastLoad(storage, address, level, subgroup)
      : bind(storage, affine.show(address), false);
    const value = define(level, storage.dtype, storage.dtype === "bool" ? `(${read} != 0u)` : read);
    blocks[level].memo.set(key, value);
    return value;
  };

  const clamped = (position: affine.IndexExpr, extent: number): affine.IndexExpr =>
    extent === 1 ? affine.int(0) : index({
      constant: 0,
      terms: [{
        atom: {
          text: `clamp(${affine.show(position)}, 0, ${extent - 1})`,
          low: 0,
          high: extent - 1,
          depends: affine.depends(position),
          varies: affine.varies(position),
        },
        times: 1,
      }],
    });

  const moved = (place: AffineIndex, env: Env, extent: number) => {
    let position = affine.int(place.offset);
    for (const { axis, times } of place.terms) {
      position = affine.sum(position, affine.times(env.get(axis)!, times));
    }
    const conditions: string[] = [];
    if (place.exact && place.divisor > 1) {
      const left = affine.remainder(position, place.divisor);
      if (affine.low(left) !== 0 || affine.high(left) !== 0) {
        conditions.push(`${affine.show(left)} == 0`);
      }
    }
    position = affine.quotient(position, place.divisor);
    if (place.modulo > 0) position = affine.remainder(position, place.modulo);
    const below = affine.low(position) < 0, above = affine.high(position) >= extent;
    if (below) conditions.push(`${affine.show(position)} >= 0`);
    if (above) conditions.push(`${affine.show(position)} < ${extent}`);
    // Unused elements are still read, within bounds, since devices run without bounds checks.
    return { position: below || above ? clamped(position, extent) : position, conditions };
  };

  const emitIndex = (node: Node, env: Env): Value => {
    const [x] = node.args;
    const inner = new Map<string, affine.IndexExpr>();
    const conditions: string[] = [];
    const variables: string[] = [];
    for (const [axis, place] of Object.entries(node.attributes.places!)) {
      const at = moved(place, env, sizeOf(x.axes, axis));
      inner.set(axis, at.position);
      conditions.push(...at.conditions);
      if (at.conditions.length > 0) {
        place.terms.forEach((term) => variables.push(...affine.depends(env.get(term.axis)!)));
      }
    }
    const value = emit(x, inner);
    if (conditions.length === 0) return value;
    const level = Math.max(value.level, levelOf(variables));
    const fill = literal(node.attributes.fill!, node.dtype);
    return define(level, node.dtype, `select(${fill}, ${value.text}, ${conditions.join(" && ")})`);
  };

  const larger: Emitter["larger"] = (a, b) => {
    helpers.add(wgslMax);
    return `max_(${a}, ${b})`;
  };

  const emitReduce = (node: Node, env: Env): Value => {
    const isSum = node.attributes.how === "add";
    const acc = fresh("r");
    top().lines.push(`var ${acc}: f32 = ${isSum ? "0.0" : literal(-Infinity, "f32")};`);
    const over = node.attributes.over!;
    const loop = (k: number, inner: ReadonlyMap<string, affine.IndexExpr>) => {
      if (k === over.length) {
        const value = emit(node.args[0], inner);
        flops += iterations(depth());
        top().lines.push(
          isSum ? `${acc} += ${value.text};` : `${acc} = ${larger(acc, value.text)};`,
        );
        return;
      }
      const extent = sizeOf(node.args[0].axes, over[k]);
      const name = fresh("k");
      block(`for (var ${name} = 0; ${name} < ${extent}; ${name}++)`, [name], extent, () => {
        loop(k + 1, new Map([...inner, [over[k], affine.variable(name, extent)]]));
      });
    };
    loop(0, env);
    return { text: acc, level: depth() };
  };

  const iterations = (level: number): number => {
    let n = 1;
    for (let k = 0; k <= level; k++) n *= blocks[k].trips;
    return n;
  };

  const compute = (node: Node, env: Env): Value => {
    const by = overrides.get(node);
    if (by !== undefined) return by(env);
    const storage = stored.get(node);
    if (storage !== undefined && !here.has(node)) return load(storage, env);
    if (isScalar(node.op)) {
      const args = node.args.map((arg) => emit(arg, env));
      const level = Math.max(0, ...args.map((arg) => arg.level));
      flops += iterations(level);
      const [a, b, c] = args.map((arg) => arg.text);
      const { text: spell, helpers: called } = wgslScalar[node.op];
      const text = spell(a, b, c, node.args[0].dtype);
      // Names of our own functions end like this.
      if (/^\w+_\(/.test(text)) called?.forEach((helper) => helpers.add(helper));
      return define(level, node.dtype, text);
    }
    switch (node.op) {
      case "const":
        return { text: literal(node.attributes.value!, node.dtype), level: 0 };
      case "iota": {
        const at = env.get(node.attributes.axis!)!;
        return define(levelOf(affine.depends(at)), "u32", `u32(${affine.show(at)})`);
      }
      case "index":
        return emitIndex(node, env);
      case "stop":
      case "recompute":
      case "materialise":
        return emit(node.args[0], env);
      case "reduce":
        return emitReduce(node, env);
      case "gather": {
        const [x, positions] = node.args;
        const at = emit(positions, env);
        const { axis } = node.attributes;
        const extent = sizeOf(x.axes, axis!);
        // One name for one position: an expression that is begun again must know what it read.
        const key = `position ${at.text} ${extent}`, known = blocks[at.level].memo.get(key);
        const name = known?.text ?? fresh("g");
        if (known === undefined) {
          // Declared from here to the end of its block, which may be a condition's and declare no
          // other variable.
          blocks[at.level].variables.add(name);
          blocks[at.level].lines.push(`let ${name} = i32(min(${at.text}, ${extent - 1}u));`);
          blocks[at.level].memo.set(key, { text: name, level: at.level });
        }
        const atom = {
          text: name,
          low: 0,
          high: extent - 1,
          depends: [name],
          varies: true,
        };
        const found = { constant: 0, terms: [{ atom, times: 1 }] };
        return emit(x, new Map([...env, [axis!, found]]));
      }
      default:
        throw new Error(
          `${node.op} ${node.attributes.name ?? ""} has no stored value where it is needed (${
            node.path.join(" > ")
          })`,
        );
    }
  };
  const keyOf = (node: Node, env: Env): string =>
    `${node.id} ${
      Object.keys(node.axes).map((axis) => {
        const at = env.get(axis);
        if (at === undefined) throw new Error(`no position for axis '${axis}' of ${node.op}`);
        return affine.show(at);
      }).join()
    }`;

  const emit = (node: Node, env: Env): Value => {
    const key = keyOf(node, env);
    for (let level = depth(); level >= 0; level--) {
      const found = blocks[level].memo.get(key);
      if (found !== undefined) return found;
    }
    // Subexpressions that are too deep are emitted first.
    const value = nesting.nested(() => compute(node, env), () => emit(node, env));
    blocks[value.level].memo.set(key, value);
    return value;
  };
  const nesting = nestings();

  const block: Emitter["block"] = (header, variables, trips, inside, footer = "") => {
    blocks.push({ lines: [], variables: new Set(variables), memo: new Map(), trips });
    nesting.apart(inside);
    const { lines } = blocks.pop()!;
    top().lines.push(`${header} {`, ...lines.map((text) => `  ${text}`), `}${footer}`);
  };

  const index = (value: affine.IndexExpr): affine.IndexExpr => {
    const low = affine.low(value), high = affine.high(value);
    if (low === high) return affine.int(low);
    if (
      value.constant === 0 && value.terms.length === 1 && value.terms[0].times === 1 &&
      /^\w+$/.test(value.terms[0].atom.text)
    ) return value;
    const level = levelOf(affine.depends(value));
    const text = affine.show(value);
    const key = `int ${text}`;
    const found = blocks[level].memo.get(key);
    const name = found?.text ?? fresh("i");
    if (found === undefined) {
      blocks[level].lines.push(`let ${name} = ${text};`);
      blocks[level].memo.set(key, { text: name, level });
    }
    const isAtom = value.constant === 0 && value.terms.length === 1 && value.terms[0].times === 1;
    const cut = isAtom ? value.terms[0].atom.cut : undefined;
    return {
      constant: 0,
      terms: [{
        atom: {
          text: name,
          low,
          high,
          depends: affine.depends(value),
          varies: affine.varies(value),
          cut,
        },
        times: 1,
      }],
    };
  };

  const unflatten: Emitter["unflatten"] = (flat, dims) => {
    const env = new Map<string, affine.IndexExpr>();
    let stride = size(dims);
    for (const { axis, size } of dims) {
      stride /= size;
      env.set(axis, index(affine.remainder(affine.quotient(flat, stride), size)));
    }
    return env;
  };

  const store: Emitter["store"] = (storage, env, value) => {
    const place = bind(storage, affine.show(placeIn(storage, env)), true);
    const text = storage.dtype === "bool"
      ? `select(0u, 1u, ${value})`
      : storage.half
      ? rounded(value)
      : value;
    const bits = offsets.has(storage) && storage.dtype !== "f32";
    top().lines.push(`${place} = ${bits ? `bitcast<f32>(${text})` : text};`);
  };

  return {
    emit,
    override: (node, by) => {
      overrides.set(node, by);
    },
    line: (text) => {
      top().lines.push(text);
    },
    block,
    index,
    unflatten,
    store,
    load,
    fresh,
    depth,
    lines: () => blocks[0].lines,
    broadcast,
    acrossSubgroup: (how, value) => {
      subgroups = true;
      if (how === "add") return `subgroupAdd(${value})`;
      helpers.add(wgslKeys);
      return `float_(subgroupMax(key_(${value})))`;
    },
    larger,
    usesSubgroups: () => subgroups,
    helpers: () => [...helpers],
    flops: () => flops,
  };
};
