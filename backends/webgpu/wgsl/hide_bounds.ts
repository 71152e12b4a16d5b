// Suppresses loop unrolling by hiding bounds. Mesa unrolls loops with constant bounds before LLVM
// sees them, nested ones too, and LLVM's time grows faster than the code: the loops over a tile's
// results alone made a contraction compile four times as long, without running faster. So on
// software drivers a bound is its constant plus a zero that is known only at run time.

/** The first line of main, after which its names are declared. */
const MAIN = /^fn main\(.*\bgroup: vec3<u32>.*\) \{\n/m;
/** The head of a counted loop with a constant bound. */
const LOOP = /for \(var (\w+) = ([^;]*); \1 < (\d+);/g;
// A dispatch has at most 65,535 workgroups in a dimension.
const ZERO = "  let zero = i32(group.x >> 31u);\n";

/** The same shader with loops that are not unrolled. */
export const withHiddenBounds = (wgsl: string): string =>
  MAIN.test(wgsl) && wgsl.search(LOOP) >= 0
    ? wgsl.replace(LOOP, "for (var $1 = $2; $1 < $3 + zero;").replace(
      MAIN,
      (head) => head + ZERO,
    )
    : wgsl;
