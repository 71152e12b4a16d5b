// `deno task scaling`: time per token and peak memory of every family over the length of a clip,
// forward and in training, as one table and one page. Time per token should be level for recurrences;
// memory should grow with the tokens for all, also where attention's time grows with their square.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import type { FamilyName } from "../../models/sizes.ts";
import { openBackend } from "../machines/device.ts";
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

/** What is asked of the command. */
export interface Asked {
  readonly families: readonly FamilyName[];
  /** Lengths of the clip in patches, ascending. */
  readonly tokens: readonly number[];
  /** Blocks of the encoders. */
  readonly depth: number;
  /** Only what is known without running: no device is opened. */
  readonly plan: boolean;
  readonly device: string;
  readonly out: string;
  /** JSON instead of the table. */
  readonly json: boolean;
}

const FAMILIES: readonly FamilyName[] = ["transformer", "mamba", "xlstm"];
const PASSES: readonly Pass[] = ["forward", "training"];
const LENGTHS = "250,500,1000,2000,4000,8000";
const MOST_TOKENS = 100_000;
const MOST_BLOCKS = 100;

const wholeIn = (text: string, low: number, high: number): boolean =>
  /^\d{1,9}$/.test(text) && Number(text) >= low && Number(text) <= high;

/** Options of the command line as what is asked for. On the left, what is wrong with them, in words. */
export const asked = (
  values: Readonly<Record<string, string | boolean | readonly string[] | undefined>>,
): E.Either<string, Asked> => {
  const list = (option: string, otherwise: string): readonly string[] => [
    ...new Set(`${values[option] ?? otherwise}`.split(",").map((text) => text.trim())),
  ];
  const families = list("families", FAMILIES.join()), tokens = list("tokens", LENGTHS);
  const depth = `${values.depth ?? 2}`, device = `${values.device ?? "auto"}`;
  const unknown = families.find((family) => !FAMILIES.some((known) => known === family));
  if (unknown !== undefined) {
    return E.left(`--families: there is no family '${unknown}'; there are ${FAMILIES.join(", ")}`);
  }
  const odd = tokens.find((text) =>
    !wholeIn(text, TOKENS_PER_STEP, MOST_TOKENS) || Number(text) % TOKENS_PER_STEP !== 0
  );
  if (odd !== undefined) {
    return E.left(
      `--tokens: expected multiples of ${TOKENS_PER_STEP} up to ${MOST_TOKENS}, because that many ` +
        `patches begin at the same time, found '${odd}'`,
    );
  }
  if (!wholeIn(depth, 1, MOST_BLOCKS)) {
    return E.left(`--depth: expected a whole number from 1 to ${MOST_BLOCKS}, found '${depth}'`);
  }
  if (device === "reference") {
    return E.left("--device: the reference interpreter has no kernels; choose another device");
  }
  return E.right({
    families: FAMILIES.filter((family) => families.includes(family)),
    tokens: tokens.map(Number).sort((a, b) => a - b),
    depth: Number(depth),
    plan: values.plan === true,
    device,
    out: `${values.out ?? "runs/scaling"}`,
    json: values.json === true,
  });
};

/** Writes what there is so far, so that an interruption loses one point. */
const save = async (of: Scaling, out: string): Promise<E.Either<FileError, void>> => {
  const written = await writeWhole(`${out}/scaling.json`, scalingJson(of))();
  return E.isLeft(written) ? written : await writeWhole(`${out}/scaling.html`, scalingPage(of))();
};

/**
 * Measures all points, telling each on standard error, and prints the table, or JSON. A point that a
 * device is too small for has a sentence in the table. Gives the exit status: 1 where a file could not
 * be written, no device could be opened, or a run broke down.
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
    // What broke down may have taken the device with it: the next point gets another.
    sound = false;
    try {
      backend?.close();
    } catch {
      // It has said what is wrong with it.
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
