// `deno task bench:peers`: our programs beside other libraries' on the same device, in one process.
// Results are compared before anything is timed; times are medians of runs in turns, and ratios are
// of neighbouring runs. What a peer can not do is told and left out.
import * as E from "fp-ts/Either.js";
import { readArguments } from "../experiments/io/arguments.ts";
import type { Backend } from "../backends/backend.ts";
import { openDevice } from "./device.ts";
import { loadJax } from "./jax.ts";
import { disagreement, interleave, median, ratioOf } from "./measure.ts";
import { openOurs } from "./ours.ts";
import type { LoadPeer, Peer } from "./peer.ts";
import { loadTensorFlow } from "./tensorflow.ts";
import { valuesOf, type Workload, WORKLOADS } from "./workloads.ts";

/** One comparison. */
export interface Row {
  readonly workload: string;
  readonly device: string;
  readonly oursMs: number;
  readonly peer: string;
  readonly peerMs: number;
  /** How many times faster ours is. */
  readonly ratio: number;
  /** The largest difference of the results, as a share of the largest magnitude. */
  readonly difference: number;
  readonly gigaflops: number;
  /**
   * Share of what the device reaches on multiply-adds in registers, measured before and after. Only
   * of products, and where the device can be measured.
   */
  readonly shareOfPeak?: number;
  /** Bytes that our kernels move, as a multiple of reading all leaves and writing all results once. */
  readonly timesFloor: number;
  readonly kernels: number;
}

/** Results that differ by more than this are not of the same function. */
const tolerance = 2e-3;

const PEERS: Readonly<Record<string, LoadPeer>> = {
  "jax-js": loadJax,
  "TensorFlow.js": loadTensorFlow,
};

const usage = `usage: deno task bench:peers [options]
  --device D      webgpu (the best found), gpu, software or wasm
  --only A,B      workloads: ${Object.keys(WORKLOADS).join(", ")}
  --peers A,B     peers: ${Object.keys(PEERS).join(", ")}
  --seconds S     seconds of timing for each workload and peer; 4
  --json          one JSON object per comparison`;

const refuse = (why: string): never => {
  console.error(`${why}\n${usage}`);
  Deno.exit(2);
};

const chosen = (text: string | undefined, known: readonly string[], what: string) => {
  const names = text === undefined ? known : text.split(",");
  const wrong = names.find((name) => !known.includes(name));
  return wrong === undefined ? names : refuse(`there is no ${what} '${wrong}'`);
};

const sentence = (error: unknown): string =>
  (error instanceof Error ? error.message : `${error}`).split("\n")[0];

const header = [
  "workload",
  "peer",
  "ours ms",
  "peer ms",
  "ratio",
  "difference",
  "GFlop/s",
  "of peak",
  "bytes",
];

const line = (row: Row): string =>
  `| ${
    [
      row.workload,
      row.peer,
      row.oursMs.toFixed(2),
      row.peerMs.toFixed(2),
      row.ratio.toFixed(2),
      row.difference.toExponential(1),
      row.gigaflops.toFixed(1),
      row.shareOfPeak === undefined ? "" : `${Math.round(100 * row.shareOfPeak)}%`,
      `${row.timesFloor.toFixed(1)} x floor`,
    ].join(" | ")
  } |`;

/** Operations a second that the device reaches at best; undefined where that can not be measured. */
const peakOf = async (backend: Backend): Promise<number | undefined> =>
  (await backend.peaks?.())?.flopsPerSecond;

if (import.meta.main) {
  const given = readArguments(Deno.args, {
    flags: ["json"],
    texts: ["device", "only", "peers", "seconds"],
  });
  if (E.isLeft(given)) throw refuse(given.left);
  const { words, help } = given.right, options = { ...given.right.texts, ...given.right.flags };
  if (words.length > 0) refuse(`there is nothing to do with '${words[0]}'`);
  if (help) {
    console.log(usage);
    Deno.exit(0);
  }
  const seconds = Number(options.seconds ?? 4);
  if (!(seconds > 0)) refuse(`--seconds takes a number above 0, not '${options.seconds}'`);
  const workloads = chosen(options.only, Object.keys(WORKLOADS), "workload");
  const names = chosen(options.peers, Object.keys(PEERS), "peer");
  const opened = await openDevice(options.device ?? "webgpu");
  if (E.isLeft(opened)) {
    console.error(opened.left);
    Deno.exit(1);
  }
  const { right: device } = opened, { backend } = device;
  const peers: Peer[] = [];
  for (const name of names) {
    try {
      peers.push(await PEERS[name](device));
    } catch (error) {
      console.error(`${name} is left out: ${sentence(error)}`);
    }
  }
  const compare = async (key: string, workload: Workload, peer: Peer): Promise<Row | undefined> => {
    const values = valuesOf(workload);
    const theirs = await peer.prepare(key, values);
    if (theirs === undefined) return undefined;
    const ours = await openOurs(backend, workload, values);
    try {
      await theirs.run();
      await ours.run();
      const [expected, found] = [await theirs.read(), await ours.read()];
      const differences = Object.keys(workload.results).map((result) => {
        if (!(result in expected)) throw new Error(`it has no result '${result}'`);
        return disagreement(found[result], expected[result]);
      });
      const difference = Math.max(...differences);
      if (!(difference <= tolerance)) {
        const result = Object.keys(workload.results)[differences.indexOf(difference)];
        throw new Error(`the results '${result}' differ by ${difference}`);
      }
      const isProduct = workload.isProduct === true;
      const before = isProduct ? await peakOf(backend) : undefined;
      const pairs = await interleave(ours.run, theirs.run, 1000 * seconds);
      const after = isProduct ? await peakOf(backend) : undefined;
      const oursMs = median(pairs.ours);
      return {
        workload: workload.name,
        device: device.name,
        oursMs,
        peer: peer.name,
        peerMs: median(pairs.peer),
        ratio: ratioOf(pairs),
        difference,
        gigaflops: ours.flops / oursMs / 1e6,
        ...(before === undefined || after === undefined
          ? {}
          : { shareOfPeak: ours.flops / oursMs * 1000 / Math.max(before, after) }),
        timesFloor: ours.bytes / ours.floorBytes,
        kernels: ours.kernels.length,
      };
    } finally {
      ours.close();
      theirs.close();
    }
  };
  if (!options.json) {
    console.log(`${device.name}\n\n| ${header.join(" | ")} |\n|${" --- |".repeat(header.length)}`);
  }
  for (const key of workloads) {
    for (const peer of peers) {
      try {
        const row = await compare(key, WORKLOADS[key](), peer);
        if (row !== undefined) console.log(options.json ? JSON.stringify(row) : line(row));
      } catch (error) {
        console.error(`${key} beside ${peer.name} is left out: ${sentence(error)}`);
      }
    }
  }
  Deno.exit(0);
}
