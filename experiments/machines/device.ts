// Opens a backend by the device's name on the command line, with notes for the user.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import { wasmBackend } from "../../backends/wasm/backend.ts";
import { webgpuBackend } from "../../backends/webgpu/backend.ts";
import {
  ADVICE,
  deviceErrorMessage,
  deviceRequest,
  openDevice,
  refusalMessage,
} from "../../backends/webgpu/discovery/discover.ts";
import { readTuning, tuningPath } from "./tuning.ts";

/** An open backend, and notes on how it was chosen. */
export interface Chosen {
  readonly backend: Backend;
  readonly notes: readonly string[];
}

/**
 * Opens `auto`, one kind of device, `wasm` or `reference`; `threads` limits the threads of CPU devices. On
 * the left, why not, in words.
 */
export const openBackend = async (
  name: string,
  threads?: number,
): Promise<E.Either<string, Chosen>> => {
  if (name === "reference") return E.right({ backend: referenceBackend(), notes: [] });
  if (name === "wasm") return E.right({ backend: wasmBackend({ threads }), notes: [] });
  // Mesa's software driver reads this variable when it starts.
  if (threads !== undefined && !Deno.env.has("LP_NUM_THREADS")) {
    Deno.env.set("LP_NUM_THREADS", `${threads}`);
  }
  const request = deviceRequest(name);
  if (E.isLeft(request)) return E.left(deviceErrorMessage(request.left));
  const opened = await openDevice(request.right === "auto" ? "gpu" : request.right)();
  if (E.isRight(opened)) {
    const { name: device, notes } = opened.right;
    const table = readTuning(tuningPath(device), device);
    const tuning = E.isRight(table) ? table.right?.kernels : undefined;
    return E.right({
      backend: webgpuBackend({ ...opened.right, tuning }),
      notes: E.isLeft(table) ? [...notes, table.left] : notes,
    });
  }
  if (name !== "auto") return E.left(deviceErrorMessage(opened.left));
  const why = opened.left._tag === "NoDevice" ? opened.left.refusals.map(refusalMessage) : [];
  const note = `${why.join("; ")}; so this runs as WebAssembly, which is faster than WebGPU on a` +
    ` software driver; to use a GPU, ${ADVICE}`;
  return E.right({ backend: wasmBackend({ threads }), notes: [note] });
};
