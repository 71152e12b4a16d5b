// The WebGPU backend for tests, opened once for each test file. A machine without a device skips
// what needs one and says so; with FORMANT_REQUIRE_WEBGPU set, to anything, it fails instead.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../backends/backend.ts";
import { webgpuBackend } from "../backends/webgpu/backend.ts";
import { deviceErrorMessage, openDevice } from "../backends/webgpu/discover.ts";

const found = await openDevice("auto")();
if (E.isLeft(found)) {
  if (Deno.env.has("FORMANT_REQUIRE_WEBGPU")) throw new Error(deviceErrorMessage(found.left));
  console.log(`WebGPU checks were skipped: ${deviceErrorMessage(found.left)}`);
}

/** The backend on this machine's device, or undefined where it has none. */
export const webgpu: Backend | undefined = E.isLeft(found) ? undefined : webgpuBackend(found.right);

/** The same device with the kernels that GPUs get, whatever it is. */
export const webgpuAsGpu: Backend | undefined = E.isLeft(found)
  ? undefined
  : webgpuBackend({ ...found.right, onCpu: false });

/** The same device, on which hardly any product is stored. */
export const webgpuInLoops: Backend | undefined = E.isLeft(found)
  ? undefined
  : webgpuBackend({ ...found.right, storedLimit: 2 ** 12 });
