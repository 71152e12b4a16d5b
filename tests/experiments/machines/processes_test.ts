// What the processes of a run say to each other and add up, without MPI, and how a process finds out
// that there are others.
import { assert, assertEquals, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { openWorld } from "../../../experiments/machines/mpi.ts";
import {
  agreeOnError,
  alone,
  findDifference,
  labelled,
  launched,
  processesOf,
} from "../../../experiments/machines/processes.ts";
import { lastWords } from "../../../experiments/runs/sigterm_notice.ts";
import { dice } from "../../../experiments/data/synth/random.ts";
import { worlds } from "../../support/worlds.ts";
import { assertSameNumbers } from "../../support/same_numbers.ts";

const together = (size: number) => worlds(size).map(processesOf);

Deno.test("sums are made in the order of the ranks, with the same bits for all", async () => {
  // Buckets hold 2 ** 20 numbers: less than one, one and a bit, and what no number of processes divides.
  for (const size of [1, 2, 3, 4]) {
    for (const lengths of [[1], [5, 1, 0, 3], ...(size > 3 ? [] : [[2 ** 20 + 1, 7]])]) {
      const random = dice(size + lengths[0]);
      const given = Array.from(
        { length: size },
        () =>
          Object.fromEntries(lengths.map((length, k) => [
            `tensor ${k}`,
            Float32Array.from({ length }, () => random.between(-1, 1)),
          ])),
      );
      const got = await Promise.all(
        together(size).map(({ reduce }, rank) =>
          // Whatever order the names come in.
          reduce(Object.fromEntries(
            Object.entries(given[rank]).sort(() => rank % 2 === 0 ? 1 : -1),
          ))
        ),
      );
      for (const [k] of lengths.entries()) {
        const name = `tensor ${k}`;
        const want = given[0][name].map((_, i) => {
          let sum = 0;
          for (const of of given) sum += of[name][i];
          return sum;
        });
        for (const sums of got) assertSameNumbers(sums[name], want, `${name} of ${size}`);
      }
    }
  }
});

Deno.test("sums can be asked for again and again, of other sizes too", async () => {
  const processes = together(2);
  for (const length of [10, 3, 3, 2 ** 20, 10]) {
    const sums = await Promise.all(
      processes.map(({ reduce }, rank) => reduce({ x: new Float32Array(length).fill(rank + 1) })),
    );
    sums.forEach(({ x }) => assertSameNumbers(x, new Float32Array(length).fill(3)));
  }
});

Deno.test("what is said is heard by all, whatever its length and letters", async () => {
  for (const texts of [["", "", ""], ["a", "", "ÄÖ→"], ["", "x".repeat(5000), "\n"]]) {
    const heard = await Promise.all(together(3).map(({ gather }, rank) => gather(texts[rank])));
    heard.forEach((all) => assertEquals(all, texts));
  }
  assertEquals(await alone.gather("me"), ["me"]);
});

Deno.test("a reason of one process is the reason of all, and says whose it is", async () => {
  const reasons = await Promise.all(
    together(3).map((one, rank) =>
      agreeOnError(one, rank === 0 ? undefined : labelled(one, `why ${rank}`))
    ),
  );
  for (const reason of reasons) {
    assertStrictEquals(reason, `process 1 of 3 on ${Deno.hostname()}: why 1`);
  }
  const none = await Promise.all(together(3).map((one) => agreeOnError(one)));
  assertEquals(none, [undefined, undefined, undefined]);
});

Deno.test("processes that have other files are told apart", async () => {
  const checkpoints = [30, 30, 0];
  const words = await Promise.all(
    together(3).map((one, rank) =>
      findDifference(one, { spec: "s", checkpoint: `${checkpoints[rank]}` })
    ),
  );
  for (const text of words) {
    assertMatch(
      text!,
      /^the checkpoint of process 2 is not that of process 0; all processes of a run /,
    );
  }
  const same = await Promise.all(together(2).map((one) => findDifference(one, { spec: "s" })));
  assertEquals(same, [undefined, undefined]);
});

Deno.test("launchers are known by what they say of themselves", () => {
  const of = (variables: Readonly<Record<string, string>>) => launched((name) => variables[name]);
  assertStrictEquals(of({}), 1);
  assertStrictEquals(of({ OMPI_COMM_WORLD_SIZE: "4", OMPI_COMM_WORLD_RANK: "3" }), 4);
  assertStrictEquals(of({ PMI_SIZE: "2", PMI_RANK: "0" }), 2);
  assertStrictEquals(of({ SLURM_NTASKS: "8", SLURM_STEP_NUM_TASKS: "8", SLURM_PROCID: "7" }), 8);
  // mpirun in a job of Slurm's.
  assertStrictEquals(of({ SLURM_STEP_NUM_TASKS: "1", OMPI_COMM_WORLD_SIZE: "16" }), 16);
  // A batch script, which runs once, however many tasks it may start.
  assertStrictEquals(of({ SLURM_NTASKS: "8", SLURM_PROCID: "0" }), 1);
});

Deno.test("where there is no MPI library, a sentence says which one to install", () => {
  const opened = openWorld((name) => name === "FORMANT_MPI" ? "/nowhere/libmpi.so" : undefined);
  assert(E.isLeft(opened));
  assertMatch(
    opened.left,
    /^no MPI library could be loaded \(\/nowhere\/libmpi\.so is missing\); install Open MPI /,
  );
});

Deno.test("last words say how the run goes on", () => {
  const run = { folder: "runs/a", rank: 1, of: 4 };
  assertStrictEquals(
    lastWords(run, 30),
    "the run was told to end (SIGTERM), as when one of its 4 processes dies; the checkpoint of " +
      "step 30 is in runs/a, and --resume goes on from it",
  );
  assertMatch(lastWords(run, undefined), /; there is no checkpoint yet$/);
});
