// A pre-training experiment is data: one JSON document, decoded here. Every field is required, so
// that the document says all that happens; a wrong one is reported by its path, with what was
// expected and what was found, and all mistakes are reported at once.
import type * as t from "io-ts";
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { pipe } from "fp-ts/function.js";
import {
  above0,
  between0and1,
  type FieldError,
  fieldError,
  fieldErrorText,
  fields,
  from0,
  from0below1,
  multipleOf,
  numberThat,
  oneOf,
  textThat,
  wholeFrom,
} from "./codec.ts";
import { type JsonError, parseJson } from "./json.ts";

export type { FieldError, JsonError };

/** One pre-training experiment: masked log-mel spectrograms, an encoder that fills them in. */
export interface Spec {
  /** The version of this format: 1. */
  readonly version: 1;
  /** The run is written to `runs/<name>`. Letters, digits, `-`, `_` and `.`. */
  readonly name: string;
  /** Everything random follows from it: synthetic data, initial values, crops, masks. */
  readonly seed: number;
  /** Audio to log-mel spectrogram. */
  readonly frontEnd: FrontEndSpec;
  /** What the model sees of a recording. */
  readonly clip: {
    /** Frames of a training crop; the model's input is frames × mels. */
    readonly frames: number;
  };
  /** Size of a patch, one token of the sequence: frames × mel bands. */
  readonly patch: {
    /** Frames; divides `clip.frames`. */
    readonly time: number;
    /** Mel bands; divides `frontEnd.mels`. */
    readonly frequency: number;
  };
  /** The model. */
  readonly encoder: MambaSpec;
  /** What is hidden from the encoder. */
  readonly masking: {
    /** Patches are drawn uniformly, per clip. */
    readonly kind: "random";
    /** Share of the patches that is hidden, between 0 and 1. */
    readonly ratio: number;
  };
  /** What is minimised. */
  readonly objective: {
    /** Mean squared error over all patches (as published), or over the masked ones only. */
    readonly loss: "all" | "masked";
  };
  /** AdamW. Biases, norms and other parameters with fewer than two axes are not decayed. */
  readonly optimiser: OptimiserSpec;
  /** Learning rate over the steps: a line from 0 up to the peak, then half a cosine down to 0. */
  readonly schedule: {
    /** Steps of the rise. */
    readonly warmupSteps: number;
    /** Steps of the whole run. */
    readonly steps: number;
  };
  /** Clips in one step. */
  readonly batch: number;
  /** Where clips come from. A folder of recordings is given on the command line, not here. */
  readonly data: DataSpec;
  /** A line of metrics is written every so many steps. */
  readonly logEvery: number;
  /** The held-out clips are scored every so many steps, and before the first and after the last. */
  readonly evaluateEvery: number;
  /** A checkpoint is written every so many steps, and after the last. */
  readonly checkpointEvery: number;
  /** The page that shows the run. */
  readonly report: {
    /** Held-out clips whose spectrograms are shown. */
    readonly examples: number;
  };
}

/** Short-time Fourier transform, mel filters, natural logarithm. */
export interface FrontEndSpec {
  /** Samples per second; recordings of another rate are resampled. */
  readonly sampleRate: number;
  /** Samples of the Fourier transform. */
  readonly fft: number;
  /** Samples of the window, at most `fft`. */
  readonly window: number;
  /** Samples from one frame to the next. */
  readonly hop: number;
  /** Mel bands (HTK scale). */
  readonly mels: number;
  /** Lower edge of the lowest band, in Hz. */
  readonly fMin: number;
  /** Upper edge of the highest band, in Hz; at most half the sample rate. */
  readonly fMax: number;
}

/** A stack of selective state space (Mamba) blocks. */
export interface MambaSpec {
  /** Which encoder this is. */
  readonly family: "mamba";
  /** Channels of a token. A multiple of 4, for the sine-cosine position code. */
  readonly dim: number;
  /** Blocks. */
  readonly depth: number;
  /** Size of the state that the recurrence carries for each channel. */
  readonly state: number;
  /** Taps of the causal convolution along time. */
  readonly conv: number;
  /** Inner channels are `expand` × `dim`. */
  readonly expand: number;
}

/** AdamW's numbers. */
export interface OptimiserSpec {
  /** Highest learning rate of the schedule. Published: 0.00015 × batch / 256. */
  readonly peakLearningRate: number;
  /** Decay of the mean of gradients, in [0, 1). */
  readonly beta1: number;
  /** Decay of the mean of squared gradients, in [0, 1). */
  readonly beta2: number;
  /** Added to the root of the mean of squares. */
  readonly epsilon: number;
  /** Decoupled weight decay, times the learning rate at each step. */
  readonly weightDecay: number;
}

/** Training and held-out clips. */
export interface DataSpec {
  /** The corpus that is synthesised when no folder of recordings is given. */
  readonly synthetic: {
    /** Recordings to make. */
    readonly clips: number;
    /** Length of each in seconds. */
    readonly seconds: number;
  };
  /** Share of the recordings that is never trained on, between 0 and 1. */
  readonly heldOutFraction: number;
}

/** One mistake in a spec: in one field, or fields that contradict each other. */
export type SpecError =
  | FieldError
  | { readonly _tag: "Contradiction"; readonly path: string; readonly problem: string };

/** Why a spec could not be read. */
export type SpecReadError =
  | { readonly _tag: "NoSuchSpec"; readonly asked: string; readonly known: readonly string[] }
  | { readonly _tag: "SpecUnreadable"; readonly path: string; readonly reason: string }
  | { readonly _tag: "SpecNotJson"; readonly path: string; readonly at: JsonError }
  | {
    readonly _tag: "SpecInvalid";
    readonly path: string;
    readonly errors: readonly SpecError[];
  };

const specCodec: t.Type<Spec> = fields<Spec>({
  version: numberThat("1", (n) => n === 1) as t.Type<1>,
  name: textThat(
    "a name of letters, digits, '-', '_' and '.' that starts with a letter or digit",
    /^[A-Za-z0-9][\w.-]*$/,
  ),
  seed: wholeFrom(0),
  frontEnd: fields<FrontEndSpec>({
    sampleRate: wholeFrom(1),
    fft: wholeFrom(2),
    window: wholeFrom(1),
    hop: wholeFrom(1),
    mels: wholeFrom(1),
    fMin: from0,
    fMax: above0,
  }),
  clip: fields<Spec["clip"]>({ frames: wholeFrom(1) }),
  patch: fields<Spec["patch"]>({ time: wholeFrom(1), frequency: wholeFrom(1) }),
  encoder: fields<MambaSpec>({
    family: oneOf("mamba"),
    dim: multipleOf(4),
    depth: wholeFrom(1),
    state: wholeFrom(1),
    conv: wholeFrom(1),
    expand: wholeFrom(1),
  }),
  masking: fields<Spec["masking"]>({ kind: oneOf("random"), ratio: between0and1 }),
  objective: fields<Spec["objective"]>({ loss: oneOf("all", "masked") }),
  optimiser: fields<OptimiserSpec>({
    peakLearningRate: above0,
    beta1: from0below1,
    beta2: from0below1,
    epsilon: above0,
    weightDecay: from0,
  }),
  schedule: fields<Spec["schedule"]>({ warmupSteps: wholeFrom(0), steps: wholeFrom(1) }),
  batch: wholeFrom(1),
  data: fields<DataSpec>({
    synthetic: fields<DataSpec["synthetic"]>({ clips: wholeFrom(2), seconds: above0 }),
    heldOutFraction: between0and1,
  }),
  logEvery: wholeFrom(1),
  evaluateEvery: wholeFrom(1),
  checkpointEvery: wholeFrom(1),
  report: fields<Spec["report"]>({ examples: wholeFrom(0) }),
});

// ---------------------------------------------------------------- rules across fields

interface Rule {
  /** The field that is blamed. */
  readonly path: string;
  /** All fields that the rule reads: it is asked only when these are right in themselves. */
  readonly reads: readonly string[];
  /** What is wrong, if something is. */
  readonly problem: (spec: Spec) => string | undefined;
}

const rules: readonly Rule[] = [
  {
    path: "frontEnd.window",
    reads: ["frontEnd.window", "frontEnd.fft"],
    problem: ({ frontEnd: f }) =>
      f.window > f.fft ? `${f.window} is more than frontEnd.fft, ${f.fft}` : undefined,
  },
  {
    path: "frontEnd.fMin",
    reads: ["frontEnd.fMin", "frontEnd.fMax"],
    problem: ({ frontEnd: f }) =>
      f.fMin >= f.fMax ? `${f.fMin} is not below frontEnd.fMax, ${f.fMax}` : undefined,
  },
  {
    path: "frontEnd.fMax",
    reads: ["frontEnd.fMax", "frontEnd.sampleRate"],
    problem: ({ frontEnd: f }) =>
      f.fMax > f.sampleRate / 2
        ? `${f.fMax} is more than half of frontEnd.sampleRate, ${f.sampleRate / 2}`
        : undefined,
  },
  {
    path: "clip.frames",
    reads: ["clip.frames", "patch.time"],
    problem: ({ clip, patch }) =>
      clip.frames % patch.time !== 0
        ? `${clip.frames} is not divisible by patch.time, ${patch.time}`
        : undefined,
  },
  {
    path: "frontEnd.mels",
    reads: ["frontEnd.mels", "patch.frequency"],
    problem: ({ frontEnd: f, patch }) =>
      f.mels % patch.frequency !== 0
        ? `${f.mels} is not divisible by patch.frequency, ${patch.frequency}`
        : undefined,
  },
  {
    path: "masking.ratio",
    reads: [
      "masking.ratio",
      "clip.frames",
      "patch.time",
      "frontEnd.mels",
      "patch.frequency",
    ],
    problem: (spec) => {
      const { patches, visible } = patchGrid(spec);
      if (visible > 0 && visible < patches) return undefined;
      return `${spec.masking.ratio} of ${patches} patches leaves ${visible} visible; ` +
        "at least one must be visible and one masked";
    },
  },
  {
    path: "schedule.warmupSteps",
    reads: ["schedule.warmupSteps", "schedule.steps"],
    problem: ({ schedule: s }) =>
      s.warmupSteps > s.steps
        ? `${s.warmupSteps} is more than schedule.steps, ${s.steps}`
        : undefined,
  },
  {
    path: "data.synthetic.seconds",
    reads: ["data.synthetic.seconds", "frontEnd.fft", "frontEnd.sampleRate"],
    // The transform reflects half a window at both ends, which needs as many samples.
    problem: ({ data, frontEnd: f }) =>
      data.synthetic.seconds * f.sampleRate <= f.fft / 2
        ? `${data.synthetic.seconds} s is not longer than half of frontEnd.fft, ` +
          `${f.fft / 2 / f.sampleRate} s`
        : undefined,
  },
];

// ---------------------------------------------------------------- decoding

/**
 * The experiment that a JSON value describes, or everything that is wrong with it.
 *
 * A value such as `{ ..., "encoder": { "depth": "twelve", ... } }` is answered by an error whose
 * `specErrorText` is `encoder.depth: expected a whole number of at least 1, found "twelve"`.
 */
export function decodeSpec(json: unknown): E.Either<readonly SpecError[], Spec> {
  const read = specCodec.decode(json);
  const wrong = E.isLeft(read) ? read.left.map(fieldError) : [];
  const sound = (path: string): boolean =>
    !wrong.some((error) =>
      error._tag !== "UnknownField"
        ? error.path === "" || error.path === path || path.startsWith(`${error.path}.`)
        // A misspelt field stands for the one it is taken for, and that one is missing.
        : beside(error.path, error.nearest) === path ||
          path.startsWith(`${beside(error.path, error.nearest)}.`)
    );
  const contradictions = rules
    .filter((rule) => rule.reads.every(sound))
    .flatMap((rule): SpecError[] => {
      const problem = rule.problem(json as Spec);
      return problem === undefined ? [] : [{ _tag: "Contradiction", path: rule.path, problem }];
    });
  const errors = [...wrong, ...contradictions];
  return errors.length > 0 ? E.left(errors) : read as E.Either<never, Spec>;
}

const beside = (path: string, name: string | undefined): string =>
  [...path.split(".").slice(0, -1), name ?? ""].join(".");

/** One mistake as one line: `masking.ratio: expected a number between 0 and 1, found 1.5`. */
export function specErrorText(error: SpecError): string {
  return error._tag === "Contradiction" ? `${error.path}: ${error.problem}` : fieldErrorText(error);
}

// ---------------------------------------------------------------- what follows from a spec

/** The patches of one clip. */
export interface PatchGrid {
  /** Patches along time; the outer direction of the token sequence. */
  readonly time: number;
  /** Patches along frequency. */
  readonly frequency: number;
  /** time × frequency. */
  readonly patches: number;
  /** Patches that the encoder sees; the others are masked. */
  readonly visible: number;
}

/** How a clip is cut into patches, and how many of them stay visible. */
export function patchGrid(
  spec: Pick<Spec, "clip" | "patch" | "frontEnd" | "masking">,
): PatchGrid {
  const time = spec.clip.frames / spec.patch.time;
  const frequency = spec.frontEnd.mels / spec.patch.frequency;
  const patches = time * frequency;
  // 1 - 0.8 is a hair below 0.2: without the margin 200 visible patches of 1000 would be 199.
  const visible = Math.floor(patches * (1 - spec.masking.ratio) + 1e-9);
  return { time, frequency, patches, visible };
}

/** Rank of the projection that makes Mamba's step sizes: a sixteenth of the channels, rounded up. */
export function deltaRank(encoder: Pick<MambaSpec, "dim">): number {
  return Math.ceil(encoder.dim / 16);
}

// ---------------------------------------------------------------- reading

const folder = new URL("specs/", import.meta.url);

// A published package is read over the network, where a folder can not be listed.
const published: readonly string[] = ["mamba", "mamba-base", "mamba-small", "mamba-tiny"];

/** The names that `readSpec` knows: those of the files in `experiments/specs`, in order. */
export function specNames(): readonly string[] {
  if (folder.protocol !== "file:") return published;
  return [...Deno.readDirSync(folder)].map((entry) => entry.name)
    .filter((name) => name.endsWith(".json"))
    .map((name) => name.slice(0, -".json".length))
    .sort();
}

/**
 * Reads a spec: by name, one of `specNames()`, or from a file, when the argument has a slash or
 * ends in `.json`. Nothing is read before the returned task is started.
 */
export function readSpec(nameOrPath: string): TaskEither<SpecReadError, Spec> {
  const isPath = /[/\\]|\.json$/.test(nameOrPath);
  return async () => {
    if (!isPath && !specNames().includes(nameOrPath)) {
      return E.left({ _tag: "NoSuchSpec", asked: nameOrPath, known: specNames() });
    }
    const path = isPath ? nameOrPath : new URL(`${nameOrPath}.json`, folder);
    const shownPath = isPath ? nameOrPath : `experiments/specs/${nameOrPath}.json`;
    try {
      return specFrom(shownPath, await readText(path));
    } catch (error) {
      if (isPath && error instanceof Deno.errors.NotFound) {
        return E.left({ _tag: "NoSuchSpec", asked: nameOrPath, known: specNames() });
      }
      return E.left({ _tag: "SpecUnreadable", path: shownPath, reason: reason(error) });
    }
  };
}

async function readText(place: string | URL): Promise<string> {
  if (typeof place === "string" || place.protocol === "file:") {
    return await Deno.readTextFile(place);
  }
  const answer = await fetch(place);
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return await answer.text();
}

const reason = (error: unknown): string =>
  error instanceof Deno.errors.PermissionDenied
    ? "permission denied"
    : error instanceof Deno.errors.IsADirectory
    ? "it is a folder"
    : error instanceof Error
    ? error.message
    : String(error);

/** The spec in a JSON text; `path` is only what errors call the text. */
export function specFrom(path: string, text: string): E.Either<SpecReadError, Spec> {
  return pipe(
    parseJson(text),
    E.mapLeft((at): SpecReadError => ({ _tag: "SpecNotJson", path, at })),
    E.chain((json) =>
      pipe(
        decodeSpec(json),
        E.mapLeft((errors): SpecReadError => ({ _tag: "SpecInvalid", path, errors })),
      )
    ),
  );
}

/** Why a spec could not be read, in words; one line, or for an invalid spec one for each mistake. */
export function specReadErrorText(error: SpecReadError): string {
  switch (error._tag) {
    case "NoSuchSpec":
      return `there is no experiment '${error.asked}': give the path of a .json file or one of ` +
        error.known.join(", ");
    case "SpecUnreadable":
      return `${error.path} could not be read: ${error.reason}`;
    case "SpecNotJson":
      return `${error.path} is not JSON: line ${error.at.line}, column ${error.at.column}: ` +
        error.at.problem;
    case "SpecInvalid": {
      const count = error.errors.length === 1 ? "1 mistake" : `${error.errors.length} mistakes`;
      return [`${error.path} has ${count}:`, ...error.errors.map((e) => `  ${specErrorText(e)}`)]
        .join("\n");
    }
  }
}
