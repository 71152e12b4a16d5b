// The compiler's passes in order: from graph to graph, from graph to kernels, from stored values to
// storages. README.md in this folder explains each pass.
import { absorb } from "../../dsl/fuse_scans.ts";
import { copied, type Node, node, rewrite } from "../../dsl/node.ts";
import type { Program } from "../backend.ts";
import { refuseLongSteps } from "./fusion/cuts.ts";
import { fuse, type Prepared } from "./fusion/fuse.ts";
import { withOneSize } from "./graph/axis_sizes.ts";
import { roundOnce } from "./graph/materialise.ts";
import { shareProducts } from "./graph/reassociate.ts";
import { sinkRenames } from "./graph/sink_renames.ts";
import { type Breadth, inSlices, inStages } from "./graph/split_reductions.ts";
import { storedLimit, withLoops } from "./graph/stream_products.ts";
import type { Lowered } from "./kernel_ir.ts";
import { withChunks } from "./scans/chunk.ts";
import { planScans } from "./scans/plan.ts";
import { assemble } from "./storage/assign.ts";
import { graphVerifier, verifyLowered } from "./verify.ts";

/** The passes from graph to graph. The result of each is verified. */
const prepared = (program: Program, limit: number, breadth: Breadth | undefined): Prepared => {
  const outputs = Object.entries(program.outputs);
  const asked = copied([
    ...outputs.map(([, output]) => node(output.of)),
    ...Object.values(program.updates ?? {}).map(node),
  ]);
  const verify = graphVerifier();
  const pass = (name: string, roots: readonly Node[]): readonly Node[] => {
    verify(name, roots);
    return roots;
  };
  const slices = (of: Node) => breadth === undefined ? of : inSlices(of, breadth);
  const first = withOneSize(asked);
  let now = pass("one size for one axis", first.roots);
  now = pass("loops", withLoops(now, limit));
  now = pass("shared products", shareProducts(now));
  now = pass("renames", sinkRenames(now));
  now = pass("stages", rewrite(now, inStages));
  now = pass("absorb", absorb(now).roots);
  refuseLongSteps(now);
  now = pass("slices", rewrite(now, slices));
  const second = withOneSize(breadth === undefined ? now : withChunks(now, breadth));
  now = pass("chunks", second.roots);
  now = pass("round once", roundOnce(now));
  const { roots, plans } = planScans(now, slices);
  pass("scans", roots);
  const ordered = outputs.map(([name, { of, order }], k) =>
    [name, { of, order: second.order(k, first.order(k, order)) }] as const
  );
  return { program: { ...program, outputs: Object.fromEntries(ordered) }, roots, plans };
};

/**
 * Lowers a program; sizes must be numbers by now. Products of more than `limit` bytes that are only
 * reduced again are not stored. Values between kernels with at least `halvesFrom` elements are
 * stored as f16 where rounding is harmless. With a `breadth`, work that would leave the device idle
 * is split.
 */
export const lower = (
  program: Program,
  limit: number = storedLimit,
  halvesFrom = Infinity,
  breadth?: Breadth,
): Lowered => {
  const { program: named, roots, plans } = prepared(program, limit, breadth);
  const { drafts, home, uses } = fuse({ program: named, roots, plans });
  const lowered = assemble(named, roots, drafts, home, uses, plans, halvesFrom);
  verifyLowered(lowered);
  return lowered;
};
