// Trains many probes on a device, several at a time: each has a position along the trial axis, and when
// one stops early the next takes its position. Embeddings, weights and moments stay on the device; a step
// only sends the indices of its rows. A probe's result does not depend on the other positions.
import { setImmediate } from "node:timers/promises";
import type { Backend, Machine, Program, Values } from "../../../backends/backend.ts";
import { volume } from "../../../dsl/axes.ts";
import { withFreshTable } from "../../../dsl/node.ts";
import { parameters } from "../../../dsl/parameters.ts";
import { probePredictions, type ProbeSizes, probeStart, probeStep } from "../../../models/probe.ts";
import { pythonShuffles } from "./shuffle.ts";

/** When training stops, and batches. */
export interface Training {
  /** Clips per batch; the last batch of an epoch may be smaller. */
  readonly batch: number;
  /** Maximum number of epochs. */
  readonly epochs: number;
  /** Epochs between validations. */
  readonly every: number;
  /** Validations without improvement after which training stops. */
  readonly patience: number;
  /** Whether each epoch has its own order of clips. */
  readonly shuffled: boolean;
}

/** One probe to be trained. Clips are indices into the embeddings. */
export interface Trial {
  /** Two u32 that its random numbers derive from. */
  readonly seed: number;
  readonly stream: number;
  readonly rate: number;
  readonly dropout: number;
  readonly train: Uint32Array;
  readonly valid: Uint32Array;
  readonly test: Uint32Array;
}

/** A trial's result at its best validation, the first if tied. */
export interface Trained {
  /** NaN if no prediction was a number. */
  readonly validation: number;
  readonly epoch: number;
  /** Epochs trained. */
  readonly epochs: number;
  /** Probabilities of the test clips, `[clip, class]`. */
  readonly test: Float32Array;
}

/** Data and options shared by all trials. */
export interface Shared {
  readonly sizes: Omit<ProbeSizes, "trials">;
  /** `[clip, feature]` */
  readonly embeddings: Float32Array;
  /** 1 where a clip has a class, `[clip, class]`. */
  readonly targets: Float32Array;
  readonly training: Training;
  /** Maximum number of training clips and of validation clips of a trial. */
  readonly most: { readonly train: number; readonly valid: number };
  /** Trials trained in parallel; the same number uses the same programs. */
  readonly places: number;
  /** The score of some clips' probabilities; higher is better. */
  readonly score: (clips: Uint32Array, probabilities: Float32Array) => number;
  /** The maximum of the score: training stops when it is reached. */
  readonly highest: number;
}

/** Machines that train probes, opened on first use of their sizes and reused. */
export interface Trainers {
  readonly backend: Backend;
  readonly open: (sizes: ProbeSizes, rows: Rows) => Promise<Machine>;
  readonly close: () => void;
}

/** Rows of a training step, and of a prediction. */
interface Rows {
  readonly train: number;
  readonly predict: number;
}

/** Trainers on a device; the caller closes them. */
export const trainersOn = (backend: Backend): Trainers => {
  const opened = new Map<string, Machine>();
  return {
    backend,
    open: async (sizes, rows) => {
      const key = JSON.stringify([sizes, rows]);
      const machine = opened.get(key) ?? await openMachine(backend, sizes, rows);
      opened.set(key, machine);
      return machine;
    },
    close: () => {
      opened.forEach((machine) => machine.close());
      opened.clear();
    },
  };
};

/** Progress of training. */
export interface TrialProgress {
  readonly ended: number;
  readonly trials: number;
  /** Epochs of all trials so far. */
  readonly epochs: number;
}

/** A trial at its position. */
interface Running {
  readonly index: number;
  readonly of: Trial;
  fresh: boolean;
  epoch: number;
  step: number;
  waited: number;
  best: Trained;
}

/** Maximum number of clips predicted at once. */
const mostPredicted = 1024;

/**
 * How many probes are trained in parallel: enough to keep a device busy, and no more, since positions that
 * are empty at the end cost as much as occupied ones. A GPU needs many; a CPU is busy with the products
 * of one probe unless it is tiny (bench/probe.ts).
 */
export const placesFor = (backend: Backend, { hidden }: Pick<ProbeSizes, "hidden">, rows: number) =>
  backend.name === "webgpu" ? 20 : Math.max(1, Math.min(20, Math.floor(2 ** 15 / (hidden * rows))));

/**
 * Trains all trials, several in parallel. Undefined if `interrupted` returns true between two
 * validations.
 */
export const runTrials = async (
  trainers: Trainers,
  { sizes: shape, embeddings, targets, training, most, places, score, highest }: Shared,
  trials: readonly Trial[],
  { onProgress, interrupted }: {
    readonly onProgress: (at: TrialProgress) => void;
    readonly interrupted: () => boolean;
  },
): Promise<readonly Trained[] | undefined> => {
  if (trials.length === 0) return [];
  const rows = {
    train: Math.min(most.train, training.batch),
    predict: Math.min(most.valid, mostPredicted),
  };
  const sizes = { ...shape, trials: places };
  const machine = await trainers.open(sizes, rows);
  machine.write({ embeddings, targets });
  const waiting = trials.map((of, index) => ({ of, index }));
  const found: Trained[] = [];
  const running: (Running | undefined)[] = Array.from({ length: places });
  let ended = 0, epochs = 0;
  for (;;) {
    for (let place = 0; place < places; place++) {
      const next = running[place] === undefined ? waiting.shift() : undefined;
      if (next !== undefined) {
        running[place] = { ...next, ...beginning(next.of.test.length * sizes.classes) };
      }
    }
    const alive = running.filter((one) => one !== undefined);
    if (alive.length === 0) return found;
    if (alive.some(({ fresh }) => fresh)) {
      await machine.run("start", {
        fresh: floats(running, ({ fresh }) => +fresh),
        ...keys(running),
      });
      alive.forEach((one) => one.fresh = false);
    }
    await trainOn(machine, running, rows.train, training);
    epochs += training.every * alive.length;

    const validations = await predict(
      machine,
      running,
      ({ valid }) => valid,
      sizes,
      rows.predict,
    );
    const better = running.map((one, place) => {
      if (one === undefined) return undefined;
      const validation = score(one.of.valid, validations[place]);
      one.epoch += training.every;
      const isBetter = validation > one.best.validation ||
        (Number.isNaN(one.best.validation) && !Number.isNaN(validation));
      const isOver = Number.isNaN(validation) || validation >= highest;
      one.waited = isOver ? training.patience : isBetter ? 0 : one.waited + 1;
      if (isBetter) one.best = { ...one.best, validation, epoch: one.epoch };
      return isBetter ? one : undefined;
    });
    if (better.some((one) => one !== undefined)) {
      const tests = await predict(machine, better, ({ test }) => test, sizes, rows.predict);
      better.forEach((one, place) => {
        if (one !== undefined) one.best = { ...one.best, test: tests[place] };
      });
    }
    running.forEach((one, place) => {
      if (one === undefined) return;
      const { index, epoch, waited, best } = one;
      if (waited < training.patience && epoch + training.every <= training.epochs) return;
      found[index] = { ...best, epochs: epoch };
      running[place] = undefined;
      ended++;
    });
    onProgress({ ended, trials: trials.length, epochs });
    // Signals are only handled between tasks of the event loop.
    await setImmediate();
    if (interrupted()) return undefined;
  }
};

const beginning = (tests: number): Omit<Running, "index" | "of"> => ({
  fresh: true,
  epoch: 0,
  step: 0,
  waited: 0,
  best: { validation: NaN, epoch: 0, epochs: 0, test: new Float32Array(tests).fill(NaN) },
});

const openMachine = async (
  backend: Backend,
  sizes: ProbeSizes,
  rows: Rows,
): Promise<Machine> => {
  const { changed, programs } = withFreshTable(() => {
    const { updates } = probeStep(sizes, rows.train);
    const changed = parameters(Object.values(updates)).filter(({ name }) => name in updates);
    const probabilities = probePredictions(sizes, rows.predict);
    const programs: Readonly<Record<string, Program>> = {
      start: { outputs: {}, updates: probeStart(sizes, changed) },
      train: { outputs: {}, updates },
      predict: {
        outputs: { probabilities: { of: probabilities, order: ["trial", "row", "channel"] } },
      },
    };
    return { changed, programs };
  });
  const machine = await backend.open(programs);
  // `start` reads the old values; any finite ones will do.
  for (const { name, axes } of changed) machine.write({ [name]: new Float32Array(volume(axes)) });
  return machine;
};

type Places = readonly (Running | undefined)[];

const floats = (places: Places, of: (one: Running) => number): Float32Array =>
  Float32Array.from(places, (one) => one === undefined ? 0 : of(one));

const words = (places: Places, of: (one: Running) => number): Uint32Array =>
  Uint32Array.from(places, (one) => one === undefined ? 0 : of(one));

const keys = (places: Places): Values => ({
  seed: words(places, ({ of }) => of.seed),
  stream: words(places, ({ of }) => of.stream),
});

/** The epochs up to the next validation. Trials with fewer batches than others skip steps. */
const trainOn = async (
  machine: Machine,
  places: Places,
  rows: number,
  { batch, every, shuffled }: Training,
): Promise<void> => {
  const batches = places.map((one): readonly Uint32Array[] => {
    if (one === undefined) return [];
    const { of: { train, seed, stream }, epoch } = one;
    return Array.from({ length: every }, (_, k) => {
      if (!shuffled) return train;
      // Any hash of the three will do that does not repeat within a run.
      const [order] = pythonShuffles((seed * 8191 + stream) * 8191 + epoch + k >>> 0, [
        train.length,
      ]);
      return order.map((at) => train[at]);
    }).flatMap((order) =>
      Array.from(
        { length: Math.ceil(order.length / batch) },
        (_, k) => order.subarray(k * batch, (k + 1) * batch),
      )
    );
  });
  const steady = {
    rate: floats(places, ({ of }) => of.rate),
    dropout: floats(places, ({ of }) => of.dropout),
    ...keys(places),
  };
  const steps = Math.max(...batches.map(({ length }) => length));
  for (let k = 0; k < steps; k++) {
    const positions = new Uint32Array(places.length * rows);
    const present = new Float32Array(places.length * rows);
    batches.forEach((of, place) => {
      if (k >= of.length) return;
      positions.set(of[k], place * rows);
      present.fill(1, place * rows, place * rows + of[k].length);
    });
    const step = words(places, (one) => one.step);
    await machine.run("train", { rows: positions, present, step, ...steady });
    places.forEach((one, place) => {
      if (one !== undefined && k < batches[place].length) one.step++;
    });
  }
};

/** Probabilities of some clips of each trial. */
const predict = async (
  machine: Machine,
  places: Places,
  clipsOf: (trial: Trial) => Uint32Array,
  { classes }: ProbeSizes,
  rows: number,
): Promise<readonly Float32Array[]> => {
  const clips = places.map((one) => one === undefined ? new Uint32Array() : clipsOf(one.of));
  const found = clips.map(({ length }) => new Float32Array(length * classes));
  const longest = Math.max(...clips.map(({ length }) => length));
  for (let first = 0; first < longest; first += rows) {
    const positions = new Uint32Array(places.length * rows);
    clips.forEach((of, place) => positions.set(of.subarray(first, first + rows), place * rows));
    const { probabilities } = await machine.run("predict", { rows: positions });
    found.forEach((into, place) => {
      const count = Math.min(rows, clips[place].length - first);
      if (count <= 0) return;
      const from = place * rows * classes;
      into.set(probabilities.subarray(from, from + count * classes), first * classes);
    });
  }
  return found;
};
