// Kernels that do the same loops beside each other become one: fewer are started, and what both read
// is read once. Only kernels that run at about the same time are joined, because otherwise what
// they read and write would be kept longer.
import type { Node } from "../../dsl/node.ts";
import { type Draft, isBound, mostBound, type Use } from "./draft.ts";

/** Kernels farther apart than this, in products and scans, are not joined. */
const near = 4;
/** Most values that a joined kernel stores. */
const mostRoots = 8;

/** What a list of drafts says about values. */
export interface Drafted {
  readonly drafts: readonly Draft[];
  /** The kernel that stores a value. */
  readonly home: Map<Node, Draft>;
  readonly uses: ReadonlyMap<Node, Map<Draft, Use>>;
  /** When a kernel runs, in products and scans. */
  readonly when: (draft: Draft) => number;
  /** True for kernels of nothing but new values of parameters. */
  readonly isUpdate: (draft: Draft) => boolean;
}

/** Drafts of the same loops have the same key; undefined for what is not joined. */
const loopsOf = ({ scan, contraction, full, over }: Draft): string | undefined =>
  scan !== undefined || contraction !== undefined ? undefined : [
    [...full].map(([axis, size]) => `${axis} ${size}`).sort().join(),
    [...over ?? []].join(),
  ].join(" | ");

/** Joins drafts of the same loops that do not wait for each other; `home` and `uses` follow. */
export const joinBeside = ({ drafts, home, uses, when, isUpdate }: Drafted): readonly Draft[] => {
  const reads = new Map<Draft, Set<Node>>(drafts.map((draft) => [draft, new Set()]));
  for (const [of, by] of uses) for (const draft of by.keys()) reads.get(draft)?.add(of);
  const needs = (draft: Draft): readonly Draft[] =>
    [...reads.get(draft)!, ...draft.roots].flatMap((of) => home.get(of) ?? [])
      .filter((other) => other !== draft);
  /** True when `from` waits for `to`, itself or through others. What runs earlier cannot. */
  const waits = (from: Draft, to: Draft): boolean => {
    const seen = new Set<Draft>();
    const visit = (draft: Draft): boolean => {
      if (draft === to) return true;
      if (seen.has(draft)) return false;
      seen.add(draft);
      return needs(draft).some(visit);
    };
    return needs(from).some(visit);
  };
  const boundBy = (list: readonly Draft[]) =>
    new Set(list.flatMap((draft) => [...reads.get(draft)!]).filter(isBound)).size;
  const join = (into: Draft, other: Draft) => {
    for (const root of other.roots) {
      if (!into.roots.includes(root)) into.roots.push(root);
      if (home.get(root) === other) home.set(root, into);
    }
    for (const of of other.reductions) if (!into.reductions.includes(of)) into.reductions.push(of);
    other.again.forEach((of) => into.again.add(of));
    for (const of of reads.get(other)!) {
      const by = uses.get(of)!;
      const { direct, count } = by.get(other)!;
      const own = by.get(into);
      by.set(into, {
        direct: direct && (own?.direct ?? true),
        count: Math.max(count, own?.count ?? 0),
      });
      by.delete(other);
      reads.get(into)!.add(of);
    }
    reads.delete(other);
  };

  const groups = new Map<string, Draft[]>();
  for (const draft of drafts) {
    const key = draft.roots.length === 0 ? undefined : loopsOf(draft);
    if (key !== undefined) groups.set(key, [...groups.get(key) ?? [], draft]);
  }
  const gone = new Set<Draft>();
  for (const group of groups.values()) {
    group.forEach((into, k) => {
      if (gone.has(into)) return;
      for (const other of group.slice(k + 1)) {
        if (gone.has(other) || isUpdate(into) !== isUpdate(other)) continue;
        if (Math.abs(when(into) - when(other)) > near) continue;
        if (into.roots.length + other.roots.length > mostRoots) continue;
        if (boundBy([into, other]) > mostBound) continue;
        if (waits(into, other) || waits(other, into)) continue;
        join(into, other);
        gone.add(other);
      }
    });
  }
  return drafts.filter((draft) => !gone.has(draft));
};
