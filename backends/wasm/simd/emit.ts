// Prints expressions as WebAssembly. An environment says at which position of each axis a node is
// wanted; movement nodes only change the environment. Inside a vector loop a value has up to four
// neighbouring positions in its lanes; loop-invariant values are equal in all lanes.
import { sizeOf } from "../../../dsl/axes.ts";
import type { AffineIndex, Dtype, Node } from "../../../dsl/node.ts";
import * as affine from "../../codegen/index_math.ts";
import { nestings } from "../../codegen/nesting.ts";
import { type Dim, size, type Storage } from "../../lower/kernel_ir.ts";
import { isShownInside, mustBeInside, placeOf } from "../../codegen/verify_addresses.ts";
import { builder, type Value } from "../assembler/builder.ts";
import { type Access, type Emitter, type Env, type Lanes, parameters } from "./emitter.ts";
import type { Engine } from "../engine.ts";
import { unexpanded } from "../../lower/graph/factor_products.ts";
import { clamped, clampOf, isKeptTogether, laneStride, shifted, width } from "./lanes.ts";
import { vectorMath } from "./math.ts";
import { scalarOp } from "./scalar.ts";

/** The factors of a product, and the innermost block that computes one of them. */
interface Factors {
  readonly list: readonly Value[];
  readonly level: number;
  readonly token: object;
}

/**
 * A new emitter. `stored` maps values that other kernels or the caller provide; those in `here` are
 * computed by this kernel although they are stored. `cells` are places in scratch memory, by their
 * offsets in bytes.
 */
export const emitter = (
  stored: ReadonlyMap<Node, Storage>,
  engine: Engine,
  here: ReadonlySet<Node> = new Set(),
  cells: ReadonlyMap<Storage, number> = new Map(),
): Emitter => {
  const make = builder(4, engine.wide);
  const math = vectorMath(make, engine);
  const overrides = new Map<Node, (env: Env) => Value>();
  const variables = new Map<string, Value>();
  const bases = new Map<Storage, Value>();
  const storages: Storage[] = [];
  const accesses: Access[] = [];
  const memo = new Map<string, Value & { readonly token: object }>();
  const knownFactors = new Map<string, Factors>();
  // Memoised values of a block are valid until it ends.
  let scopes: readonly object[] = [{}];
  let lanes: Lanes | undefined;
  /** Set while products are computed in the order in which they are written. */
  let inOrder = false;
  let counter = 0;
  const fresh = (prefix: string) => `${prefix}${counter++}`;

  const baseOf = (storage: Storage): Value => {
    const found = bases.get(storage);
    if (found !== undefined) return found;
    const cell = cells.get(storage);
    let base: Value;
    if (cell !== undefined) {
      base = make.op("i32.add", make.parameter(parameters.scratch), make.whole(cell));
    } else {
      base = make.load("i32.load", make.parameter(parameters.args), 4 * storages.length);
      storages.push(storage);
    }
    bases.set(storage, base);
    return base;
  };

  let scratchBytes = 0;
  const reachScratch = (bytes: number) => {
    scratchBytes = Math.max(scratchBytes, bytes);
  };

  /** An address for code, clamped if it cannot be shown to lie inside the storage. */
  const inside = (storage: Storage, at: affine.IndexExpr): affine.IndexExpr => {
    const cell = cells.get(storage);
    if (cell !== undefined) reachScratch(cell + 4 * size(storage.dims));
    const isShown = isShownInside(at, placeOf(storage));
    return isShown ? affine.spelled(at) : clamped(at, size(storage.dims));
  };

  const atomValue = (atom: affine.IndexVar): Value => {
    const found = variables.get(atom.text);
    if (found !== undefined) return found;
    if (atom.is !== undefined) return whole(atom.is);
    if (atom.cut !== undefined) {
      const of = whole(atom.cut.of);
      const by = make.whole(atom.cut.by);
      return make.op(atom.cut.remains ? "i32.rem_u" : "i32.div_u", of, by);
    }
    const clamp = clampOf(atom);
    if (clamp === undefined) throw new Error(`'${atom.text}' is no variable here`);
    // Lanes beyond the range are ignored, but the whole vector stays within it.
    const together = isKeptTogether(clamp, lanes?.name) ? width : 1;
    const of = whole(clamp.of), zero = make.whole(0), last = make.whole(clamp.extent - together);
    const raised = make.op("select", of, zero, make.op("i32.gt_s", of, zero));
    return make.op("select", raised, last, make.op("i32.lt_s", raised, last));
  };

  /** Terms of outer blocks are added first, so that loops add only what varies in them. */
  const added = (values: readonly Value[]): Value =>
    [...values].sort((a, b) => a.level - b.level)
      .reduce((sum, value) => make.op("i32.add", sum, value));

  const whole = (of: affine.IndexExpr, by = 1): Value =>
    added([
      make.whole(of.constant * by),
      ...of.terms.map(({ atom, times }) =>
        make.op("i32.mul", atomValue(atom), make.whole(times * by))
      ),
    ]);

  const addressOf = (storage: Storage, env: Env): affine.IndexExpr => {
    let address = affine.int(0);
    for (const { axis, size } of storage.dims) {
      const at = env.get(axis);
      if (at === undefined) throw new Error(`no position for axis '${axis}' of a stored value`);
      address = affine.sum(affine.times(address, size), at);
    }
    return address;
  };

  /** An address in bytes, and the constant offset that instructions add themselves. */
  const reach = (storage: Storage, at: affine.IndexExpr): readonly [Value, number] => {
    const moving = { constant: 0, terms: at.terms };
    const plain = at.constant >= 0 && affine.low(moving) >= 0 && at.constant < 2 ** 26;
    const rest = plain ? moving : at;
    const terms = rest.terms.map(({ atom, times }) =>
      make.op("i32.mul", atomValue(atom), make.whole(times * 4))
    );
    const start = plain || rest.constant === 0
      ? baseOf(storage)
      : make.op("i32.add", baseOf(storage), make.whole(rest.constant * 4));
    return [added([start, ...terms]), plain ? 4 * at.constant : 0];
  };

  const eachLane: Emitter["eachLane"] = (inside) => {
    const around = lanes!;
    lanes = undefined;
    let result: Value | undefined;
    try {
      for (let lane = 0; lane < around.count; lane++) {
        const value = inside((of) => shifted(of, around.name, lane, around.count), lane);
        result = result === undefined ? value : make.replace(result, lane, value);
      }
    } finally {
      lanes = around;
    }
    return { ...result!, varies: true };
  };

  const loadWords = (storage: Storage, wanted: affine.IndexExpr): Value => {
    const at = inside(storage, wanted);
    accesses.push({ storage, address: at, isStore: false });
    const stride = laneStride(at, lanes?.name);
    const now = cells.has(storage);
    if (stride === 0) {
      const [address, offset] = reach(storage, at);
      return now
        ? { ...make.loadUnhoisted("v128.load32_splat", address, offset), varies: false }
        : make.load("v128.load32_splat", address, offset);
    }
    const { count, name } = lanes!;
    const read = now ? make.loadUnhoisted : make.load;
    if (stride === 1) {
      const [address, offset] = reach(storage, at);
      if (count === 4) return vary(read("v128.load", address, offset));
      if (count === 1) return vary(read("v128.load32_zero", address, offset));
      const two = vary(read("v128.load64_zero", address, offset));
      return count === 2 ? two : make.loadLane(two, 2, address, offset + 8);
    }
    let result: Value | undefined;
    for (let lane = 0; lane < count; lane++) {
      const [address, offset] = reach(storage, shifted(at, name, lane, count));
      result = result === undefined
        ? vary(read("v128.load32_zero", address, offset))
        : make.loadLane(result, lane, address, offset);
    }
    return result!;
  };
  const vary = (value: Value): Value => ({ ...value, varies: true });

  const load = (storage: Storage, env: Env): Value => {
    const found = loadWords(storage, addressOf(storage, env));
    if (storage.dtype !== "bool") return found;
    return make.op("v128.not", make.op("i32x4.eq", found, make.vector([0, 0, 0, 0])));
  };

  const store: Emitter["store"] = (storage, env, given) => {
    const value = storage.dtype === "bool"
      ? make.op("v128.and", given, make.vector([1, 1, 1, 1]))
      : given;
    const at = inside(storage, addressOf(storage, env));
    accesses.push({ storage, address: at, isStore: true });
    const stride = laneStride(at, lanes?.name);
    if (stride === 0) {
      const [address, offset] = reach(storage, at);
      make.store("v128.store32_lane", address, offset, value, 0);
      return;
    }
    const { count, name } = lanes!;
    if (stride === 1) {
      const [address, offset] = reach(storage, at);
      if (count === 4) make.store("v128.store", address, offset, value);
      else if (count === 1) make.store("v128.store32_lane", address, offset, value, 0);
      else {
        make.store("v128.store64_lane", address, offset, value, 0);
        if (count === 3) make.store("v128.store32_lane", address, offset + 8, value, 2);
      }
      return;
    }
    for (let lane = 0; lane < count; lane++) {
      const [address, offset] = reach(storage, shifted(at, name, lane, count));
      make.store("v128.store32_lane", address, offset, value, lane);
    }
  };

  /** An integer expression as a vector of i32, one for each lane. */
  const vectorOf = (of: affine.IndexExpr): Value => {
    const stride = laneStride(of, lanes?.name);
    if (stride === 0) return make.op("i32x4.splat", whole(of));
    if (stride !== undefined) {
      // The splat is shared by adjacent vectors.
      const first = make.op("i32x4.splat", whole({ ...of, constant: 0 }));
      const lanes = make.vector([0, 1, 2, 3].map((k) => of.constant + k * stride));
      return vary(make.op("i32x4.add", first, lanes));
    }
    return eachLane((shift) => make.op("i32x4.splat", whole(shift(of))));
  };

  const splatWord = (word: number) => make.vector([word, word, word, word]);

  const moved = (place: AffineIndex, env: Env, extent: number) => {
    let position = affine.int(place.offset);
    for (const { axis, times } of place.terms) {
      position = affine.sum(position, affine.times(env.get(axis)!, times));
    }
    const conditions: (() => Value)[] = [];
    if (place.exact && place.divisor > 1) {
      const left = affine.remainder(position, place.divisor);
      if (affine.low(left) !== 0 || affine.high(left) !== 0) {
        conditions.push(() => make.op("i32x4.eq", vectorOf(left), splatWord(0)));
      }
    }
    position = affine.quotient(position, place.divisor);
    if (place.modulo > 0) position = affine.remainder(position, place.modulo);
    const at = position;
    // One unsigned comparison: negative numbers are large.
    if (affine.low(at) < 0 || affine.high(at) >= extent) {
      conditions.push(() => make.op("i32x4.lt_u", vectorOf(at), splatWord(extent)));
    }
    return { position: clamped(at, extent), conditions };
  };

  const literal = (value: number, dtype: Dtype): Value =>
    dtype === "f32"
      ? make.splat(value)
      : splatWord(dtype === "bool" ? (value !== 0 ? -1 : 0) : value >>> 0);

  const emitIndex = (node: Node, env: Env): Value => {
    const [x] = node.args;
    const inner = new Map<string, affine.IndexExpr>();
    const conditions: (() => Value)[] = [];
    for (const [axis, place] of Object.entries(node.attributes.places!)) {
      const at = moved(place, env, sizeOf(x.axes, axis));
      inner.set(axis, at.position);
      conditions.push(...at.conditions);
    }
    const value = emit(x, inner);
    if (conditions.length === 0) return value;
    const mask = conditions.map((one) => one()).reduce((a, b) => make.op("v128.and", a, b));
    const fill = node.attributes.fill!;
    return fill === 0
      ? make.op("v128.and", value, mask)
      : math.choose(value, literal(fill, node.dtype), mask);
  };

  /**
   * The factors of nested products, those of outer blocks first, so that loop-invariant ones are
   * multiplied outside of loops. A product whose factors are all in one block stays as written,
   * since others may share it; so does one with many factors.
   */
  const mostFactors = 64;
  const factors = (node: Node, env: Env): readonly Value[] => {
    if (inOrder || node.op !== "mul" || node.dtype !== "f32" || !isPlain(node)) {
      return [emit(node, env)];
    }
    const key = keyOf(node, env), known = knownFactors.get(key);
    if (known !== undefined && scopes[known.level] === known.token) return known.list;
    const found = nested(() => {
      const list = factorsOf(node, env);
      const isOne = list.length > mostFactors || list[0].level === list.at(-1)!.level;
      return isOne ? [emit(node, env)] : list;
    }, () => factors(node, env));
    const level = found.at(-1)!.level;
    knownFactors.set(key, { list: found, level, token: scopes[level] });
    return found;
  };
  /** The factors of both sides of a product. */
  const factorsOf = (node: Node, env: Env): readonly Value[] =>
    node.args.flatMap((arg) => factors(arg, env)).toSorted((a, b) => a.level - b.level);
  const product = (of: readonly Value[]): Value => of.reduce((a, b) => make.op("f32x4.mul", a, b));
  /** Two values whose product is a node's. */
  const sides = (node: Node, env: Env): readonly [Value, Value] => {
    const [a, b] = node.args;
    const list = factorsOf(node, env);
    if (list.every(({ level }) => level === list[0].level)) return [emit(a, env), emit(b, env)];
    return [product(list.slice(0, -1)), list.at(-1)!];
  };

  /**
   * Whether each factor has an axis that the other lacks: one is then invariant in some loop. The
   * current loops do not decide this, so that other programs compute the same bits.
   */
  const isOuter = (node: Node): boolean => {
    const [a, b] = node.args.map((arg) => Object.keys(unexpanded(arg).axes));
    return a.some((axis) => !b.includes(axis)) && b.some((axis) => !a.includes(axis));
  };

  const plus: Emitter["plus"] = (sum, node, env) =>
    node.op === "mul" && isPlain(node)
      ? math.madd(...sides(node, env), sum)
      : make.op("f32x4.add", emit(node, env), sum);

  const joined: Emitter["joined"] = (reduction, sum, env, lanesToo) => {
    const isSum = reduction.attributes.how === "add";
    const [x] = reduction.args;
    const all = !lanesToo || lanes === undefined || lanes.count === width;
    if (isSum && all) return plus(sum, x, env);
    const value = emit(x, env);
    const term = all ? value : onlyCounted(value, make.splat(isSum ? 0 : -Infinity));
    return isSum ? make.op("f32x4.add", term, sum) : math.max(sum, term);
  };
  const onlyCounted: Emitter["counted"] = (value, rest) => {
    if (lanes === undefined || lanes.count === width) return value;
    const mask = make.vector([0, 1, 2, 3].map((lane) => lane < lanes!.count ? -1 : 0));
    return math.choose(value, rest, mask);
  };

  /** Most terms of a reduction that is unrolled. */
  const fewTerms = 4;
  const emitReduce = (node: Node, env: Env): Value => {
    const isSum = node.attributes.how === "add";
    const start = make.splat(isSum ? 0 : -Infinity);
    const [x] = node.args;
    const dims: readonly Dim[] = node.attributes.over!.map((axis) => ({
      axis,
      size: sizeOf(x.axes, axis),
    }));
    const join = (sum: Value | undefined, at: Env): Value =>
      sum === undefined ? emit(x, at) : joined(node, sum, at, false);
    if (size(dims) <= fewTerms) {
      let sum: Value | undefined;
      for (let k = 0; k < size(dims); k++) {
        sum = join(sum, new Map([...env, ...unflatten(affine.int(k), dims)]));
      }
      return sum!;
    }
    const total = make.variable("v128", start);
    const run = (k: number, inner: Env): void => {
      if (k === dims.length) return make.assign(total, join(make.current(total), inner));
      loop(dims[k].size, (at) => run(k + 1, new Map([...inner, [dims[k].axis, at]])));
    };
    run(0, env);
    return make.current(total, lanes !== undefined);
  };

  /** True for values that are computed from their arguments where they are read. */
  const isPlain = (node: Node): boolean =>
    !overrides.has(node) && (here.has(node) || !stored.has(node));

  /** Positions of look-ups, valid in the scope in which they were read. */
  const looked = new Map<string, { readonly position: affine.IndexExpr; readonly token: object }>();
  const emitGather = (node: Node, env: Env): Value => {
    const [x, positions] = node.args;
    const { axis } = node.attributes;
    const extent = sizeOf(x.axes, axis!);
    const at = make.op("i32x4.min_u", emit(positions, env), splatWord(extent - 1));
    /** One name for one position: an expression that is begun again must know what it read. */
    const positionOf = (lane: number): affine.IndexExpr => {
      const key = `${keyOf(positions, env)} lane ${lane} of ${extent}`, known = looked.get(key);
      if (known !== undefined && scopes[at.level] === known.token) return known.position;
      const position = named({ ...make.extract(at, lane), most: extent - 1 }, extent);
      looked.set(key, { position, token: scopes[at.level] });
      return position;
    };
    if (lanes === undefined || !at.varies) {
      return emit(x, new Map([...env, [axis!, positionOf(0)]]));
    }
    return eachLane((shift, lane) => {
      const found = positionOf(lane);
      const moved = new Map([...env].map(([name, where]) => [name, shift(where)]));
      return emit(x, new Map([...moved, [axis!, found]]));
    });
  };

  const compute = (node: Node, env: Env): Value => {
    const by = overrides.get(node);
    if (by !== undefined) return by(env);
    const storage = stored.get(node);
    if (storage !== undefined && !here.has(node)) return load(storage, env);
    const scalar = scalarOp(node);
    if (scalar !== undefined) {
      if (node.op === "add" && node.dtype === "f32") {
        // A product and an addition are one instruction.
        const k = node.args.findIndex((arg) => arg.op === "mul" && isPlain(arg));
        if (k >= 0) return plus(emit(node.args[1 - k], env), node.args[k], env);
      }
      if (node.op === "mul" && node.dtype === "f32") {
        return make.op("f32x4.mul", ...sides(node, env));
      }
      if (node.op === "exp" && node.args[0].op === "mul" && isPlain(node.args[0])) {
        if (isOuter(node.args[0])) return math.expOf(...sides(node.args[0], env));
      }
      return scalar({ make, math }, node.args.map((arg) => emit(arg, env)));
    }
    switch (node.op) {
      case "const":
        return literal(node.attributes.value!, node.dtype);
      case "iota":
        return vectorOf(env.get(node.attributes.axis!)!);
      case "index":
        return emitIndex(node, env);
      case "stop":
      case "recompute":
        return emit(node.args[0], env);
      case "materialise":
        return computedInOrder(node.args[0], env);
      case "reduce":
        return emitReduce(node, env);
      case "gather":
        return emitGather(node, env);
      default:
        throw new Error(
          `${node.op} ${node.attributes.name ?? ""} has no stored value where it is needed (${
            node.path.join(" > ")
          })`,
        );
    }
  };

  const keyOf = (node: Node, env: Env): string =>
    `${node.id}${inOrder ? "o" : ""} ${lanes === undefined ? "" : `${lanes.name}:${lanes.count}`} ${
      Object.keys(node.axes).map((axis) => {
        const at = env.get(axis);
        if (at === undefined) throw new Error(`no position for axis '${axis}' of ${node.op}`);
        return affine.show(at);
      }).join()
    }`;

  const emit = (node: Node, env: Env): Value => {
    const key = keyOf(node, env);
    const found = memo.get(key);
    if (found !== undefined && scopes[found.level] === found.token) return found;
    const value = nested(() => compute(node, env), () => emit(node, env));
    memo.set(key, { ...value, token: scopes[value.level] });
    return value;
  };

  const computedInOrder: Emitter["inOrder"] = (node, env) => {
    const before = inOrder;
    inOrder = true;
    try {
      return emit(node, env);
    } finally {
      inOrder = before;
    }
  };
  const nesting = nestings();
  /**
   * Enters an expression; subexpressions that are too deep are emitted first, for the lanes that
   * need them.
   */
  const nested = <T>(inside: () => T, alone: () => void): T => {
    const own = { lanes, inOrder };
    return nesting.nested(inside, () => {
      const around = { lanes, inOrder };
      ({ lanes, inOrder } = own);
      try {
        alone();
      } finally {
        ({ lanes, inOrder } = around);
      }
    });
  };

  const place: Emitter["place"] = (node, env) => {
    const storage = stored.get(node);
    if (overrides.has(node)) return undefined;
    if (storage !== undefined && !here.has(node)) return { storage, at: addressOf(storage, env) };
    if (node.op === "stop" || node.op === "recompute") return place(node.args[0], env);
    if (node.op !== "index") return undefined;
    const [x] = node.args;
    const places = Object.entries(node.attributes.places!).map(([axis, place]) =>
      [axis, moved(place, env, sizeOf(x.axes, axis))] as const
    );
    if (places.some(([, { conditions }]) => conditions.length > 0)) return undefined;
    return place(x, new Map(places.map(([axis, { position }]) => [axis, position])));
  };

  const scoped = (inside: () => void) => {
    const around = scopes;
    scopes = [...around, {}];
    nesting.apart(inside);
    scopes = around;
  };

  const unflatten: Emitter["unflatten"] = (flat, dims) => {
    const env = new Map<string, affine.IndexExpr>();
    let stride = size(dims);
    for (const { axis, size } of dims) {
      stride /= size;
      env.set(axis, affine.remainder(affine.quotient(flat, stride), size));
    }
    return env;
  };

  const isBelow = ({ known, most }: Value, extent: number): boolean =>
    known !== undefined ? known >= 0 && known < extent : most !== undefined && most < extent;
  /** The minimum of a signed integer and a constant. */
  const least = (value: Value, most: number): Value => {
    if (value.known !== undefined) return make.whole(Math.min(value.known, most));
    if (isBelow(value, most + 1)) return value;
    const last = make.whole(most);
    return make.op("select", value, last, make.op("i32.lt_s", value, last));
  };
  const atMost: Emitter["atMost"] = (of, most) => {
    const high = affine.high(of);
    return high <= most ? { ...whole(of), most: high } : { ...least(whole(of), most), most };
  };

  const named: Emitter["named"] = (value, extent, vary) => {
    if (extent === 1) return affine.int(0);
    const text = fresh("i");
    const last = make.whole(extent - 1);
    const kept = isBelow(value, extent)
      ? value
      : make.op("select", value, last, make.op("i32.lt_u", value, last));
    variables.set(text, kept);
    const atom = { text, low: 0, high: extent - 1, depends: vary ?? [text] };
    return { constant: 0, terms: [{ atom, times: 1 }] };
  };

  /** The variable of a loop, or 0 if it runs once. */
  const counted = (name: string, at: Value, extent: number): affine.IndexExpr => {
    variables.set(name, at);
    return affine.variable(name, extent);
  };

  const units: Emitter["units"] = (count, inside) => {
    const { from, to } = parameters;
    make.loop("unit", make.parameter(from), make.parameter(to), 1, count, (at) => {
      scoped(() => inside(counted("unit", at, count)));
    });
  };
  const loop: Emitter["loop"] = (extent, inside, to = make.whole(extent)) => {
    if (extent === 1) return inside(affine.int(0));
    const name = fresh("k");
    make.loop(name, make.whole(0), least(to, extent), 1, extent, (at) => {
      scoped(() => inside(counted(name, at, extent)));
    });
  };
  const loopDown: Emitter["loopDown"] = (from, extent, inside) => {
    const name = fresh("k");
    make.loopDown(name, least(from, extent - 1), extent, (at) => {
      scoped(() => inside(counted(name, at, extent)));
    });
  };

  const isMultiple = (of: affine.IndexExpr, by: number): boolean =>
    of.constant % by === 0 && of.terms.every(({ times }) => times % by === 0);

  const vectors: Emitter["vectors"] = (extent, inside, range, unroll = 1) => {
    if (lanes !== undefined) throw new Error("a vector loop stands inside another");
    const short = extent % width, full = extent - short;
    const { from = affine.int(0), most = extent } = range ?? {};
    if (!isMultiple(from, width) || (most % width !== 0 && most < extent)) {
      throw new Error(`vectors begin at ${affine.show(from)}, for ${most} of ${extent} elements`);
    }
    /** The variable is from `low` to `high`, in the lanes of the last of `step` vectors. */
    const within = (
      name: string,
      at: Value,
      count: number,
      step: number,
      low: number,
      high: number,
    ) => {
      variables.set(name, at);
      lanes = { name, count };
      const atom = {
        text: name,
        low,
        high: high - (step - 1) * width,
        depends: [name],
        free: true,
      };
      const ats = Array.from({ length: step }, (_, k): affine.IndexExpr => ({
        constant: k * width,
        terms: [{ atom, times: 1 }],
      }));
      const since = range === undefined
        ? ats
        : ats.map((at) => affine.within(affine.sum(at, affine.times(from, -1)), 0, most - 1));
      scoped(() => inside(ats, since));
      lanes = undefined;
    };
    const begin = whole(from);
    const to = atMost(affine.sum(from, affine.int(most)), extent);
    const end = least(to, full);
    const run = (from: Value, to: Value, step: number, trips: number) => {
      const name = fresh("x");
      make.loop(name, from, to, step * width, trips, (at) => {
        within(name, at, width, step, 0, full - 1);
      });
    };
    const many = Math.floor(most / (unroll * width));
    if (full > 0) {
      if (unroll === 1 || many === 0) run(begin, end, 1, Math.floor(most / width));
      else {
        // begin + floor((end - begin) / step) * step: the unrolled part.
        const step = unroll * width;
        const length = make.op("i32.sub", end, begin);
        const isEven = full % step === 0 && most % step === 0 && isMultiple(from, step);
        const rest = length.known !== undefined
          ? make.whole(length.known % step)
          : isEven
          ? make.whole(0)
          : make.op("i32.rem_u", length, make.whole(step));
        const middle = make.op("i32.sub", end, rest);
        run(begin, middle, unroll, many);
        if (rest.known !== 0) run(middle, end, 1, rest.known === undefined ? 1 : rest.known / 4);
      }
    }
    if (short > 0) {
      const name = fresh("x");
      make.when(
        to.known === extent ? undefined : make.op("i32.eq", to, make.whole(extent)),
        () => within(name, make.whole(full), short, 1, full, extent - 1),
        [name],
      );
    }
  };

  return {
    make,
    math,
    emit,
    inOrder: computedInOrder,
    place,
    placeIn: addressOf,
    override: (node, by) => {
      if (by === undefined) overrides.delete(node);
      else overrides.set(node, by);
      // Values computed with an earlier definition of a node are dropped.
      memo.clear();
      knownFactors.clear();
    },
    whole,
    unflatten,
    load,
    store,
    atMost,
    named,
    address: (storage, at, any) => {
      mustBeInside(any, placeOf(storage));
      const [address, offset] = reach(storage, inside(storage, at));
      return make.op("i32.add", address, make.whole(offset));
    },
    reachScratch,
    scratchBytes: () => scratchBytes,
    units,
    when: (condition, inside) => make.when(condition, () => scoped(inside)),
    loop,
    loopDown,
    vectors,
    lanes: () => lanes,
    eachLane,
    counted: onlyCounted,
    plus,
    joined,
    fresh,
    storages: () => storages,
    accesses: () => accesses,
    func: make.func,
  };
};
