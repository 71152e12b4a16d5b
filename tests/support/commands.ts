// What tests share that start commands as users do: a small spec as a document, a started command, and
// files that only Linux has.
import { assert } from "@std/assert";
import { inFolder } from "./hear/made.ts";
import mamba from "../../experiments/specs/presets/mamba.json" with { type: "json" };

/** A spec of a small Mamba for a folder `sounds` beside it, where many may be unreadable. */
export const littleDocument = {
  ...mamba,
  name: "little",
  device: "wasm",
  clip: { frames: 40 },
  encoder: { ...mamba.encoder, dim: 16, depth: 1, state: 4 },
  schedule: { warmupSteps: 1, steps: 2 },
  batch: 2,
  data: { kind: "folder", path: "sounds", heldOutFraction: 0.3, skippedFraction: 0.9 },
  evaluation: undefined,
  evaluateEvery: 2,
  checkpointEvery: 2,
  report: { examples: 1 },
};

/** A command of the command line, or of the file by which tasks start it. */
export const command = (
  cwd: string,
  args: readonly string[],
  by: "main" | "start" = "main",
): Deno.Command => {
  const { pathname } = new URL(`../../experiments/commands/${by}.ts`, import.meta.url);
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", decodeURIComponent(pathname), ...args],
    cwd,
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  });
};

/** A test in an empty folder, of what other systems have in other ways. */
export const onLinux = (name: string, act: (folder: string) => Promise<void> | void): void =>
  Deno.test({
    name,
    fn: () => inFolder(async (folder) => await act(folder)),
    ignore: Deno.build.os !== "linux",
  });

/** Makes a named pipe. */
export const mkfifo = (path: string): void => {
  assert(new Deno.Command("mkfifo", { args: [path] }).outputSync().success);
};
