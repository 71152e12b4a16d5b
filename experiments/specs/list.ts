// The specs and studies that come with Formant, one line each.
import * as E from "fp-ts/Either.js";
import type { Spec } from "./spec.ts";
import { readExperiment, readSpec, specNames, specReadErrorText, studyNames } from "./read.ts";

const families: Readonly<Record<Spec["encoder"]["family"], string>> = {
  transformer: "Transformer",
  mamba: "Mamba",
  xlstm: "xLSTM",
  module: "custom",
};

const line = ({ encoder, objective, schedule, batch }: Spec): string =>
  `${families[encoder.family]}, ${encoder.depth} blocks of ${encoder.dim} channels, ` +
  `${objective.style.toUpperCase()} style, ${schedule.steps} steps of ${batch} clips`;

/** All specs by name with descriptions; those that run in minutes on a CPU first. */
export const specList = async (): Promise<E.Either<string, string>> => {
  const names = specNames();
  const small = names.filter((name) => !name.includes("-"));
  const ordered = [...small, ...names.filter((name) => !small.includes(name))];
  const width = Math.max(...names.map((name) => name.length));
  const lines: string[] = [];
  for (const name of ordered) {
    const spec = await readSpec(name)();
    if (E.isLeft(spec)) return E.left(specReadErrorText(spec.left));
    lines.push(`${name.padEnd(width)}  ${line(spec.right)}`);
  }
  for (const name of studyNames) {
    const of = await readExperiment(name)();
    if (E.isLeft(of)) return E.left(specReadErrorText(of.left));
    if (of.right.kind !== "study") continue;
    const { runs, parts } = of.right.study;
    lines.push(
      `${name.padEnd(width)}  a study of ${runs.length} runs: ` +
        parts.map(({ title }) => title).join(", "),
    );
  }
  return E.right(lines.join("\n"));
};
