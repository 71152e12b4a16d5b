// Random programs on a device: what it says of each against what it should be, together in one machine,
// with both runs of a program under way at once.
import type { Backend, Machine, Program, Values } from "../../backends/backend.ts";
import { AxisError } from "../../dsl/axes.ts";
import { frozen, generate, programOf, type Random, type Recipe } from "./recipes.ts";
import { unfused } from "../support/unfused.ts";
import { complaint, type Expected, expectedOf, type Results, RUNS, single } from "./expected.ts";
import * as t from "./terms.ts";
import { reachable, show } from "./terms.ts";

/** What a backend says wrong about each of some recipes. */
export type Compare = (
  backend: Backend,
  list: readonly Recipe[],
) => Promise<readonly (string | undefined)[]>;

interface Made {
  readonly recipe: Recipe;
  readonly of: Random;
  /** What its program and the names of its parameters begin with in a machine of several. */
  readonly key: string;
}
const makeAll = (list: readonly Recipe[], suffix = ""): readonly (Made | undefined)[] =>
  list.map((recipe, k) => {
    const of = generate(recipe, suffix);
    return of && { recipe, of, key: `${k}.` };
  });
const there = (made: readonly (Made | undefined)[]): readonly Made[] =>
  made.filter((one) => one !== undefined);

const openAll = async (backend: Backend, made: readonly Made[]): Promise<Machine> => {
  const machine = await backend.open(
    Object.fromEntries(made.map(({ of, key }) => [key, programOf(of, key)])),
  );
  for (const { of, key } of made) {
    machine.write(
      Object.fromEntries(Object.entries(of.params).map(([name, x]) => [key + name, x])),
    );
  }
  return machine;
};

/** Both runs of a program, the first not awaited before the second, and its parameters after them. */
const runBoth = async (machine: Machine, { of, key }: Made): Promise<Results> => {
  const running = Array.from({ length: RUNS }, (_, run) => machine.run(key, of.inputs(run)));
  const runs = await Promise.all(running);
  const names = Object.keys(of.params);
  const after = await machine.read(names.map((name) => key + name));
  return { runs, params: Object.fromEntries(names.map((name) => [name, after[key + name]])) };
};

/** Programs against what they should give. */
export const toExpected = (
  exactness = single,
  expectation: (recipe: Recipe, of: Random) => Promise<Expected> = (_, of) => expectedOf(of),
): Compare =>
async (backend, list) => {
  const made = makeAll(list);
  const machine = await openAll(backend, there(made));
  try {
    const said: (string | undefined)[] = [];
    for (const one of made) {
      said.push(
        one && complaint(
          await expectation(one.recipe, one.of),
          await runBoth(machine, one),
          exactness,
        ),
      );
    }
    return said;
  } finally {
    machine.close();
  }
};

/** The same of programs in which no operation is fused with another. */
export const withoutFusion: Compare = async (backend, list) => {
  const made = makeAll(list).map((one) => {
    if (one === undefined || one.recipe.chain > 0) return undefined;
    const of = frozen(one.of);
    return { of, apart: unfused(one.key, programOf(of)) };
  });
  const programs = made.flatMap((one) => one === undefined ? [] : [one.apart.programs]);
  const machine = await backend.open(Object.assign({}, ...programs));
  try {
    const said: (string | undefined)[] = [];
    for (const one of made) {
      if (one === undefined) {
        said.push(undefined);
        continue;
      }
      const runs: Values[] = [];
      for (let run = 0; run < RUNS; run++) {
        runs.push(await one.apart.run(machine, one.of.inputs(run)));
      }
      said.push(complaint(await expectedOf(one.of), { runs, params: {} }));
    }
    return said;
  } finally {
    machine.close();
  }
};

const bits = (x: Float32Array | Uint32Array) => new Uint32Array(x.buffer, x.byteOffset, x.length);

let openings = 0;

/** Programs that are opened again have the same bits and code; nothing like them was opened before. */
export const again: Compare = async (backend, list) => {
  const made = makeAll(list, `.${openings++}`);
  const programs: Readonly<Record<string, Program>> = Object.fromEntries(
    there(made).map(({ of, key }) => [key, programOf(frozen(of))]),
  );
  const results = async () => {
    const machine = await backend.open(programs);
    const found: { readonly values: Values; readonly code: readonly string[] }[] = [];
    for (const { key, of } of there(made)) {
      const code = machine.report(key).kernels.map((kernel) => kernel.code);
      found.push({ values: await machine.run(key, frozen(of).inputs(0)), code });
    }
    machine.close();
    return new Map(there(made).map((one, k) => [one, found[k]]));
  };
  const first = await results(), second = await results();
  return made.map((one) => {
    if (one === undefined) return undefined;
    const before = first.get(one)!, after = second.get(one)!;
    for (const [name, values] of Object.entries(before.values)) {
      const a = bits(values), b = bits(after.values[name]);
      const at = a.findIndex((x, i) => x !== b[i]);
      if (at >= 0) {
        return `${name}[${at}] is ${values[at]}, opened again ${after.values[name][at]}`;
      }
    }
    const other = before.code.findIndex((text, k) => text !== after.code[k]);
    return other < 0 ? undefined : `kernel ${other} has other code when it is opened again`;
  });
};

/** A program with a mistake in it: an input that is named twice, or an update of other axes. */
const mistaken = (of: Random, recipe: Recipe): Random | undefined => {
  const read = reachable(Object.values(of.outputs));
  if (recipe.turned) {
    const input = read.find(({ op, axes }) => op === "input" && Object.keys(axes).length > 0);
    if (input === undefined) return undefined;
    const axes = Object.entries(input.axes).map(([axis, size], k) =>
      [k === 0 ? "twin" : axis, size] as const
    );
    const twin = t.input(input.name!, Object.fromEntries(axes), input.dtype);
    return { ...of, outputs: { ...of.outputs, twin } };
  }
  const param = read.find(({ op }) => op === "param");
  if (param === undefined) return undefined;
  const wider = t.map("add", param, t.expand(t.constant(1), { ...param.axes, wider: 2 }));
  return { ...of, descended: [], updates: { ...of.updates, [param.name!]: wider } };
};

/** Programs with a mistake are refused with a sentence when they are opened. */
export const refused: Compare = async (backend, list) => {
  const said: (string | undefined)[] = [];
  for (const recipe of list) {
    const of = generate(recipe), wrong = of && mistaken(of, recipe);
    if (wrong === undefined) {
      said.push(undefined);
      continue;
    }
    try {
      (await backend.open({ program: programOf(wrong, "") })).close();
      said.push("a program with a mistake is opened");
    } catch (error) {
      said.push(error instanceof AxisError ? undefined : `not a sentence: ${error}`);
    }
  }
  return said;
};

/** A program in words. */
export const print = (recipe: Recipe): string => {
  const of = generate(recipe);
  if (of === undefined) return "nothing";
  const { order, turned, descended } = of;
  const updates = Object.entries(of.updates);
  return `${show([...Object.values(of.outputs), ...updates.map(([, x]) => x)])}\n${
    JSON.stringify({
      order,
      turned,
      updates: updates.map(([name]) => name),
      descended: descended.map(({ name }) => name),
    })
  }`;
};
