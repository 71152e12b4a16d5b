// Reachability between kernels while fusion runs: which kernel depends on which. Values are visited
// from the last to the first, so all users of a value are known when it is stored; a kernel depends
// on those that store what it reads. Answers are found by search, since paths are mostly short and
// a table of all pairs would not fit in memory for programs of 100,000 values.
import type { Node } from "../../../dsl/node.ts";
import type { KernelDraft } from "./kernel_draft.ts";

/** Dependencies among the drafts made so far. */
export interface Waiting {
  /** Records that a kernel reads or computes a value. */
  readonly reads: (draft: KernelDraft, node: Node) => void;
  /** The values that a kernel reads or computes. */
  readonly readBy: (draft: KernelDraft) => readonly Node[];
  /** True for a kernel that reads or computes a value. */
  readonly isUser: (draft: KernelDraft, node: Node) => boolean;
  /** True if a kernel depends, directly or through others, on another user of a value. */
  readonly isBehindUser: (draft: KernelDraft, node: Node) => boolean;
}

/**
 * True if `from` depends on one of some kernels; `needs` gives those that a kernel reads from. All
 * paths are searched: ids of values do not order kernels, as a kernel with several values may store
 * early and late ones.
 */
export const reaches = (
  from: KernelDraft,
  isGoal: (draft: KernelDraft) => boolean,
  needs: (draft: KernelDraft) => Iterable<KernelDraft>,
): boolean => {
  const seen = new Set<KernelDraft>([from]);
  // Breadth first, since a path is mostly short.
  for (const draft of seen) {
    for (const other of needs(draft)) {
      if (seen.has(other)) continue;
      if (isGoal(other)) return true;
      seen.add(other);
    }
  }
  return false;
};

/** No dependencies yet; `home` will map each value to the kernel that stores it. */
export const waiting = (home: ReadonlyMap<Node, KernelDraft>): Waiting => {
  const readBy = new Map<KernelDraft, Node[]>();
  const users = new Map<Node, Set<KernelDraft>>();
  function* needs(draft: KernelDraft): Iterable<KernelDraft> {
    for (const node of readBy.get(draft) ?? []) {
      const from = home.get(node);
      if (from !== undefined && from !== draft) yield from;
    }
  }
  return {
    reads: (draft, node) => {
      const read = readBy.get(draft), by = users.get(node);
      if (read === undefined) readBy.set(draft, [node]);
      else read.push(node);
      if (by === undefined) users.set(node, new Set([draft]));
      else by.add(draft);
    },
    readBy: (draft) => readBy.get(draft) ?? [],
    isUser: (draft, node) => users.get(node)?.has(draft) ?? false,
    isBehindUser: (draft, node) => {
      const others = [...users.get(node) ?? []].filter((user) => user !== draft);
      if (others.length === 0) return false;
      const goals = new Set(others);
      return reaches(draft, (other) => goals.has(other), needs);
    },
  };
};
