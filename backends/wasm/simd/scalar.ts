// The scalar functions of the language as vector instructions. A bool is a mask of all ones or
// zeros; a u32 is a 32-bit lane.
import type { Node } from "../../../dsl/node.ts";
import { scalarRow } from "../../../dsl/primitives.ts";
import type { ScalarName } from "../../../dsl/node.ts";
import type { Instruction } from "../assembler/encode.ts";
import type { Builder, Value } from "../assembler/builder.ts";
import type { VectorFunction, VectorMath } from "./math.ts";

/** The context of a function's spelling. */
export interface Around {
  readonly make: Builder;
  readonly math: VectorMath;
}

type Spelling = (around: Around, args: readonly Value[], node: Node) => Value;

const plain = (name: Instruction): Spelling => ({ make }, args) => make.op(name, ...args);
const called = (name: VectorFunction): Spelling => ({ math }, [x]) => math[name](x);
/** One instruction for floats, another for u32. */
const either = (floats: Instruction, words: Instruction): Spelling => ({ make }, args, node) =>
  make.op(node.args[0].dtype === "f32" ? floats : words, ...args);

/** An operation without a vector instruction, lane by lane. */
const byLanes = (name: Instruction): Spelling => ({ make }, [a, b]) => {
  const lanes = a.varies || b.varies ? 4 : 1;
  let result: Value | undefined;
  for (let lane = 0; lane < lanes; lane++) {
    const one = make.op(name, make.extract(a, lane), make.extract(b, lane));
    const all = make.op("i32x4.splat", one);
    result = result === undefined ? all : make.replace(result, lane, all);
  }
  return result!;
};

/** WebAssembly traps at division by zero, so a divisor of 0 counts as 1. */
const dividing = (name: "i32.div_u" | "i32.rem_u"): Spelling => (around, [a, b], node) => {
  const { make } = around;
  const one = make.vector([1, 1, 1, 1]);
  return byLanes(name)(around, [a, make.op("i32x4.max_u", b, one)], node);
};

/**
 * The maximum; if one of two floats is a constant, the instruction that propagates the other's NaN.
 */
const larger: Spelling = ({ make, math }, [a, b], { args }) => {
  if (args[0].dtype === "u32") return make.op("i32x4.max_u", a, b);
  const isNumber = ({ op, attributes }: Node) => op === "const" && !Number.isNaN(attributes.value);
  if (isNumber(args[1])) return make.op("f32x4.pmax", a, b);
  return isNumber(args[0]) ? make.op("f32x4.pmax", b, a) : math.max(a, b);
};

const shift = (vector: Instruction, whole: Instruction): Spelling => (around, [a, b], node) => {
  const { make } = around;
  if (!b.varies) return make.op(vector, a, make.extract(b, 0));
  return byLanes(whole)(around, [a, b], node);
};

const spellings: Readonly<Record<ScalarName, Spelling>> = {
  add: either("f32x4.add", "i32x4.add"),
  mul: either("f32x4.mul", "i32x4.mul"),
  max: larger,
  neg: plain("f32x4.neg"),
  div: plain("f32x4.div"),
  exp: called("exp"),
  log: called("log"),
  log1p: called("log1p"),
  sin: called("sin"),
  cos: called("cos"),
  sqrt: plain("f32x4.sqrt"),
  tanh: called("tanh"),
  erf: called("erf"),
  erfc: called("erfc"),
  floor: plain("f32x4.floor"),
  less: either("f32x4.lt", "i32x4.lt_u"),
  equal: either("f32x4.eq", "i32x4.eq"),
  select: ({ math }, [mask, yes, no]) => math.choose(yes, no, mask),
  toFloat: ({ make }, [x], node) =>
    node.args[0].dtype === "bool"
      ? make.op("v128.and", x, make.splat(1))
      : make.op("f32x4.convert_i32x4_u", x),
  toWord: ({ make }, [x], node) =>
    node.args[0].dtype === "bool"
      ? make.op("v128.and", x, make.vector([1, 1, 1, 1]))
      : make.op("i32x4.trunc_sat_f32x4_u", x),
  bits: (_, [x]) => x,
  xor: plain("v128.xor"),
  shiftLeft: shift("i32x4.shl", "i32.shl"),
  shiftRight: shift("i32x4.shr_u", "i32.shr_u"),
  quotient: dividing("i32.div_u"),
  remainder: dividing("i32.rem_u"),
};

/** The spelling of a scalar function, or undefined for another operation. */
export const scalarOp = (
  node: Node,
): ((around: Around, args: readonly Value[]) => Value) | undefined =>
  scalarRow(node.op) === undefined
    ? undefined
    : (around, args) => spellings[node.op as ScalarName](around, args, node);
