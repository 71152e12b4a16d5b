// The search for schedules, with a device whose times are known, and the tables that it leaves.
import { assert, assertEquals, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { join } from "node:path";
import type { Edit, Tuning } from "../../../backends/webgpu/target.ts";
import { candidates, type Measure, search, tuningText } from "../../../experiments/inspect/tune.ts";
import { decodeTuning, readTuning, tuningPath } from "../../../experiments/machines/tuning.ts";

/** A device on which kernel `a` likes `down` 4, kernel `b` nothing, and `lucky` was fast once. */
const device = (): Measure => {
  let calls = 0;
  const time = (key: string, edits: readonly Edit[]): number => {
    const schedule = Object.assign({}, ...edits) as Edit;
    if (key === "a") return schedule.down === 4 ? (schedule.side === 4 ? 5 : 6) : 10;
    return key === "lucky" && calls === 3 && edits.length > 0 ? 1 : 10;
  };
  const times = (tuning: Tuning) =>
    new Map(["a", "b", "lucky"].map((key) => [key, time(key, tuning[key] ?? [])]));
  return (a, b) => {
    calls++;
    return Promise.resolve([times(a), times(b)] as const);
  };
};

Deno.test("what is faster is kept, and only that", async () => {
  const rounds: number[] = [];
  const found = await search(device(), (_edit, kept) => rounds.push(kept));
  assertStrictEquals(rounds.length, candidates.length);
  assertEquals(Object.keys(found), ["a"]);
  assertStrictEquals(Object.assign({}, ...found.a).down, 4);
  assertStrictEquals(Object.assign({}, ...found.a).side, 4);
  const before = new Map([["a", 10], ["b", 4]]), after = new Map([["a", 5], ["b", 4]]);
  const text = tuningText(found, before, after);
  assertMatch(text, /10\.000 ms -> 5\.000 ms {2}a: .*down 4/);
  assertMatch(text, /14\.00 ms before, 9\.00 ms after$/);
});

Deno.test("a table is read back; one that is broken or of another device says so", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "table.json");
  const read = () => readTuning(path, "a device");
  assertEquals(read(), E.right(undefined));
  const refused = (content: string): string => {
    Deno.writeTextFileSync(path, content);
    const found = read();
    assert(E.isLeft(found), content);
    assertMatch(found.left, /^the tuning table .*table\.json is not used: /);
    return found.left;
  };
  assertMatch(refused("{"), /JSON/);
  const table = {
    version: 1,
    device: "a device",
    kernels: { "product 1 x 2 x 3 over 4": [{ down: 4, across: 2 }, { by: "workgroup" }] },
  };
  assertMatch(
    refused(JSON.stringify({ ...table, device: "another" })),
    /it was measured on another; 'deno task tune'/,
  );
  assertMatch(
    refused(JSON.stringify({ ...table, kernels: { k: [{ down: 3 }] } })),
    /kernels\.k\.0\.down: expected one of 1, 2, 4, 8, found 3/,
  );
  assertMatch(
    refused(JSON.stringify({ ...table, kernels: { k: [{ dwn: 4 }] } })),
    /did you mean 'down'/,
  );
  Deno.writeTextFileSync(path, JSON.stringify(table));
  assertEquals<unknown>(read(), E.right(table));
  assertEquals<unknown>(decodeTuning(table), E.right(table));
  assertMatch(
    tuningPath("llvmpipe: Mesa 25.0 (LLVM 15)"),
    /tuning.llvmpipe-Mesa-25\.0-LLVM-15-\.json$/,
  );
  await Deno.remove(folder, { recursive: true });
});
