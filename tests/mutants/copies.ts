// A copy of the tree to make changes in, and tests that run there.
import type { Stage } from "./quick.ts";

/** What tests read; nothing else is copied. */
const parts = [
  ...["mod.ts", "deno.json", "deno.lock", "backends", "dsl", "models", "experiments", "bench"],
  "tests",
];

const copyAll = (from: string, to: string): void => {
  if (!Deno.statSync(from).isDirectory) return Deno.copyFileSync(from, to);
  Deno.mkdirSync(to);
  for (const { name } of Deno.readDirSync(from)) copyAll(`${from}/${name}`, `${to}/${name}`);
};

/** Copies the tree at `root` to a new temporary folder, and says which. */
export const copyTree = (root: string): string => {
  const copy = Deno.makeTempDirSync({ prefix: "mutants-" });
  for (const part of parts) copyAll(root + part, `${copy}/${part}`);
  return copy;
};

const running = new Set<Deno.ChildProcess>();
const stop = (child: Deno.ChildProcess): void => {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
};
/** Ends all tests that run, and waits until they have ended: they write nothing any more. */
export const stopAll = async (): Promise<void> => {
  const all = [...running];
  all.forEach(stop);
  await Promise.all(all.map((child) => child.status));
};

const flags = [
  "-A",
  "--quiet",
  "--no-check",
  "--fail-fast",
  "--v8-flags=--max-old-space-size=2000",
];

/** Runs tests in a copy: what fails first, or undefined where all pass. After `limit` ms they hang. */
export const failureOf = async (
  copy: string,
  stage: Stage,
  limit: number,
): Promise<string | undefined> => {
  const filter = stage.filter === undefined ? [] : ["--filter", stage.filter];
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", ...flags, ...filter, ...stage.files],
    cwd: copy,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  running.add(child);
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    stop(child);
  }, limit);
  const { success, stdout, stderr } = await child.output();
  clearTimeout(timer);
  running.delete(child);
  if (isLate) return `hangs in ${stage.files.join(" ")}`;
  const text = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join("\n");
  // A filter that fits nothing would let everything pass.
  if (success) return /[1-9]\d* passed/.test(text) ? undefined : "no test ran";
  return text.match(/^(.*) \.\.\. FAILED/m)?.[1] ?? text.match(/^.*[Ee]rror.*$/m)?.[0] ?? "fails";
};
