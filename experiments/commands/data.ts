// `deno task data`: labelled tasks, downloaded or synthesised.
import * as E from "fp-ts/Either.js";
import { data, taskFolders, unknownText } from "../data/hear/fetch.ts";
import { knownTasks } from "../data/hear/published_tasks.ts";
import { fewestClips } from "../data/synth/tasks/suite.ts";
import { synthetic } from "../data/synth/tasks/write_suite.ts";
import { commandOf, text, whole } from "./command.ts";

export const command = commandOf({
  summary: "fetches HEAR's tasks, or makes ten labelled tasks by program",
  notes: `\
'synthetic' makes ten labelled tasks, synthetic_stroke and the like, by program: no download. They
mirror HEAR's ten in kind and have the same layout. Existing tasks are kept.

'hear' fetches downstream tasks of HEAR 2021 from Zenodo, checks them, and unpacks them for
'evaluate'. An interrupted download is resumed. The archives hold audio at 48000 Hz, which is
resampled to 16000 Hz; HEAR's own files at 16000 Hz are in a requester-pays bucket, and can be given
with --from. An existing task is only checked.`,
  words: {
    usage: { "hear TASK...": ["out", "from"], synthetic: ["out", "clips", "seed"] },
    help: {
      TASK: `${knownTasks.slice(0, -1).map(({ short }) => short).join(", ")} or ${
        knownTasks[knownTasks.length - 1].short
      }; the folder of a task, such as gunshot_triangulation-v1.0-full; or all, which means the ten`,
    },
    suggests: { values: ["hear", "synthetic", "all", ...knownTasks.map(({ short }) => short)] },
    wrong: ([kind, ...tasks]) =>
      kind === undefined
        ? "say what to get: synthetic; or hear, and which tasks"
        : kind !== "hear" && kind !== "synthetic"
        ? `there is no data '${kind}'; there are synthetic and hear`
        : kind === "synthetic" && tasks.length > 0
        ? `there is nothing to do with '${tasks[0]}'; all ten synthetic tasks are made`
        : kind === "hear" && tasks.length === 0
        ? "say which tasks to fetch, or all"
        : undefined,
  },
  options: {
    out: text("DIR", "where to put folders of tasks (default tasks)", { paths: "folders" }),
    from: text(
      "SOURCE",
      "an archive of the task (path or address that ends in .tar.gz), or the address of a record " +
        "like Zenodo's",
      { paths: "files" },
    ),
    clips: whole("N", "clips of each synthetic task", {
      from: fewestClips,
      to: 100_000,
      otherwise: 240,
    }),
    seed: whole("S", "the synthetic tasks' seed, a whole number", {
      from: Number.MIN_SAFE_INTEGER,
      to: Number.MAX_SAFE_INTEGER,
      otherwise: 0,
      expected: "a whole number",
    }),
  },
  run: async ({ words: [kind, ...tasks], options: { out = "tasks", from, clips, seed } }) => {
    if (kind === "synthetic") return E.right(await synthetic(out, { seed, clips }));
    const folders = taskFolders(tasks);
    if (E.isLeft(folders)) return E.left(unknownText(folders.left));
    return E.right(
      await data({ folders: folders.right, out, ...(from === undefined ? {} : { from }) }),
    );
  },
});
