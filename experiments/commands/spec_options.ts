// Arguments that commands on experiments share: spec names and --set.
import { specNames, specNamesText, studyNames } from "../specs/read.ts";
import { type Option, seeHelp, surplus, texts, type Words } from "./command.ts";

const help = { NAME: `${specNamesText()}; or the path of a JSON file` };

/** The name of one spec; without arguments the help is printed. */
export const oneSpec: Words = {
  usage: "NAME",
  help,
  suggests: { values: specNames(), paths: "files" },
  wrong: (words) => words.length === 0 ? seeHelp : surplusNames(words),
};

/** One or more names of specs. */
export const someSpecs: Words = {
  ...oneSpec,
  usage: "NAME...",
  wrong: (words) => words.length === 0 ? seeHelp : undefined,
};

/** Names of specs and studies, for commands that run both. */
export const specsAndStudies = {
  help: {
    NAME: `${specNamesText()}; a study, ${studyNames.join(" or ")}; or the path of a JSON file`,
  },
  suggests: { values: [...specNames(), ...studyNames], paths: "files" },
} as const;

/** What is wrong with more than one name. */
export const surplusNames = (words: readonly string[]): string | undefined =>
  words.length > 1 ? `one experiment is named; ${surplus(words.slice(1))}` : undefined;

/** Changed fields of the spec. */
export const set: Option<readonly string[]> = {
  ...texts(
    "FIELD=VALUE",
    "another value for a field of the spec, such as fidelity=faithful, objective.style=mae or " +
      "encoder.depth=4; may be repeated",
  ),
  hint: "a field of the spec is set with --set, such as --set schedule.steps=100",
};
