// The order of training is a function of the seed and of nothing that happened before, also where
// recordings turn out not to be usable.
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertNotEquals,
  assertStrictEquals,
  fail,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import { orderedSource, readFirst } from "../../../../experiments/data/clips/sampler.ts";
import type { Recordings } from "../../../../experiments/data/clips/recordings.ts";
import { dataErrorText, type Source } from "../../../../experiments/data/clips/source.ts";
import { assertSameNumbers } from "../../../support/same_numbers.ts";

/** Recordings whose crops are their number and where the crop begins; some are not usable. */
const recordings = (
  count: number,
  bad: readonly number[] = [],
): Recordings & { readonly reads: number[]; readonly closed: boolean[] } => {
  const reads: number[] = [], closed: boolean[] = [];
  return {
    describe: "numbers",
    print: "abc",
    count,
    nameOf: (recording) => `n${recording}`,
    skipped: [],
    read: (wanted) => {
      reads.push(wanted.length);
      return Promise.resolve(
        E.right(
          wanted.map(({ recording, at }) =>
            bad.includes(recording) ? E.left("it is odd") : E.right(Float32Array.of(recording, at))
          ),
        ),
      );
    },
    close: () => closed.push(true),
    reads,
    closed,
  };
};

const options = { seed: 5, size: 2, heldOutFraction: 0.2, skippedFraction: 0.5 };
const opened = async (of: Recordings, changes = {}): Promise<Source> => {
  const source = await orderedSource(of, { ...options, ...changes });
  if (E.isLeft(source)) fail(dataErrorText(source.left));
  return source.right;
};
const read = async (source: Source, first: number, count: number): Promise<readonly number[]> => {
  const batch = await source.batch(first, count);
  if (E.isLeft(batch)) fail(dataErrorText(batch.left));
  return [...batch.right];
};
const numbers = (values: readonly number[]) => values.filter((_, k) => k % 2 === 0);

Deno.test("each pass uses every clip once, in an order of its own, and no held-out one", async () => {
  const source = await opened(recordings(30));
  const held = source.heldOut.map(({ frames: [recording] }) => recording);
  assertStrictEquals(held.length, 6);
  assertStrictEquals(source.clips, 24);
  const passes = [0, 1, 2].map((pass) => read(source, 24 * pass, 24));
  const orders = (await Promise.all(passes)).map(numbers);
  for (const order of orders) {
    assertEquals(
      [...order, ...held].sort((a, b) => a - b),
      Array.from({ length: 30 }, (_, k) => k),
    );
  }
  assertStrictEquals(new Set(orders.map(String)).size, 3);
  // Other seeds hold out others, and start crops elsewhere.
  const other = await opened(recordings(30), { seed: 6 });
  assertNotEquals(await read(other, 0, 24), await read(source, 0, 24));
});

Deno.test("reading begins anywhere, and in any parts", async () => {
  for (const count of [7, 30, readFirst + 50]) {
    const bad = Array.from({ length: Math.floor(count / 4) }, (_, k) => 4 * k + 2);
    const whole = await read(await opened(recordings(count, bad)), 0, 200);
    for (const [first, size] of [[0, 200], [3, 1], [50, 37], [199, 1]]) {
      // Nothing was read before: this is a run that is resumed.
      const part = await read(await opened(recordings(count, bad)), first, size);
      assertSameNumbers(part, whole.slice(2 * first, 2 * (first + size)), `${count}: ${first}`);
    }
    const source = await opened(recordings(count, bad));
    const parts: number[] = [];
    for (let first = 0; first < 200; first += 8) parts.push(...await read(source, first, 8));
    assertSameNumbers(parts, whole);
    assert(numbers(whole).every((recording) => !bad.includes(recording)));
    // Backwards too.
    assertSameNumbers(await read(source, 10, 5), whole.slice(20, 30));
  }
});

Deno.test("what is not usable is told at once where there are few, else when it is met", async () => {
  const few = await opened(recordings(40, [3, 17, 20]));
  assertEquals(few.skipped().map(({ path }) => path), ["n3", "n17", "n20"]);
  assertStrictEquals(few.clips + few.heldOut.length, 37);
  const count = readFirst + 100, bad = [1, 50, 3000];
  const many = recordings(count, bad), source = await opened(many);
  assertLess(many.reads.reduce((a, b) => a + b, 0), 0.25 * count);
  assertLess(source.skipped().length, 3);
  await read(source, 0, source.clips);
  assertEquals(source.skipped(), bad.map((k) => ({ path: `n${k}`, reason: "it is odd" })));
});

Deno.test("too much that is not usable is an error that says what, and closes", async () => {
  const failed = async (of: ReturnType<typeof recordings>, changes = {}) => {
    const source = await orderedSource(of, { ...options, ...changes });
    assert(E.isLeft(source));
    assertEquals(of.closed, [true]);
    return dataErrorText(source.left);
  };
  assertStrictEquals(
    await failed(recordings(10, [1, 2, 4]), { skippedFraction: 0.2 }),
    "3 of 10 recordings from numbers were skipped, more than the share of 0.2 that " +
      "data.skippedFraction allows; the first is n1: it is odd",
  );
  assertMatch(await failed(recordings(0)), /there are 0 clips from numbers, but .* at least 2$/);
  assertMatch(await failed(recordings(1)), /there is 1 clip from numbers/);
  assertMatch(
    await failed(recordings(3, [0, 1, 2])),
    /there are 0 clips from numbers, .*; skipped: n0: it is odd, and 2 more$/,
  );
  // Met only later on, in the middle of training.
  const count = readFirst + 100;
  const source = await opened(recordings(count, [8, 9, 10, 11]), { skippedFraction: 2 / count });
  const batch = await source.batch(0, source.clips);
  assert(E.isLeft(batch));
  assertMatch(dataErrorText(batch.left), /^\d of 4196 recordings from numbers were skipped/);
  // None is left: told, and not tried for ever.
  const all = Array.from({ length: count }, (_, k) => k);
  const good = new Set((await opened(recordings(count))).heldOut.map(({ frames }) => frames[0]));
  const none = await opened(recordings(count, all.filter((k) => !good.has(k))), {
    skippedFraction: 1,
  });
  for (let k = 0; k < 2; k++) {
    const batch = await none.batch(0, 4200);
    assert(E.isLeft(batch));
  }
});
