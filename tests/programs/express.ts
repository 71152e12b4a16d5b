// Terms as expressions of the language, made as a user makes them, with what mod.ts exports.
import type { AnyTensor } from "../../dsl/axes.ts";
import * as ops from "../../dsl/ops.ts";
import { type Language, type Term, translate } from "./terms.ts";

// The names of axes are not known to the checker here.
// deno-lint-ignore no-explicit-any
const d = ops as any;

/** What the language calls the functions of terms, where it is something else. */
const named: Readonly<Record<string, string>> = {
  max: "maximum",
  min: "minimum",
  stop: "stopGradient",
  recompute: "checkpoint",
  bits: "bitcastU32",
  quotient: "floorDivide",
  remainder: "modulo",
  toWord: "toU32",
};

const language = (prefix: string | undefined): Language<AnyTensor> => ({
  leaf: (of) => {
    if (of.op === "input" || of.op === "param" && prefix === undefined) {
      return d.input(of.name, of.axes, of.dtype);
    }
    if (of.op === "param") return d.param(`${prefix}${of.name}`, of.axes, () => ops.constant(0));
    if (of.op === "iota") return d.iota(of.axis, of.axes[of.axis!]);
    return d.constant(of.value, of.dtype);
  },
  apply: ({ op, axis, over, to, into, numbers, reverse }, args) => {
    const [a, b] = args;
    switch (op) {
      case "sum":
      case "mean":
        return d[op](a, over!.length === 1 ? over![0] : over);
      case "maximum":
        return d.max(a, over!.length === 1 ? over![0] : over);
      case "contract":
        return d.contract(a, b, over);
      case "softmax":
      case "flip":
        return d[op](a, axis);
      case "rename":
        return d.rename(a, axis, to);
      case "merge":
        return d.merge(a, over, to);
      case "split":
        return d.split(a, axis, into);
      case "expand":
        return d.expand(a, into);
      case "slice":
      case "pad":
        return d[op](a, axis, ...numbers!);
      case "pick":
        return d.take(a, axis, ...numbers!);
      case "windows": {
        const [size, stride, dilation, before, after] = numbers!, [out, tap] = over!;
        return d.slidingWindows(a, axis, { out, tap, size }, { stride, dilation, before, after });
      }
      case "concat":
        return d.concat(a, b, axis);
      case "gather":
        return d.gather(a, axis, b);
      case "recurrence":
        return d.recurrence(axis, a, b, { reverse });
      default:
        return d[named[op] ?? op](...args);
    }
  },
  scan: ({ axis, reverse }, from, each, step) => d.scan({ over: axis, from, each, reverse }, step),
});

/** Terms as expressions; the names of parameters begin with `prefix`; without one they are inputs. */
export const express = (roots: readonly Term[], prefix?: string): readonly AnyTensor[] =>
  translate(roots, language(prefix));
