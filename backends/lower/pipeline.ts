// The compiler's passes in order: from graph to graph, from graph to kernels, from stored values to
// storages. README.md in this folder explains each pass.
import { fuseIntoScans } from "../../dsl/fuse_scans.ts";
import { cloneGraph, type Node, nodeOf, rewrite } from "../../dsl/node.ts";
import type { Program } from "../backend.ts";
import { refuseLongSteps } from "./fusion/cuts.ts";
import { fuse, type Prepared } from "./fusion/fuse.ts";
import { unifyAxisSizes } from "./graph/axis_sizes.ts";
import { roundOnce } from "./graph/materialise.ts";
import { reassociate } from "./graph/reassociate.ts";
import { sinkRenames } from "./graph/sink_renames.ts";
import { type Parallelism, splitK, twoStages } from "./graph/split_reductions.ts";
import { storedLimit, streamProducts } from "./graph/stream_products.ts";
import type { LoweredProgram } from "./kernel_ir.ts";
import { chunkScans } from "./scans/chunk.ts";
import { planScans } from "./scans/plan.ts";
import { assignBuffers } from "./storage/assign.ts";
import { graphVerifier, verifyLowered } from "./verify.ts";

/** The passes from graph to graph. The result of each is verified. */
const prepared = (
  program: Program,
  limit: number,
  parallelism: Parallelism | undefined,
): Prepared => {
  const outputs = Object.entries(program.outputs);
  const asked = cloneGraph([
    ...outputs.map(([, output]) => nodeOf(output.of)),
    ...Object.values(program.updates ?? {}).map(nodeOf),
  ]);
  const verify = graphVerifier();
  const pass = (name: string, roots: readonly Node[]): readonly Node[] => {
    verify(name, roots);
    return roots;
  };
  const splitSums = (node: Node) => parallelism === undefined ? node : splitK(node, parallelism);
  const first = unifyAxisSizes(asked);
  let now = pass("unify axis sizes", first.roots);
  now = pass("stream products", streamProducts(now, limit));
  now = pass("reassociate", reassociate(now));
  now = pass("sink renames", sinkRenames(now));
  now = pass("two-stage reductions", rewrite(now, twoStages));
  now = pass("fuse into scans", fuseIntoScans(now).roots);
  refuseLongSteps(now);
  now = pass("split-K", rewrite(now, splitSums));
  const second = unifyAxisSizes(parallelism === undefined ? now : chunkScans(now, parallelism));
  now = pass("chunk scans", second.roots);
  now = pass("round once", roundOnce(now));
  const { roots, plans } = planScans(now, splitSums);
  pass("plan scans", roots);
  const ordered = outputs.map(([name, { of, order }], k) =>
    [name, { of, order: second.order(k, first.order(k, order)) }] as const
  );
  return { program: { ...program, outputs: Object.fromEntries(ordered) }, roots, plans };
};

/**
 * Lowers a program; sizes must be numbers by now. Products of more than `limit` bytes that are only
 * reduced again are not stored. Values between kernels with at least `halvesFrom` elements are
 * stored as f16 where rounding is harmless. With a `parallelism`, work that would leave the device idle
 * is split.
 */
export const lower = (
  program: Program,
  limit: number = storedLimit,
  halvesFrom = Infinity,
  parallelism?: Parallelism,
): LoweredProgram => {
  const { program: named, roots, plans } = prepared(program, limit, parallelism);
  const { drafts, home, uses } = fuse({ program: named, roots, plans });
  const lowered = assignBuffers(named, roots, drafts, home, uses, plans, halvesFrom);
  verifyLowered(lowered);
  return lowered;
};
