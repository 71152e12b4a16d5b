// A day: stages one after another within a budget of seconds. Each has a time limit and a log, none stops
// the others, and after each the summary is written anew, so that a day that is cut short has one, too.
import type { Command, Stage } from "./stages.ts";
import { makeVariant, type Variant } from "./variants.ts";

/** What came of a stage. */
export interface Result {
  readonly name: string;
  /** `ok`, or what else: `status 1`, `stopped after 60 s`, `skipped: ...`, `left out: ...`. */
  readonly result: string;
  readonly seconds: number;
  /** The lines of its log that the summary shows. */
  readonly shown: readonly string[];
}

/** The place and the limits of a day. */
export interface Day {
  /** What is tried, in words: revision, part and device. */
  readonly title: string;
  /** The tree that is tried. */
  readonly tree: string;
  /** Where logs and the summary go. */
  readonly out: string;
  /** Where variants of the tree are made. */
  readonly scratch: string;
  /** Seconds for all of it. */
  readonly budget: number;
  /** What commands find in their environment beside their own. */
  readonly env: Readonly<Record<string, string>>;
  readonly say: (line: string) => void;
}

/** A stage that would begin with less than this many seconds left is left out. */
const least = 4;
const mostShown = 40;

const running = new Set<number>();
const stop = (pid: number): void => {
  try {
    // All that it started: it leads a group of its own.
    Deno.kill(-pid, "SIGKILL");
  } catch {
    // It has just ended.
  }
};
/** Ends every command that runs. */
export const stopAll = (): void => running.forEach(stop);

/** Runs a command until a moment of `performance.now()`; gives its end in words, "" where all is well. */
const runCommand = async (
  { program = Deno.execPath(), args, env }: Command,
  cwd: string,
  day: Day,
  until: number,
  write: (bytes: Uint8Array) => void,
): Promise<string> => {
  const left = until - performance.now();
  if (left <= 0) return "left out";
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program, {
      args: [...args],
      cwd,
      env: { ...day.env, ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      detached: true,
    }).spawn();
  } catch (error) {
    return `it does not start: ${error instanceof Error ? error.message : error}`;
  }
  running.add(child.pid);
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    stop(child.pid);
  }, left);
  const read = async (stream: ReadableStream<Uint8Array>) => {
    for await (const bytes of stream) write(bytes);
  };
  const [{ code }] = await Promise.all([child.status, read(child.stdout), read(child.stderr)]);
  clearTimeout(timer);
  running.delete(child.pid);
  return isLate ? "stopped" : code === 0 ? "" : `status ${code}`;
};

const decode = (chunks: readonly Uint8Array[]): string =>
  chunks.map((bytes) => new TextDecoder().decode(bytes)).join("");

/** Runs a stage's commands in their order, some at once; the first end that is not well is the stage's. */
const runStage = async (stage: Stage, day: Day, seconds: number): Promise<string> => {
  const until = performance.now() + 1000 * seconds;
  const log = await Deno.create(`${day.out}/logs/${stage.name}.log`);
  const atOnce = stage.atOnce ?? 1, ends: string[] = [];
  const say = (line: string) => log.writeSync(new TextEncoder().encode(`${line}\n`));
  const treeOf = async (variant: Variant | undefined): Promise<string> => {
    if (variant === undefined) return day.tree;
    const to = `${day.scratch}/variant`;
    await Deno.remove(to, { recursive: true }).catch(() => {});
    await makeVariant(day.tree, to, variant);
    return to;
  };
  let next = 0, made: readonly [Variant | undefined, Promise<string>] | undefined;
  const work = async () => {
    while (next < stage.commands.length) {
      const at = next++, command = stage.commands[at];
      // Commands of one variant stand beside each other and share its tree.
      if (made === undefined || made[0] !== command.variant) {
        made = [command.variant, treeOf(command.variant)];
      }
      // What runs beside others is written when it has ended, or lines would be mixed.
      const chunks: Uint8Array[] = [];
      const title = () => command.title === undefined ? undefined : say(command.title);
      if (atOnce === 1) title();
      const write = (bytes: Uint8Array) => {
        if (atOnce === 1) log.writeSync(bytes);
        else chunks.push(bytes);
      };
      try {
        ends[at] = await runCommand(command, await made[1], day, until, write);
      } catch (error) {
        ends[at] = error instanceof Error ? error.message : `${error}`;
      }
      if (atOnce > 1) {
        title();
        say(decode(chunks));
      }
      if (ends[at] !== "") say(`-- ${ends[at]}`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  log.close();
  const late = ends.some((end) => end === "stopped" || end === "left out");
  return late ? `stopped after ${Math.round(seconds)} s` : ends.find((end) => end !== "") ?? "ok";
};

const linesOf = async (stage: Stage, out: string): Promise<readonly string[]> => {
  const text = await Deno.readTextFile(`${out}/logs/${stage.name}.log`).catch(() => "");
  return text.split("\n").filter((line) => stage.shown.test(line)).map((line) =>
    line.slice(0, 200)
  );
};

/** The summary of a day in Markdown. */
export const summaryOf = (title: string, results: readonly Result[]): string =>
  [
    `# ${title}`,
    "",
    "| stage | result | seconds |",
    "| --- | --- | --- |",
    ...results.map(({ name, result, seconds }) =>
      `| ${name} | ${result} | ${seconds.toFixed(1)} |`
    ),
    ...results.filter(({ shown }) => shown.length > 0).flatMap(({ name, shown }) => [
      "",
      `## ${name}`,
      "",
      "```",
      ...shown.slice(-mostShown),
      "```",
    ]),
    "",
  ].join("\n");

/**
 * Runs stages, those of an inner list at once, and writes `summary.md`, `results.json` and `logs` into the
 * folder of results. The stages after one that `needs` names are left out when that one fails.
 */
export const runDay = async (
  groups: readonly (readonly Stage[])[],
  needs: string,
  day: Day,
): Promise<readonly Result[]> => {
  await Deno.mkdir(`${day.out}/logs`, { recursive: true });
  await Deno.mkdir(day.scratch, { recursive: true });
  const began = performance.now(), results: Result[] = [];
  const seconds = () => (performance.now() - began) / 1000;
  const add = async (stage: Stage, result: string, from: number) => {
    const found = await linesOf(stage, day.out);
    const lines = result === "ok" || result.startsWith("skipped") || result.startsWith("left out")
      ? found
      : [...found, ...await tailOf(stage, day.out)];
    results.push({ name: stage.name, result, seconds: seconds() - from, shown: lines });
    day.say(`[${seconds().toFixed(0)} s] ${stage.name}: ${result}`);
    await Deno.writeTextFile(`${day.out}/summary.md`, summaryOf(day.title, results));
    const all = { title: day.title, budget: day.budget, stages: results };
    await Deno.writeTextFile(`${day.out}/results.json`, `${JSON.stringify(all, undefined, 2)}\n`);
  };
  const isLost = () => results.some(({ name, result }) => name === needs && result !== "ok");
  for (const group of groups) {
    await Promise.all(group.map(async (stage) => {
      const from = seconds(), left = day.budget - from;
      if (stage.skipped !== undefined) return await add(stage, `skipped: ${stage.skipped}`, from);
      if (isLost()) return await add(stage, "left out: there is no device", from);
      if (left < least) return await add(stage, "left out: no time", from);
      await add(stage, await runStage(stage, day, Math.min(left, stage.limit)), from);
    }));
  }
  return results;
};

const tailOf = async (stage: Stage, out: string): Promise<readonly string[]> => {
  const text = await Deno.readTextFile(`${out}/logs/${stage.name}.log`).catch(() => "");
  return [
    "its last lines:",
    ...text.trimEnd().split("\n").slice(-6).map((line) => line.slice(0, 300)),
  ];
};
