// Which kernels wait for which, while they are made. Values are visited from the last to the first, so
// all that uses a value is known when it is stored; a kernel waits for those that store what it reads.
// Answers are searched for on the way from one kernel to another: what lies between is mostly little,
// while a table of all pairs would not fit in memory for programs of 100,000 values.
import type { Node } from "../../../dsl/node.ts";
import type { Draft } from "./kernel_draft.ts";

/** Who waits for whom among the kernels made so far. */
export interface Waiting {
  /** Says that a kernel reads or computes a value. */
  readonly reads: (draft: Draft, of: Node) => void;
  /** What a kernel reads or computes. */
  readonly readBy: (draft: Draft) => readonly Node[];
  /** True for a kernel that reads or computes a value. */
  readonly isUser: (draft: Draft, of: Node) => boolean;
  /** True when a kernel waits, through whatever others, for another one that uses a value. */
  readonly isBehindUser: (draft: Draft, of: Node) => boolean;
}

/**
 * True when `from` waits for one of some kernels, `needs` being those that a kernel reads from. All of
 * them are gone through: ids of values do not tell who cannot wait, as a kernel of several values may
 * store early and late ones.
 */
export const reaches = (
  from: Draft,
  isGoal: (draft: Draft) => boolean,
  needs: (draft: Draft) => Iterable<Draft>,
): boolean => {
  const seen = new Set<Draft>([from]);
  // The nearest first: where there is a way, it is mostly a short one.
  for (const draft of seen) {
    for (const other of needs(draft)) {
      if (seen.has(other)) continue;
      if (isGoal(other)) return true;
      seen.add(other);
    }
  }
  return false;
};

/** Nobody waits for anybody yet; `home` will say which kernel stores a value. */
export const waiting = (home: ReadonlyMap<Node, Draft>): Waiting => {
  const readBy = new Map<Draft, Node[]>();
  const users = new Map<Node, Set<Draft>>();
  function* needs(draft: Draft): Iterable<Draft> {
    for (const of of readBy.get(draft) ?? []) {
      const from = home.get(of);
      if (from !== undefined && from !== draft) yield from;
    }
  }
  return {
    reads: (draft, of) => {
      const read = readBy.get(draft), by = users.get(of);
      if (read === undefined) readBy.set(draft, [of]);
      else read.push(of);
      if (by === undefined) users.set(of, new Set([draft]));
      else by.add(draft);
    },
    readBy: (draft) => readBy.get(draft) ?? [],
    isUser: (draft, of) => users.get(of)?.has(draft) ?? false,
    isBehindUser: (draft, of) => {
      const others = [...users.get(of) ?? []].filter((user) => user !== draft);
      if (others.length === 0) return false;
      const goals = new Set(others);
      return reaches(draft, (other) => goals.has(other), needs);
    },
  };
};
