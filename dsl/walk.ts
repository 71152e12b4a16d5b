// Graph walks without recursion: a chain of 100,000 operations is deeper than any stack.

/**
 * Visits nodes depth first, in the order of `into`, which is called once for each node and returns
 * the nodes to visit below it.
 */
export const descend = <N>(roots: Iterable<N>, into: (of: N) => readonly N[]): void => {
  const seen = new Set<N>();
  const stack = [...roots].reverse();
  while (stack.length > 0) {
    const of = stack.pop()!;
    if (seen.has(of)) continue;
    seen.add(of);
    const below = into(of);
    for (let k = below.length - 1; k >= 0; k--) stack.push(below[k]);
  }
};

/**
 * Maps a node by `make`, after all nodes `below` it; `done` holds results so far and receives the
 * others. Throws at a cycle.
 */
export const ascend = <N, T>(
  root: N,
  done: Map<N, T>,
  below: (of: N) => readonly N[],
  make: (of: N) => T,
): T => {
  const stack = done.has(root) ? [] : [{ of: root, list: below(root), next: 0 }];
  const open = new Set<N>([root]);
  while (stack.length > 0) {
    const top = stack[stack.length - 1];
    if (top.next < top.list.length) {
      const of = top.list[top.next++];
      if (done.has(of)) continue;
      if (open.has(of)) throw new Error("a graph goes round in a circle");
      open.add(of);
      stack.push({ of, list: below(of), next: 0 });
    } else {
      done.set(top.of, make(top.of));
      open.delete(top.of);
      stack.pop();
    }
  }
  return done.get(root)!;
};
