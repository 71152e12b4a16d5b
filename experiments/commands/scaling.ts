// `deno task scaling`: time per token and peak memory of every family by clip length, forward and in
// training, as a table and a page. Time per token should be constant for recurrences; memory should grow
// linearly for all families, also where attention's time grows quadratically.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import type { FamilyName } from "../../models/sizes.ts";
import { openBackend } from "../machines/device.ts";
import { commandOf, flag, noWords, type Option, text, whole } from "./command.ts";
import { deviceWithout, jsonTable } from "./options.ts";
import { ensureFolder, type FileError, fileErrorText, writeWhole } from "../io/files.ts";
import {
  measured,
  type Pass,
  passProgram,
  planned,
  type Point,
  tinyEncoder,
  TOKENS_PER_STEP,
} from "../inspect/scaling.ts";
import {
  pointText,
  type Scaling,
  scalingJson,
  scalingPage,
  tableText,
} from "../inspect/scaling_page.ts";

/** Options of the command line. */
export interface Asked {
  readonly families: readonly FamilyName[];
  /** Clip lengths in patches, ascending. */
  readonly tokens: readonly number[];
  /** Number of blocks of the encoders. */
  readonly depth: number;
  /** Only plan the programs; no device is opened. */
  readonly plan: boolean;
  readonly device: string;
  readonly out: string;
  /** Print JSON instead of the table. */
  readonly json: boolean;
}

const FAMILIES: readonly FamilyName[] = ["transformer", "mamba", "xlstm"];
const PASSES: readonly Pass[] = ["forward", "training"];
const LENGTHS = "250,500,1000,2000,4000,8000";
const MOST_TOKENS = 100_000;
const MOST_BLOCKS = 100;

/** Items of a comma-separated list, without duplicates. */
const parts = (list: string): readonly string[] => [
  ...new Set(list.split(",").map((part) => part.trim())),
];

const tokens: Option<readonly number[]> = {
  takes: "text",
  value: "A,B,...",
  help: `lengths in patches (default ${LENGTHS})`,
  read: (name, [given = LENGTHS]) => {
    const lengths = parts(given);
    const odd = lengths.find((text) =>
      !/^\d{1,9}$/.test(text) || Number(text) < TOKENS_PER_STEP || Number(text) > MOST_TOKENS ||
      Number(text) % TOKENS_PER_STEP !== 0
    );
    return odd === undefined ? E.right(lengths.map(Number).sort((a, b) => a - b)) : E.left(
      `--${name}: expected multiples of ${TOKENS_PER_STEP} up to ${MOST_TOKENS}, because that many ` +
        `patches begin at the same time, found '${odd}'`,
    );
  },
};

const families: Option<readonly FamilyName[]> = {
  takes: "text",
  value: "A,B,...",
  help: `${FAMILIES.join(", ")} (default all); xlstm's mLSTM cell is the chunkwise form`,
  suggests: { values: FAMILIES },
  read: (name, [given = FAMILIES.join()]) => {
    const names = parts(given);
    const unknown = names.find((family) => !FAMILIES.some((known) => known === family));
    return unknown === undefined
      ? E.right(FAMILIES.filter((family) => names.includes(family)))
      : E.left(`--${name}: there is no family '${unknown}'; there are ${FAMILIES.join(", ")}`);
  },
};

const withKernels = deviceWithout("reference");

/** Writes the results so far, so that an interruption loses at most one point. */
const save = async (of: Scaling, out: string): Promise<E.Either<FileError, void>> => {
  const written = await writeWhole(`${out}/scaling.json`, scalingJson(of))();
  return E.isLeft(written) ? written : await writeWhole(`${out}/scaling.html`, scalingPage(of))();
};

/**
 * Measures all points, reporting each on standard error, and prints the table or JSON. A point that the
 * device is too small for is a sentence in the table. Gives the exit status: 1 if a file could not be
 * written, no device could be opened, or a run failed.
 */
export const scaling = async (
  { families, tokens, depth, plan, device: name, out, json }: Asked,
): Promise<number> => {
  const failed = (why: string): number => {
    console.error(why);
    return 1;
  };
  const folder = await ensureFolder(out)();
  if (E.isLeft(folder)) return failed(fileErrorText(folder.left));
  const open = async (): Promise<E.Either<string, Backend | undefined>> => {
    if (plan) return E.right(undefined);
    const chosen = await openBackend(name);
    if (E.isLeft(chosen)) return chosen;
    chosen.right.notes.forEach((note) => console.error(note));
    return E.right(chosen.right.backend);
  };
  const first = await open();
  if (E.isLeft(first)) return failed(first.left);
  let backend = first.right, sound = true;
  const device = backend?.device;
  if (device !== undefined) console.error(`device: ${device}`);

  const points: Point[] = [];
  const all = families.flatMap((family) =>
    PASSES.flatMap((pass) => tokens.map((count) => ({ family, pass, tokens: count })))
  );
  for (const at of all) {
    const program = passProgram(tinyEncoder(at.family, depth), at.pass, at.tokens);
    const found = backend === undefined ? planned(program) : await measured(backend, program);
    points.push({ ...at, found });
    console.error(pointText(points[points.length - 1]));
    const saved = await save({ device, depth, points }, out);
    if (E.isLeft(saved)) return failed(fileErrorText(saved.left));
    if (E.isRight(found) || found.left._tag === "Refused") continue;
    // The failure may have lost the device: the next point gets a new one.
    sound = false;
    try {
      backend?.close();
    } catch {
      // The error was reported already.
    }
    const next = await open();
    if (E.isLeft(next)) return failed(next.left);
    backend = next.right;
  }
  backend?.close();
  const result = { device, depth, points };
  console.log(json ? scalingJson(result) : tableText(result));
  console.error(`${out}/scaling.html`);
  return sound ? 0 : 1;
};

export const command = commandOf({
  summary: "measures time and memory per token, 250 to 8,000 tokens, as a table and plots",
  notes: `\
Measures time per token and peak memory of tiny encoders over the length of one clip, forward and in
training: one table, and scaling.html (two plots) and scaling.json in the folder of --out.`,
  words: noWords,
  options: {
    tokens,
    families,
    depth: whole("N", "blocks", { from: 1, to: MOST_BLOCKS, otherwise: 2 }),
    plan: flag("only memory and kernels, which are known without running; no device is needed"),
    device: {
      ...withKernels,
      read: (name, given) =>
        given[0] === "reference"
          ? E.left(`--${name}: the reference interpreter has no kernels; choose another device`)
          : withKernels.read(name, given),
    } satisfies typeof withKernels,
    out: text("DIR", "where to write (default runs/scaling)", { paths: "folders" }),
    json: jsonTable,
  },
  run: async ({ options: { device = "auto", out = "runs/scaling", ...options } }) =>
    E.right(await scaling({ ...options, device, out })),
});
