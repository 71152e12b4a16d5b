// A thread of a run that several processes share. What started them ends them with SIGTERM when one has
// died, and kills soon after; the main thread may be in the middle of a long step and hear nothing. So
// this one says what happened and how the run goes on.
/// <reference lib="webworker" />
import { isBusy } from "../training/run_folder.ts";
import { savedSteps } from "../training/checkpoints.ts";

/** What the thread must know. */
export interface LastWords {
  readonly folder: string;
  /** Which process this is. */
  readonly rank: number;
  readonly of: number;
}

/** What a process says that is told to end. */
export const lastWords = ({ folder, of }: LastWords, step: number | undefined): string =>
  `the run was told to end (SIGTERM), as when one of its ${of} processes dies; ` +
  (step === undefined
    ? "there is no checkpoint yet"
    : `the checkpoint of step ${step} is in ${folder}, and --resume goes on from it`);

if ("postMessage" in self) {
  self.addEventListener("message", ({ data }: MessageEvent<LastWords>) => {
    let said = false;
    Deno.addSignalListener("SIGTERM", () => {
      // The first process speaks; where it is the one that died, and writes no more, the second does.
      if (!said && (data.rank === 0 || !isBusy(data.folder))) {
        console.error(lastWords(data, savedSteps(data.folder)[0]));
      }
      said = true;
    });
  });
}
