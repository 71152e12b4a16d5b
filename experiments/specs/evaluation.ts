// The `evaluation` part of a spec: downstream tasks on which the trained encoder is scored.
import type * as t from "io-ts";
import {
  type Decoded,
  type Docs,
  fields,
  listOf,
  oneOf,
  optional,
  tagged,
  textThat,
  wholeFrom,
} from "../io/schema.ts";
import { fewestClips, syntheticTasks } from "../data/synth/tasks/suite.ts";

/** No scoring: for a spec that extends one with scoring. */
export interface NoEvaluation {
  readonly kind: "none";
}

/** The synthetic suite, or some of its tasks, written into the run's folder. */
export interface SyntheticEvaluation {
  readonly kind: "synthetic";
  readonly clips: number;
  readonly names?: readonly string[];
  readonly seeds: number;
}

/** Tasks in HEAR's layout. */
export interface HearEvaluation {
  readonly kind: "hear";
  readonly tasks: string;
  readonly names?: readonly string[];
  readonly seeds: number;
}

/** Downstream tasks on which the trained encoder is scored. */
export type EvaluationSpec = NoEvaluation | SyntheticEvaluation | HearEvaluation;

const kind = "Which tasks; the other fields depend on it.";
const seeds = "Seeds of the probe that is trained on each task. Published: 10.";

const synthetic: Docs<SyntheticEvaluation> = {
  kind,
  clips: "Clips of each task. They are made by a program, with no download, into " +
    "runs/NAME/evaluation/tasks; their scores say nothing of recordings.",
  names: "The tasks that are made. Without it all ten.",
  seeds,
};

const hear: Docs<HearEvaluation> = {
  kind,
  tasks: "A folder of tasks in HEAR's layout, as 'deno task data' makes or fetches them.",
  names: "The tasks that are scored, by their folders or short names. Without it all of them.",
  seeds,
};

const count = wholeFrom(1);

/** The field `evaluation` of a spec. */
export const evaluationSpec: t.Type<EvaluationSpec> = tagged("kind", {
  none: fields<NoEvaluation>({ kind: oneOf("none") }, { kind }),
  synthetic: fields<Decoded<SyntheticEvaluation>>({
    kind: oneOf("synthetic"),
    clips: wholeFrom(fewestClips),
    names: optional(
      listOf(oneOf(...syntheticTasks.map(({ name }) => name)), "a list of synthetic tasks"),
    ),
    seeds: count,
  }, synthetic),
  hear: fields<Decoded<HearEvaluation>>({
    kind: oneOf("hear"),
    tasks: textThat("a path", /[^]/),
    names: optional(listOf(textThat("the name of a task", /[^]/), "a list of names of tasks")),
    seeds: count,
  }, hear),
}) as t.Type<EvaluationSpec>;
