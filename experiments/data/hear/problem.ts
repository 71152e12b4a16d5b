// Problems of a HEAR task, each with its file and one sentence.
import { type FieldError, fieldErrorText } from "../../io/schema.ts";
import { plain, quoted } from "../../../backends/runtime/text.ts";

/** A problem of a task. `file` is relative to the task's folder. */
export type TaskProblem =
  | { readonly _tag: "Missing"; readonly file: string; readonly what: "file" | "folder" }
  | { readonly _tag: "Unreadable"; readonly file: string; readonly reason: string }
  | {
    readonly _tag: "NotJson";
    readonly file: string;
    readonly line: number;
    readonly column: number;
    readonly problem: string;
  }
  | { readonly _tag: "BadField"; readonly file: string; readonly error: FieldError }
  | { readonly _tag: "BadSplits"; readonly file: string; readonly problem: string }
  | {
    readonly _tag: "BadVocabulary";
    readonly file: string;
    readonly line: number;
    readonly problem: string;
  }
  /** A split's file is not an object that maps file names to lists of labels. */
  | { readonly _tag: "BadSplit"; readonly file: string; readonly problem: string }
  | { readonly _tag: "EmptySplit"; readonly file: string }
  | { readonly _tag: "BadLabels"; readonly file: string; readonly clip: string }
  | {
    readonly _tag: "UnknownLabel";
    readonly file: string;
    readonly clip: string;
    readonly label: string;
    /** An existing label with the same letters in another Unicode normalisation, if there is one. */
    readonly there?: string;
  }
  | {
    readonly _tag: "NotOneLabel";
    readonly file: string;
    readonly clip: string;
    readonly labels: readonly string[];
  }
  | { readonly _tag: "BadName"; readonly file: string; readonly clip: string }
  | { readonly _tag: "Repeated"; readonly file: string; readonly clip: string }
  | {
    readonly _tag: "InTwoSplits";
    readonly file: string;
    readonly clip: string;
    readonly other: string;
  }
  | { readonly _tag: "NoRate"; readonly file: string; readonly others: readonly number[] }
  | { readonly _tag: "MissingAudio"; readonly file: string; readonly namedIn: string }
  /** A file of that name exists, but in another Unicode normalisation. */
  | {
    readonly _tag: "OtherForm";
    readonly file: string;
    readonly namedIn: string;
    readonly there: string;
  }
  | { readonly _tag: "Unlisted"; readonly file: string; readonly missingIn: string }
  | { readonly _tag: "BadAudio"; readonly file: string; readonly problem: string }
  | {
    readonly _tag: "WrongRate";
    readonly file: string;
    readonly rate: number;
    readonly expected: number;
  }
  | { readonly _tag: "NotMono"; readonly file: string; readonly channels: number }
  | {
    readonly _tag: "WrongLength";
    readonly file: string;
    readonly seconds: number;
    readonly expected: number;
  }
  /** One of the ten tasks differs from the published one. */
  | {
    readonly _tag: "NotAsPublished";
    readonly file: string;
    readonly task: string;
    readonly what: string;
    readonly expected: string;
    readonly found: string;
  };

/** A problem as one line: the file, and what is wrong with it. */
export const problemText = (problem: TaskProblem): string =>
  `${plain(problem.file)}: ${reason(problem)}`;

function reason(problem: TaskProblem): string {
  switch (problem._tag) {
    case "Missing":
      return `there is no such ${problem.what}`;
    case "Unreadable":
      return `it cannot be read: ${problem.reason}`;
    case "NotJson":
      return `it is not JSON: line ${problem.line}, column ${problem.column}: ${problem.problem}`;
    case "BadField":
      return fieldErrorText(problem.error);
    case "BadSplits":
    case "BadSplit":
    case "BadAudio":
      return problem.problem;
    case "BadVocabulary":
      return `line ${problem.line}: ${problem.problem}`;
    case "EmptySplit":
      return "it names no clip";
    case "BadLabels":
      return `the labels of ${quoted(problem.clip)} should be a list of texts or whole numbers`;
    case "UnknownLabel":
      return `the label ${quoted(problem.label)} of ${quoted(problem.clip)} is not in ` +
        "labelvocabulary.csv" +
        (problem.there === undefined
          ? ""
          : `, which writes its letters in Unicode form ${form(problem.there)}, and this file in ` +
            form(problem.label));
    case "NotOneLabel":
      return `${quoted(problem.clip)} should have one label, as the task is multiclass, and has ` +
        (problem.labels.length === 0
          ? "none"
          : `${problem.labels.length}: ${problem.labels.map(quoted).join(", ")}`);
    case "BadName":
      return `${quoted(problem.clip)} is not the name of a file in the folder of the split`;
    case "Repeated":
      return `it names ${quoted(problem.clip)} more than once`;
    case "InTwoSplits":
      return `it names ${quoted(problem.clip)}, which ${problem.other} names too`;
    case "NoRate":
      return "there is no such folder" +
        (problem.others.length === 0
          ? ""
          : `, but audio at ${problem.others.join(", ")} Hz, which must be resampled first`);
    case "MissingAudio":
      return `there is no such file, and ${problem.namedIn} names it`;
    case "OtherForm":
      return `there is no such file; ${problem.namedIn} writes its letters in Unicode form ` +
        `${form(problem.file)}, the file's name in ${form(problem.there)}: rename the file`;
    case "Unlisted":
      return `${problem.missingIn} does not name it: name it there, or remove the file`;
    case "WrongRate":
      return `its sample rate is ${problem.rate} Hz, where ${problem.expected} Hz are expected`;
    case "NotMono":
      return `it has ${problem.channels} channels, where one is expected`;
    case "WrongLength":
      return `it lasts ${+problem.seconds.toFixed(4)} s, where sample_duration is ` +
        `${problem.expected} s`;
    case "NotAsPublished":
      return `${problem.task} as published has ${problem.expected} ${problem.what}, this one has ` +
        problem.found;
  }
}

const form = (name: string): string =>
  name === name.normalize("NFC") ? "NFC" : name === name.normalize("NFD") ? "NFD" : "neither";
