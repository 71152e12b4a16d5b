// Faults that the compiler once had, as changes that put each back. `deno task faults` makes them in a
// copy of the tree, one at a time, and says how many random programs it takes to meet each.
export interface Fault {
  readonly name: string;
  /** On which device it shows, and against what: see first_failure.ts. */
  readonly on: "wasm" | "wasm again" | "wasm mistakes" | "webgpu";
  readonly changes: readonly {
    readonly file: string;
    readonly find: string;
    readonly put: string;
  }[];
}

/** Without these the verifier would meet some of them before any program runs. */
const unverified = ["verify(name, roots);", "verifyLowered(lowered);"].map((find) => ({
  file: "backends/lower/pipeline.ts",
  find,
  put: "",
}));

export const faults: readonly Fault[] = [
  {
    name: "reductions over axes of one name in two sizes share a kernel",
    on: "wasm",
    changes: [...unverified, {
      file: "backends/lower/graph/axis_sizes.ts",
      find: "if (naming === undefined) return",
      put: "if (naming === undefined || true) return",
    }, {
      file: "backends/lower/fusion/kernel_draft.ts",
      find: "axes.every((axis) => space.get(axis) === node.axes[axis])",
      put: "axes.every((axis) => space.has(axis))",
    }],
  },
  {
    name: "one size for an axis name in all of a scan's step",
    on: "wasm",
    changes: [...unverified, {
      file: "backends/lower/graph/axis_sizes.ts",
      find: "if (naming === undefined) return",
      put: "if (naming === undefined || true) return",
    }],
  },
  {
    name: "what a backward scan keeps is placed in the first phase",
    on: "wasm",
    changes: [...unverified, {
      file: "backends/wasm/simd/scan_step.ts",
      find: "phase: phases.reading(kept.node),",
      put: "phase: 0,",
    }, {
      file: "backends/wasm/simd/scan_step.ts",
      find: "  verifyPhases(items, phases, isKept);\n",
      put: "",
    }],
  },
  {
    name: "who attains a maximum is told by values that are rounded twice",
    on: "wasm",
    changes: [{
      file: "backends/lower/pipeline.ts",
      find: "roundOnce(now)",
      put: "now",
    }],
  },
  {
    name: "products read whole tiles of rows",
    on: "wasm",
    changes: [{
      file: "backends/wasm/simd/contraction.ts",
      find: 'packerIndex(alongTerms ? "rows" : "columns", count, tiling)',
      put: 'packerIndex(alongTerms ? "rows" : "columns", tileRows, tiling)',
    }],
  },
  {
    name: "leaves of steps outlive the opening of a program",
    on: "wasm again",
    changes: [{
      file: "dsl/node.ts",
      find: "own === undefined ? interned.get(key)?.deref() : own.get(key);",
      put: 'own === undefined || op === "local" ? interned.get(key)?.deref() : own.get(key);',
    }, {
      file: "dsl/node.ts",
      find: "if (own !== undefined) own.set(key, made);",
      put: 'if (own !== undefined && op !== "local") own.set(key, made);',
    }],
  },
  {
    name: "carries that are computed again have no axes of their own",
    on: "wasm",
    changes: [...unverified, {
      file: "backends/lower/scans/plan.ts",
      find: "...recomputes === undefined ? [] : Object.values(recomputes.attributes.step!.next),",
      put: "",
    }],
  },
  {
    name: "lanes compute again what other lanes carry",
    on: "wasm",
    changes: [...unverified, {
      file: "backends/lower/scans/plan.ts",
      find: "plan.parallel.some(({ axis }) => moved.has(axis)) ? planScan(scan, undefined) : plan",
      put: "moved.has(plan.parallel[0]?.axis) ? plan : plan",
    }],
  },
  {
    name: "a step that mixes reads an input",
    on: "wasm",
    changes: [{
      file: "backends/lower/scans/plan.ts",
      find: "largest?.axes ?? {}",
      put: "largest.axes",
    }],
  },
  {
    name: "an update has any axes",
    on: "wasm mistakes",
    changes: [{
      file: "backends/checked.ts",
      find: "else refuseUpdate(",
      put: "else if (false) refuseUpdate(",
    }],
  },
  {
    name: "an input may be named twice",
    on: "wasm mistakes",
    changes: [{
      file: "backends/checked.ts",
      find: "else refuseOther(",
      put: "else if (false) refuseOther(",
    }],
  },
  {
    name: "runs that overlap are begun at once",
    on: "webgpu",
    changes: [{
      file: "backends/in_turn.ts",
      find: "if (isBusy) waiting.push(begin);",
      put: "if (false) waiting.push(begin);",
    }],
  },
];
