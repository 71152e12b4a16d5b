// metrics.jsonl: whole lines, nothing lost by a kill, and resuming takes back only later steps.
import { assert, assertEquals, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import {
  type Metric,
  metricsErrorText,
  metricsTable,
  openMetrics,
  parseMetrics,
  readMetrics,
} from "../../../experiments/training/metrics.ts";

const right = <A>(read: E.Either<unknown, A>): A => {
  assert(E.isRight(read), JSON.stringify(read));
  return read.right;
};

const lines: readonly Metric[] = [
  { step: 0, heldOutLoss: 1.5 },
  { step: 1, loss: 1.4, learningRate: 1e-4 },
  { step: 2, loss: 1.3, heldOutLoss: 1.2, learningRate: 2e-4 },
  { step: 3, loss: 1.1, learningRate: 1e-4 },
];

async function inFolder(act: (folder: string) => void): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    act(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function write(path: string, metrics: readonly Metric[], through?: number): void {
  const file = right(openMetrics(path, through));
  for (const metric of metrics) {
    right(file.append(metric));
    // Already on the disk, whole, while the file is open.
    assert(Deno.readTextFileSync(path).endsWith(JSON.stringify(metric) + "\n"));
  }
  file.close();
}

Deno.test("what is written is read again; a new run starts the file anew", () =>
  inFolder((folder) => {
    const path = `${folder}/metrics.jsonl`;
    assertEquals(right(readMetrics(path)), []);
    write(path, lines);
    assertEquals(right(readMetrics(path)), lines);
    write(path, lines.slice(0, 1));
    assertEquals(right(readMetrics(path)), lines.slice(0, 1));
    assertEquals([...Deno.readDirSync(folder)].map((entry) => entry.name), ["metrics.jsonl"]);
  }));

Deno.test("a killed run's torn line is left out, and a resumed run gives the same lines", () =>
  inFolder((folder) => {
    const path = `${folder}/metrics.jsonl`;
    write(path, lines);
    Deno.writeTextFileSync(path, '{"step":4,"lo', { append: true });
    assertEquals(right(readMetrics(path)), lines);
    write(path, lines.slice(2), 1);
    assertEquals(right(readMetrics(path)), lines);
  }));

Deno.test("what a loss of power makes of the end of a file does not keep a run from going on", () =>
  inFolder((folder) => {
    const path = `${folder}/metrics.jsonl`;
    write(path, lines);
    Deno.writeTextFileSync(path, `${"\0".repeat(300)}\n\0\0`, { append: true });
    assert(E.isLeft(readMetrics(path)));
    write(path, lines.slice(2), 1);
    assertEquals(right(readMetrics(path)), lines);
    // In the middle it is damage.
    const spoilt = [...lines.map((line) => JSON.stringify(line)).toSpliced(2, 0, "{"), ""];
    Deno.writeTextFileSync(path, spoilt.join("\n"));
    const opened = openMetrics(path, 3);
    assert(E.isLeft(opened));
    assertMatch(metricsErrorText(opened.left), /metrics\.jsonl, line 3: it is not JSON; remove/);
  }));

Deno.test("a loss that is not a number survives", () =>
  inFolder((folder) => {
    const path = `${folder}/metrics.jsonl`;
    write(path, [{ step: 1, loss: NaN }]);
    assertEquals(right(readMetrics(path)), [{ step: 1, loss: NaN }]);
  }));

Deno.test("a spoilt line is told by its number and what is wrong", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["not json", "m.jsonl, line 2: it is not JSON"],
    ['{"loss":1}', "m.jsonl, line 2: step: missing; expected a whole number of at least 0"],
    [
      '{"step":1.5}',
      "m.jsonl, line 2: step: expected a whole number of at least 0, found 1.5",
    ],
    [
      '{"step":1,"los":3}',
      "m.jsonl, line 2: los: unknown field; did you mean 'loss'?",
    ],
  ];
  for (const [line, sentence] of cases) {
    const read = parseMetrics(`{"step":0}\n${line}\n`, "m.jsonl");
    assert(E.isLeft(read));
    assertStrictEquals(
      metricsErrorText(read.left),
      `${sentence}; remove the line to do without it`,
    );
  }
});

Deno.test("a folder that is not there is an error, not an exception", () =>
  inFolder((folder) => {
    const opened = openMetrics(`${folder}/none/metrics.jsonl`);
    assert(E.isLeft(opened));
    assertMatch(metricsErrorText(opened.left), /none\/metrics\.jsonl could not be opened: /);
  }));

Deno.test("metrics and timings are one table", () => {
  const timings = [{ step: 1, elapsed: 2, clipsPerSecond: 8, dataWait: 0.5, memory: 100 }];
  assertStrictEquals(
    metricsTable(lines.slice(0, 2), timings),
    "step,loss,heldOutLoss,averageHeldOutLoss,learningRate,gradientNorm,lossScale,elapsed," +
      "clipsPerSecond,dataWait,memory\n0,,1.5,,,,,,,,\n1,1.4,,,0.0001,,,2,8,0.5,100\n",
  );
});
