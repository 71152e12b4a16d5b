// The run store: what is listed, in what two runs differ, and what may be deleted.
import { assert, assertEquals, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import {
  deleteRun,
  runsDifference,
  runsText,
  summaries,
} from "../../../experiments/commands/runs.ts";
import { lock, written } from "../../../experiments/training/run_folder.ts";

const inFolder = async (body: (root: string) => void | Promise<void>) => {
  const root = await Deno.makeTempDir();
  try {
    await body(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
};

const make = (
  folder: string,
  { state, seed = 0, step }: { state: string; seed?: number; step: number },
): void => {
  Deno.mkdirSync(`${folder}/checkpoints`, { recursive: true });
  const write = (name: string, content: unknown) =>
    Deno.writeTextFileSync(`${folder}/${name}`, `${JSON.stringify(content)}\n`);
  write("spec.json", { name: "x", seed, schedule: { steps: 100 }, encoder: { dim: 64 } });
  write("run.json", { state, device: "a device", began: "2026-01-01", versions: {} });
  Deno.writeTextFileSync(
    `${folder}/metrics.jsonl`,
    `{"step":0,"heldOutLoss":2}\n{"step":${step},"loss":0.5}\n`,
  );
  write("timing.jsonl", { step, elapsed: 75, memory: 1 });
  write(`checkpoints/step-${`${step}`.padStart(7, "0")}.safetensors`, "");
};

const message = (of: E.Either<{ readonly message: string }, unknown>): string => {
  assert(E.isLeft(of));
  return of.left.message;
};

Deno.test("runs are listed with how they stand, also within studies", () =>
  inFolder(async (root) => {
    make(`${root}/a`, { state: "finished", step: 100 });
    make(`${root}/study/b`, { state: "running", step: 40 });
    make(`${root}/study/c`, { state: "running", step: 7 });
    Deno.mkdirSync(`${root}/other`);
    const mine = await lock(`${root}/study/c`);
    assert(E.isRight(mine));
    assertStrictEquals(
      runsText(summaries(root), root),
      [
        "run      state        step  held-out    loss  time  device",
        "a        finished  100/100    2.0000  0.5000  1:15  a device",
        "study/b  killed     40/100    2.0000  0.5000  1:15  a device",
        "study/c  running     7/100    2.0000  0.5000  1:15  a device",
      ].join("\n"),
    );
    mine.right();
    assertEquals(summaries(`${root}/none`), []);
  }));

Deno.test("two runs differ in fields of their specs", () =>
  inFolder((root) => {
    make(`${root}/a`, { state: "finished", step: 100 });
    make(`${root}/b`, { state: "finished", seed: 3, step: 100 });
    assertEquals(runsDifference("a", "b", root), E.right("seed: 0 in a, 3 in b"));
    assertEquals(runsDifference("a", "a/", root), E.right("the two specs are the same"));
    assertMatch(
      message(runsDifference("a", "c", root)),
      /^'c' is not a run: .*the runs are a, b$/,
    );
  }));

Deno.test("only the folder of a run that nobody writes is deleted", () =>
  inFolder(async (root) => {
    make(`${root}/a`, { state: "finished", step: 100 });
    make(`${root}/b`, { state: "running", step: 5 });
    Deno.mkdirSync(`${root}/precious`);
    Deno.writeTextFileSync(`${root}/precious/thesis.txt`, "years");
    for (const name of ["precious", "..", ".", "", `${root}/precious`]) {
      assertMatch(message(deleteRun(name, root)), /is not a run/);
    }
    const mine = await lock(`${root}/b`);
    assert(E.isRight(mine));
    assertMatch(message(deleteRun("b", root)), /a process is writing .*\/b; stop it first/);
    mine.right();
    // A run that was written into a folder of somebody's.
    Deno.writeTextFileSync(`${root}/b/thesis.txt`, "years");
    assertMatch(
      message(deleteRun("b", root)),
      /\/b holds more than a run: thesis\.txt; move that away, or remove the folder by hand$/,
    );
    Deno.removeSync(`${root}/b/thesis.txt`);
    for (const name of [".lock", "failed-step-2.safetensors", "metrics.csv.partial"]) {
      Deno.writeTextFileSync(`${root}/b/${name}`, "");
    }
    Deno.symlinkSync(`${root}/a`, `${root}/link`);
    assertMatch(message(deleteRun("link", root)), /is a link/);
    assertEquals(deleteRun("a", root), E.right(`${root}/a`));
    assertEquals(deleteRun(`${root}/b`, root), E.right(`${root}/b`));
    const left = [...Deno.readDirSync(root)].map(({ name }) => name).sort();
    assertEquals(left, ["link", "precious"]);
    assertStrictEquals(Deno.readTextFileSync(`${root}/precious/thesis.txt`), "years");
  }));

Deno.test("docs/runs.md tells of all that a run writes", () => {
  const page = Deno.readTextFileSync(new URL("../../../docs/runs.md", import.meta.url));
  for (const name of written) assert(page.includes(`| \`${name}`), name);
});
