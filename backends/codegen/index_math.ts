// Integer arithmetic of addresses: a constant plus multiples of atoms with known ranges, so that
// division, remainder and bounds checks fold away wherever they can be proved. Atoms are loop
// variables, and subexpressions that could not be folded, as text in the C-like syntax that both
// targets share.

/** A loop variable or an opaque integer expression, from `low` to `high` inclusive. */
export interface IndexVar {
  readonly text: string;
  readonly low: number;
  readonly high: number;
  /** The loop variables that it depends on. */
  readonly depends: readonly string[];
  /** True if it differs among the invocations of a workgroup. */
  readonly varies?: boolean;
  /** Set for a quotient or remainder: the dividend and the divisor. */
  readonly cut?: DivMod;
  /** True for a loop variable that takes all values of its range, independently of others. */
  readonly free?: boolean;
  /** Set for an expression with a narrower range than its terms imply: that expression. */
  readonly is?: IndexExpr;
}

/** Quotient or remainder of a non-negative expression. */
export interface DivMod {
  readonly of: IndexExpr;
  readonly by: number;
  readonly remains: boolean;
}

/** constant + sum(times * atom). */
export interface IndexExpr {
  readonly constant: number;
  readonly terms: readonly { readonly atom: IndexVar; readonly times: number }[];
}

export const int = (constant: number): IndexExpr => ({ constant, terms: [] });

/** A variable from 0 to size - 1; one of size 1 is the constant 0. */
export const variable = (text: string, size: number): IndexExpr =>
  size === 1 ? int(0) : {
    constant: 0,
    terms: [{ atom: { text, low: 0, high: size - 1, depends: [text], free: true }, times: 1 }],
  };

/**
 * An expression that lies from `least` to `most` whatever its terms imply; the caller guarantees it
 * by the bounds of the enclosing loops.
 */
export const within = (of: IndexExpr, least: number, most: number): IndexExpr => {
  if (low(of) >= least && high(of) <= most) return of;
  const atom: IndexVar = {
    text: show(of),
    low: Math.max(least, low(of)),
    high: Math.min(most, high(of)),
    depends: depends(of),
    varies: varies(of),
    is: of,
  };
  return { constant: 0, terms: [{ atom, times: 1 }] };
};

/** The expression for code: without the narrowed ranges. */
export const spelled = (a: IndexExpr): IndexExpr =>
  a.terms.every(({ atom }) => atom.is === undefined) ? a : a.terms.reduce(
    (s, { atom, times: by }) =>
      sum(
        s,
        times(
          atom.is === undefined ? { constant: 0, terms: [{ atom, times: 1 }] } : spelled(atom.is),
          by,
        ),
      ),
    int(a.constant),
  );

export const sum = (a: IndexExpr, b: IndexExpr): IndexExpr => {
  const terms = new Map(a.terms.map((term) => [term.atom.text, term]));
  for (const { atom, times } of b.terms) {
    terms.set(atom.text, { atom, times: times + (terms.get(atom.text)?.times ?? 0) });
  }
  return recombined({
    constant: a.constant + b.constant,
    terms: [...terms.values()].filter((term) => term.times !== 0),
  });
};

/** floor(floor(x / n) / by) = floor(x / (n * by)): merges nested divisions. */
const wholeOf = (of: IndexExpr, by: number): { readonly of: IndexExpr; readonly by: number } => {
  const [only, ...others] = of.terms;
  const cut = only?.atom.cut;
  const isQuotient = others.length === 0 && of.constant === 0 && only?.times === 1 &&
    cut !== undefined && !cut.remains;
  return isQuotient ? { of: cut.of, by: cut.by * by } : { of, by };
};

/** by * floor(x / by) + (x mod by) = x: flattening an unflattened index costs nothing. */
const recombined = (a: IndexExpr): IndexExpr => {
  for (const rest of a.terms) {
    const { cut } = rest.atom;
    if (cut === undefined || !cut.remains) continue;
    const divided = wholeOf(cut.of, cut.by), key = show(divided.of);
    const whole = a.terms.find(({ atom, times }) =>
      atom.cut !== undefined && !atom.cut.remains && atom.cut.by === divided.by &&
      times === rest.times * cut.by && show(atom.cut.of) === key
    );
    if (whole === undefined) continue;
    const others = a.terms.filter((term) => term !== rest && term !== whole);
    return sum({ constant: a.constant, terms: others }, times(cut.of, rest.times));
  }
  return a;
};

export const times = (a: IndexExpr, by: number): IndexExpr =>
  by === 0 ? int(0) : {
    constant: a.constant * by,
    terms: a.terms.map(({ atom, times }) => ({ atom, times: times * by })),
  };

export const low = (a: IndexExpr): number =>
  a.terms.reduce(
    (s, { atom, times }) => s + times * (times > 0 ? atom.low : atom.high),
    a.constant,
  );
export const high = (a: IndexExpr): number =>
  a.terms.reduce(
    (s, { atom, times }) => s + times * (times > 0 ? atom.high : atom.low),
    a.constant,
  );

/** The loop variables that an expression depends on. */
export const depends = (a: IndexExpr): readonly string[] =>
  a.terms.flatMap(({ atom }) => atom.depends);

/** True when an expression differs among the invocations of a workgroup. */
export const varies = (a: IndexExpr): boolean => a.terms.some(({ atom }) => atom.varies === true);

/** The expression as text, in 32-bit signed arithmetic. */
export const show = (a: IndexExpr): string => {
  const parts = a.terms.map(({ atom, times }) =>
    times === 1 ? atom.text : `${atom.text} * ${times}`
  );
  if (a.constant !== 0 || parts.length === 0) parts.push(`${a.constant}`);
  return parts.length === 1 ? parts[0] : `(${parts.join(" + ")})`;
};

/** A quotient or remainder that could not be folded. */
const unfolded = (text: string, cut: DivMod, low: number, high: number): IndexExpr =>
  low === high ? int(low) : {
    constant: 0,
    terms: [{
      atom: { text, low, high, depends: depends(cut.of), varies: varies(cut.of), cut },
      times: 1,
    }],
  };

/** Splits an expression into terms divisible by `by`, divided, and the rest. */
const separate = (
  a: IndexExpr,
  by: number,
): { readonly whole: IndexExpr; readonly rest: IndexExpr } => {
  const divides = (n: number) => n % by === 0;
  const whole = a.terms.filter((term) => divides(term.times));
  const rest = a.terms.filter((term) => !divides(term.times));
  const base = Math.floor(a.constant / by);
  return {
    whole: {
      constant: base,
      terms: whole.map(({ atom, times }) => ({ atom, times: times / by })),
    },
    rest: { constant: a.constant - base * by, terms: rest },
  };
};

/** floor(a / by) */
export const quotient = (a: IndexExpr, by: number): IndexExpr => {
  if (by === 1) return a;
  const { whole, rest } = separate(a, by);
  const from = low(rest), to = high(rest);
  if (Math.floor(from / by) === Math.floor(to / by)) {
    return sum(whole, int(Math.floor(from / by)));
  }
  // Targets divide towards zero, so the dividend is made non-negative first.
  const lift = Math.max(0, Math.ceil(-from / by));
  const lifted = sum(rest, int(lift * by));
  const cut = { ...wholeOf(lifted, by), remains: false };
  const text = `(${show(cut.of)} / ${cut.by})`;
  const part = unfolded(text, cut, Math.floor(low(lifted) / by), Math.floor(high(lifted) / by));
  return sum(sum(whole, part), int(-lift));
};

/** a - by * floor(a / by) */
export const remainder = (a: IndexExpr, by: number): IndexExpr => {
  const { rest } = separate(a, by);
  const from = low(rest), to = high(rest);
  if (Math.floor(from / by) === Math.floor(to / by)) {
    return sum(rest, int(-by * Math.floor(from / by)));
  }
  const lift = Math.max(0, Math.ceil(-from / by));
  const lifted = sum(rest, int(lift * by));
  return unfolded(`(${show(lifted)} % ${by})`, { of: lifted, by, remains: true }, 0, by - 1);
};
