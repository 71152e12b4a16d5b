// Kernels that do the same loops beside each other become one: fewer are started, and what both read
// is read once. Only kernels that run at about the same time are joined, because otherwise what
// they read and write would be kept longer.
import type { Node } from "../../../dsl/node.ts";
import { type Draft, mostReductions, type Use } from "./kernel_draft.ts";
import { isBound, mostBound } from "../cost_model.ts";
import { reaches } from "./reachability.ts";

/** Kernels farther apart than this, in products and scans, are not joined. */
const near = 4;
/** Most values that a joined kernel stores. */
const mostRoots = 8;
/** Kernels of one time that are looked at for each, and those that may turn out to wait. */
const mostTried = 256, mostWaiting = 16;

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
  const sources = new Map(
    drafts.map((draft) => [
      draft,
      new Set([...reads.get(draft)!, ...draft.roots].flatMap((of) => home.get(of) ?? [])),
    ]),
  );
  /** Where a kernel went that has joined another one. */
  const joined = new Map<Draft, Draft>();
  function* needs(draft: Draft): Iterable<Draft> {
    for (const source of sources.get(draft)!) {
      let now = source;
      while (joined.has(now)) now = joined.get(now)!;
      if (now !== draft) yield now;
    }
  }
  /** True when `from` waits for `to`, itself or through others. What runs earlier cannot. */
  const waits = (from: Draft, to: Draft): boolean => reaches(from, (draft) => draft === to, needs);
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
    for (const source of sources.get(other)!) sources.get(into)!.add(source);
    joined.set(other, into);
  };

  const groups = new Map<string, Draft[]>();
  for (const draft of drafts) {
    const key = draft.roots.length === 0 ? undefined : loopsOf(draft);
    if (key === undefined) continue;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [draft]);
    else group.push(draft);
  }
  const gone = new Set<Draft>();
  for (const group of groups.values()) {
    const position = new Map(group.map((draft, k) => [draft, k]));
    /** Those that run at a time. A kernel that others have joined has been looked at before them. */
    const at = new Map<number, Draft[]>();
    const begun = new Map<number, number>();
    for (const draft of group) {
      const time = when(draft), there = at.get(time);
      if (there === undefined) at.set(time, [draft]);
      else there.push(draft);
    }
    /** The next ones of the group that `into` may get near to as others join it. */
    const around = (into: Draft): readonly Draft[] => {
      const time = when(into), found: Draft[] = [];
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
