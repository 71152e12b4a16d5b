// Somebody who has read docs/specs.md and nothing else writes a spec, with two mistakes, and does what
// the messages say: each message must be enough to mend what it is about.
import { assert, assertEquals, assertMatch, assertNotMatch, assertStrictEquals } from "@std/assert";

const cli = decodeURIComponent(
  new URL("../../../experiments/commands/main.ts", import.meta.url).pathname,
);
const page = Deno.readTextFileSync(new URL("../../../docs/specs.md", import.meta.url));

type Json = Record<string, unknown>;

const experiment = async (cwd: string, ...args: readonly string[]) => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", cli, "experiment", ...args],
    cwd,
    env: { NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
};

const fieldsOf = (json: Json, path = ""): readonly string[] =>
  Object.entries(json).flatMap(([key, value]) => {
    const at = path === "" ? key : `${path}.${key}`;
    return [at, ...(typeof value === "object" ? fieldsOf(value as Json, at) : [])];
  });

const parent = (json: Json, path: string): readonly [Json, string] => {
  const keys = path.split("."), last = keys.pop()!;
  return [keys.reduce((inside, key) => inside[key] as Json, json), last];
};

/** Mends a spec by nothing but the lines of an error; says what was done. */
const mended = (json: Json, message: string): readonly string[] =>
  message.split("\n").flatMap((line): readonly string[] => {
    const misspelt = /^ {2}(\S+): unknown field; did you mean '(\w+)'\?$/.exec(line);
    if (misspelt !== null) {
      const [inside, key] = parent(json, misspelt[1]);
      inside[misspelt[2]] = inside[key];
      delete inside[key];
      return [`${key} is ${misspelt[2]}`];
    }
    const range = /^ {2}(\S+): expected a number between 0 and 1, found (\S+)$/.exec(line);
    if (range !== null) {
      const [inside, key] = parent(json, range[1]);
      inside[key] = Number(range[2]) / 100;
      return [`${key} is a share`];
    }
    return [];
  });

Deno.test("a spec written from the page with two mistakes becomes one that runs", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const spec: Json = {
      extends: "mamba",
      name: "first-steps",
      clip: { frames: 40 },
      encoder: { dim: 16, depth: 1, state: 4 },
      masking: { kind: "time", ratio: 0.6 },
      optimiser: { baseLearningRate: 0.03, clipNorm: 1 },
      schedule: { warmupSteps: 1, steps: 4 },
      batch: 4,
      data: { clips: 8, seconds: 1 },
      evaluation: { kind: "none" },
    };
    // All of it stands on the page.
    for (const field of fieldsOf(spec).filter((field) => field !== "extends")) {
      assert(page.includes(`\`${field}\``), `docs/specs.md does not tell of ${field}`);
    }
    for (const said of ["`extends`", "deno task experiment my.json", "--print"]) {
      assert(page.includes(said), `docs/specs.md does not tell of ${said}`);
    }
    // A slip of the keyboard, and per cent where a share is wanted.
    spec.shedule = spec.schedule;
    delete spec.schedule;
    (spec.masking as Json).ratio = 60;

    const write = () => Deno.writeTextFile(`${folder}/my.json`, JSON.stringify(spec, null, 2));
    const done: string[] = [];
    for (let attempt = 1;; attempt++) {
      await write();
      const { code, out, err } = await experiment(folder, "my.json", "--device", "wasm");
      if (code === 0) {
        assertMatch(out, /report: runs\/first-steps\/report\.html/);
        break;
      }
      assertStrictEquals(code, 1);
      assertMatch(err, /^my\.json has [12] mistakes?:\n/);
      assertNotMatch(err, /^\s+at /m);
      const now = mended(spec, err);
      assert(now.length > 0 && attempt < 3, `nothing to do about: ${err}`);
      done.push(...now);
    }
    assertEquals(done, ["ratio is a share", "shedule is schedule"]);
    const { code, out } = await experiment(folder, "my.json", "--print");
    assertStrictEquals(code, 0);
    const whole = JSON.parse(out);
    assertEquals([whole.masking.ratio, whole.schedule.steps, whole.precision], [0.6, 4, "f32"]);
    assertStrictEquals(whole.optimiser.peakLearningRate, undefined);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("--list, --schema and --help tell what there is", async () => {
  const list = await experiment(".", "--list");
  assertStrictEquals(list.code, 0);
  assertMatch(
    list.out,
    /^mamba +Mamba, 3 blocks of 64 channels, SSAST style, 600 steps of 8 clips$/m,
  );
  assertMatch(list.out, /^transformer-base +Transformer, 12 blocks of 768 channels/m);
  const schema = await experiment(".", "--schema");
  assertStrictEquals(schema.code, 0);
  assertStrictEquals(JSON.parse(schema.out).title, "An experiment of Formant");
  const help = await experiment(".", "--help");
  assertStrictEquals(help.code, 0);
  for (const option of ["--data", "--set", "--device", "--out", "--resume", "--print", "--list"]) {
    assert(help.out.includes(`${option} `), option);
  }
});
