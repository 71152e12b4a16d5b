// Horizontal fusion: independent kernels with the same iteration space are merged. That saves
// launches and shared reads. Only kernels that run at about the same time are merged, since
// otherwise their inputs and outputs would be kept for longer.
import type { Node } from "../../../dsl/node.ts";
import { type KernelDraft, mostReductions, type Use } from "./kernel_draft.ts";
import { isBound, mostBound } from "../cost_model.ts";
import { reaches } from "./reachability.ts";

/** Most contractions and scans between two kernels that are merged. */
const near = 4;
/** Most values that a merged kernel stores. */
const mostRoots = 8;
/** Most kernels of one time that are tried for each, and most of them that may prove dependent. */
const mostTried = 256, mostWaiting = 16;

/** Drafts, and what they store and use. */
export interface Drafted {
  readonly drafts: readonly KernelDraft[];
  /** The kernel that stores a value. */
  readonly home: Map<Node, KernelDraft>;
  readonly uses: ReadonlyMap<Node, Map<KernelDraft, Use>>;
  /** When a kernel runs, counted in contractions and scans. */
  readonly when: (draft: KernelDraft) => number;
  /** True for kernels that only compute new values of parameters. */
  readonly isUpdate: (draft: KernelDraft) => boolean;
}

/**
 * Drafts with the same iteration space have the same key; undefined for those that are never
 * merged.
 */
const loopsOf = (
  { scan, contraction, domain, reductionAxes }: KernelDraft,
): string | undefined =>
  scan !== undefined || contraction !== undefined ? undefined : [
    [...domain].map(([axis, size]) => `${axis} ${size}`).sort().join(),
    [...reductionAxes ?? []].join(),
  ].join(" | ");

/** Merges independent drafts with the same iteration space; `home` and `uses` are updated. */
export const fuseHorizontally = (
  { drafts, home, uses, when, isUpdate }: Drafted,
): readonly KernelDraft[] => {
  const reads = new Map<KernelDraft, Set<Node>>(drafts.map((draft) => [draft, new Set()]));
  for (const [node, by] of uses) for (const draft of by.keys()) reads.get(draft)?.add(node);
  const sources = new Map(
    drafts.map((draft) => [
      draft,
      new Set([...reads.get(draft)!, ...draft.roots].flatMap((node) => home.get(node) ?? [])),
    ]),
  );
  /** The kernel that a merged kernel became part of. */
  const joined = new Map<KernelDraft, KernelDraft>();
  function* needs(draft: KernelDraft): Iterable<KernelDraft> {
    for (const source of sources.get(draft)!) {
      let now = source;
      while (joined.has(now)) now = joined.get(now)!;
      if (now !== draft) yield now;
    }
  }
  /** True if `from` depends on `to`, directly or through others. */
  const waits = (from: KernelDraft, to: KernelDraft): boolean =>
    reaches(from, (draft) => draft === to, needs);
  const boundBy = (list: readonly KernelDraft[]) =>
    new Set(list.flatMap((draft) => [...reads.get(draft)!]).filter(isBound)).size;
  const join = (into: KernelDraft, other: KernelDraft) => {
    for (const root of other.roots) {
      if (!into.roots.includes(root)) into.roots.push(root);
      if (home.get(root) === other) home.set(root, into);
    }
    for (const node of other.reductions) {
      if (!into.reductions.includes(node)) into.reductions.push(node);
    }
    other.rematerialised.forEach((node) => into.rematerialised.add(node));
    for (const node of reads.get(other)!) {
      const by = uses.get(node)!;
      const { aligned, count } = by.get(other)!;
      const own = by.get(into);
      by.set(into, {
        aligned: aligned && (own?.aligned ?? true),
        count: Math.max(count, own?.count ?? 0),
      });
      by.delete(other);
      reads.get(into)!.add(node);
    }
    reads.delete(other);
    for (const source of sources.get(other)!) sources.get(into)!.add(source);
    joined.set(other, into);
  };

  const groups = new Map<string, KernelDraft[]>();
  for (const draft of drafts) {
    const key = draft.roots.length === 0 ? undefined : loopsOf(draft);
    if (key === undefined) continue;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [draft]);
    else group.push(draft);
  }
  const gone = new Set<KernelDraft>();
  for (const group of groups.values()) {
    const position = new Map(group.map((draft, k) => [draft, k]));
    /** The group's kernels by time. A kernel that took in others was tried with all before it. */
    const at = new Map<number, KernelDraft[]>();
    const begun = new Map<number, number>();
    for (const draft of group) {
      const time = when(draft), there = at.get(time);
      if (there === undefined) at.set(time, [draft]);
      else there.push(draft);
    }
    /** The later kernels of the group that `into` may come near to as it takes in others. */
    const around = (into: KernelDraft): readonly KernelDraft[] => {
      const time = when(into), found: KernelDraft[] = [];
      for (let t = time - near * mostRoots; t <= time + near; t++) {
        const there = at.get(t) ?? [];
        let next = begun.get(t) ?? 0;
        while (next < there.length && position.get(there[next])! <= position.get(into)!) next++;
        begun.set(t, next);
        found.push(...there.slice(next, next + mostTried));
      }
      return found.sort((a, b) => position.get(a)! - position.get(b)!);
    };
    for (const into of group) {
      if (gone.has(into)) continue;
      let waiting = 0;
      for (const other of around(into)) {
        if (into.roots.length >= mostRoots || waiting >= mostWaiting) break;
        if (gone.has(other) || isUpdate(into) !== isUpdate(other)) continue;
        if (Math.abs(when(into) - when(other)) > near) continue;
        if (into.roots.length + other.roots.length > mostRoots) continue;
        if (into.reductions.length + other.reductions.length > mostReductions) continue;
        if (boundBy([into, other]) > mostBound) continue;
        if (waits(into, other) || waits(other, into)) {
          waiting++;
          continue;
        }
        join(into, other);
        gone.add(other);
      }
    }
  }
  return drafts.filter((draft) => !gone.has(draft));
};
