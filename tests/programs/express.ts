// Terms as expressions of the language, made as a user makes them, with what mod.ts exports.
import type { AnyTensor } from "../../dsl/axes.ts";
import * as ops from "../../dsl/ops.ts";
import { type Language, type Term, translate } from "./terms.ts";

// The names of axes are not known to the checker here.
// deno-lint-ignore no-explicit-any
const d = ops as any;

const language = (prefix: string | undefined): Language<AnyTensor> => ({
  leaf: (of) => {
    if (of.op === "input" || of.op === "param" && prefix === undefined) {
      return d.input(of.name, of.axes, of.dtype);
    }
    if (of.op === "param") return d.param(`${prefix}${of.name}`, of.axes, () => ops.scalarOf(0));
    if (of.op === "iota") return d.iota(of.axis, of.axes[of.axis!]);
    return d.scalarOf(of.value, of.dtype);
  },
  apply: ({ op, axis, over, to, into, numbers, reverse }, args) => {
    const [a, b] = args;
    switch (op) {
      case "sum":
      case "maximum":
      case "mean":
        return d[op](a, over!.length === 1 ? over![0] : over);
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
      case "pick":
        return d[op](a, axis, ...numbers!);
      case "windows": {
        const [size, stride, dilation, before, after] = numbers!, [out, tap] = over!;
        return d.windows(a, axis, { out, tap, size }, { stride, dilation, before, after });
      }
      case "concat":
        return d.concat(a, b, axis);
      case "gather":
        return d.gather(a, axis, b);
      case "recurrence":
        return d.recurrence(axis, a, b, { reverse });
      default:
        return d[op](...args);
    }
  },
  scan: ({ axis, reverse }, from, each, step) => d.scan({ over: axis, from, each, reverse }, step),
});

/** Terms as expressions; the names of parameters begin with `prefix`; without one they are inputs. */
export const express = (roots: readonly Term[], prefix?: string): readonly AnyTensor[] =>
  translate(roots, language(prefix));
