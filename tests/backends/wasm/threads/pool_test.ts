// Threads that fail: a kernel that traps ends its run and no other, whichever thread it is on, and a
// thread that is gone or never came is not waited for.
import { assert, assertEquals, assertMatch, assertStrictEquals } from "@std/assert";
import {
  access,
  assemble,
  doWhile,
  type Func,
  get,
  i32,
  instruction,
  memoryOf,
  when,
} from "../../../../backends/wasm/assembler/encode.ts";
import { openPool, type Pool } from "../../../../backends/wasm/threads/pool.ts";

// Parameters of kernels. Here the scratch address is the number of the thread: 0 is the main one.
const [, from, to, thread] = [0, 1, 2, 3];
const unreachable = [0x00];
/** Where units of work are marked. */
const marks = 1024;

const func = (body: readonly number[]): Func => ({ params: 4, locals: [], body });
/** Takes a while, so that the other thread has tasks to take as well. */
const lingers = [
  ...[...i32(0), 0x21, from],
  ...doWhile(
    [...get(from), ...i32(1), ...instruction["i32.add"], 0x21, from],
    [...get(from), ...i32(100_000), ...instruction["i32.lt_s"]],
  ),
];
const traps = {
  worker: func([...when(get(thread), unreachable), ...lingers]),
  main: func([...when([...get(thread), 0x45], unreachable), ...lingers]),
};
/** Marks the units of its tasks. */
const works = func([
  ...doWhile(
    [
      ...[...get(from), ...i32(4), ...instruction["i32.mul"], ...i32(1)],
      ...access["i32.store"](marks),
      ...[...get(from), ...i32(1), ...instruction["i32.add"], 0x21, from],
    ],
    [...get(from), ...get(to), ...instruction["i32.lt_s"]],
  ),
]);

const units = 100;
/** A machine with one program that traps, in its second kernel, and one that does not. */
const openOn = (pool: Pool, trap: Func) => {
  const memory = memoryOf(1, pool.shared);
  const all = (func: number) => ({ func, args: 0, units });
  const team = pool.open({
    module: new WebAssembly.Module(assemble([trap, works], 1, pool.shared)),
    memory,
    programs: [[all(1), all(0), all(1)], [all(1), all(1)]],
    scratch: Array.from({ length: pool.threads }, (_, k) => k),
  });
  const bytes = new Int32Array(memory.buffer);
  const marked = () => bytes.slice(marks / 4, marks / 4 + units);
  return { ...team, marked, clear: () => bytes.fill(0) };
};
const everyUnit = new Int32Array(units).fill(1);

for (const [on, trap] of Object.entries(traps)) {
  Deno.test(`a kernel that traps on the ${on} thread ends its run, and later runs work`, async () => {
    const pool = openPool(2);
    assertStrictEquals(pool.threads, 2);
    const machine = openOn(pool, trap), other = openOn(pool, trap);
    for (let k = 0; k < 20; k++) {
      machine.clear();
      // Which thread takes a task is not known, and a worker takes a while to start.
      let failure = machine.run(0);
      for (const end = Date.now() + 60_000; failure === undefined && Date.now() < end;) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        failure = machine.run(0);
      }
      assertStrictEquals(failure?.call, 1);
      assertMatch(failure.said, /RuntimeError: unreachable/);
      for (const one of [machine, other]) {
        one.clear();
        assertStrictEquals(one.run(1), undefined);
        assertEquals(one.marked(), everyUnit);
      }
    }
    // The process hears of other things than runs.
    await new Promise((resolve) => setTimeout(resolve, 1));
    pool.close();
  });
}

Deno.test("a kernel that traps where there is one thread ends its run, and later runs work", () => {
  const pool = openPool(1);
  const machine = openOn(pool, func(unreachable));
  const failure = machine.run(0);
  assertStrictEquals(failure?.call, 1);
  assertMatch(failure.said, /RuntimeError: unreachable/);
  machine.clear();
  assertStrictEquals(machine.run(1), undefined);
  assertEquals(machine.marked(), everyUnit);
});

Deno.test("workers that can not start are done without", async () => {
  const pool = openPool(3, { script: new URL("./no_such_worker.ts", import.meta.url).href });
  const machine = openOn(pool, func([]));
  for (let k = 0; k < 3; k++) {
    machine.clear();
    assertStrictEquals(machine.run(1), undefined);
    assertEquals(machine.marked(), everyUnit);
    // By the second run they have failed.
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  machine.close();
  pool.close();
});

Deno.test("a thread that takes part and does not answer is not waited for without end", async () => {
  // The first one says that it takes part in a run, and is never heard of again; those after it are
  // told by the folder that it makes, and take no part.
  const folder = await Deno.makeTempDir(), first = JSON.stringify(`${folder}/first`);
  const script = "data:text/javascript," + encodeURIComponent(`
    self.onmessage = ({ data }) => {
      if (data.tell === "end") return self.close();
      if (data.tell !== "control") return;
      try {
        Deno.mkdirSync(${first});
        Atomics.add(data.control, 4, 1);
      } catch {
        // It is there.
      }
    };
  `);
  const pool = openPool(2, { script, patience: 100 });
  const machine = openOn(pool, func([]));
  // It may take a while to start, and is not missed until then.
  let failure: ReturnType<typeof machine.run>, took = 0;
  while (failure === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const began = performance.now();
    failure = machine.run(1);
    took = performance.now() - began;
  }
  assertMatch(failure.said, /a thread does not answer any more/);
  assert(took >= 100 && took < 5000, `${took} ms`);
  // The thread might still write to this machine's memory, but to no machine's that is opened now.
  assertMatch(machine.run(1)?.said ?? "", /open the machine again/);
  const other = openOn(pool, func([]));
  for (let k = 0; k < 5; k++) {
    other.clear();
    assertStrictEquals(other.run(1), undefined);
    assertEquals(other.marked(), everyUnit);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  pool.close();
  await Deno.remove(folder, { recursive: true });
});
