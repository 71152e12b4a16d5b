// A thread for runs with several processes. If one dies, the launcher ends the others with SIGTERM and
// kills them soon after; the main thread may be in the middle of a long step and not notice. So this
// thread reports what happened and how to resume.
/// <reference lib="webworker" />
import { isBusy } from "../training/run_folder.ts";
import { savedSteps } from "../training/checkpoints.ts";

/** Settings of the thread. */
export interface LastWords {
  readonly folder: string;
  /** The rank of this process. */
  readonly rank: number;
  readonly of: number;
}

/** The message of a process that receives SIGTERM. */
export const lastWords = ({ folder, of }: LastWords, step: number | undefined): string =>
  `the run was told to end (SIGTERM), as when one of its ${of} processes dies; ` +
  (step === undefined
    ? "there is no checkpoint yet"
    : `the checkpoint of step ${step} is in ${folder}, and --resume goes on from it`);

if ("postMessage" in self) {
  self.addEventListener("message", ({ data }: MessageEvent<LastWords>) => {
    let said = false;
    Deno.addSignalListener("SIGTERM", () => {
      // Rank 0 prints; if it is the one that died, so that the folder is not locked, rank 1 does.
      if (!said && (data.rank === 0 || !isBusy(data.folder))) {
        console.error(lastWords(data, savedSteps(data.folder)[0]));
      }
      said = true;
    });
  });
}
