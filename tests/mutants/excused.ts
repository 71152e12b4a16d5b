// Changes that no test can notice, each with the reason: the program that comes out is the same. They
// are listed when they are drawn, and another change is drawn in their place.

/** A change by its file and the lines that it touches, as the tool prints them. */
export interface Excuse {
  readonly file: string;
  readonly before: string;
  readonly after: string;
  readonly why: string;
}

export const excused: readonly Excuse[] = [
  {
    file: "backends/lower/fusion/fuse.ts",
    before:
      "const close = new Set(near(node).flatMap((x) => sumsNear.get(x)?.slice(-mostFriends) ?? []));",
    after: "const close = new Set(near(node).flatMap((x) => sumsNear.get(x) ?? []));",
    why: "it bounds the time that compiling takes; kernels farther apart are joined in the end",
  },
  {
    file: "backends/lower/verify.ts",
    before: "const isOfRows = !over.some(({ axis }) => axis in node.axes);",
    after: "const isOfRows = !over.every(({ axis }) => axis in node.axes);",
    why: "what has some axes of the rows and lacks others is refused by its size either way",
  },
  {
    file: "backends/lower/graph/reassociate.ts",
    before: "const product = made.get(key(x.args[1 - n], c));",
    after: "const product = made.get(key(c, x.args[1 - n]));",
    why: "the key of two factors is that of the same two in the other order",
  },
  {
    file: "dsl/vjp.ts",
    before: "back[o] = at(axis, times, -offset * times);",
    after: "back[o] = at(axis, times, -offset / times);",
    why: "the branch is for steps of 1 and -1, where both are the same",
  },
  {
    file: "backends/wasm/simd/transposed.ts",
    before: "const id = -1 - kernel.roots[0].storage.id - (k + 1) * 2 ** 24;",
    after: "const id = -0 - kernel.roots[0].storage.id - (k + 1) * 2 ** 24;",
    why: "numbers only have to differ from those of all other storages, and do",
  },
  {
    file: "backends/codegen/index_math.ts",
    before: "(s, { atom, times }) => s + times * (times > 0 ? atom.high : atom.low),",
    after: "(s, { atom, times }) => s + times * (times >= 0 ? atom.high : atom.low),",
    why: "of a factor of zero both ends of an atom make zero",
  },
  {
    file: "backends/codegen/index_math.ts",
    before: "(s, { atom, times }) => s + times * (times > 0 ? atom.low : atom.high),",
    after: "(s, { atom, times }) => s + times * (times >= 0 ? atom.low : atom.high),",
    why: "of a factor of zero both ends of an atom make zero",
  },
  {
    file: "backends/wasm/simd/transposed.ts",
    before: "const id = -1 - kernel.roots[0].storage.id - (k + 1) * 2 ** 24;",
    after: "const id = -1 - kernel.roots[0].storage.id + (k + 1) * 2 ** 24;",
    why: "numbers only have to differ from those of all other storages, and do",
  },
  {
    file: "backends/lower/graph/factor_products.ts",
    before: "if (args.every((arg, k) => arg === node.args[k])) return node;",
    after: "if (false as boolean) return node;",
    why: "a node that is made again of the same arguments is the same node",
  },
  {
    file: "backends/lower/fusion/horizontal.ts",
    before: "let next = begun.get(t) ?? 0;",
    after: "let next = (0);",
    why: "it remembers where a search ended, which begins at the start otherwise",
  },
  {
    file: "dsl/vjp.ts",
    before: "{ axis, times: divisor * sign },",
    after: "{ axis, times: divisor / sign },",
    why: "a sign is 1 or -1, where both are the same",
  },
];

/** At most so many of a hundred. */
export const mostExcused = 5;
