// The backends for tests, opened once for each test file. A machine without a device skips
// what needs one and says so; with FORMANT_REQUIRE_WEBGPU set, to anything, it fails instead.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import type { Parallelism } from "../../backends/lower/graph/split_reductions.ts";
import { wasmBackend } from "../../backends/wasm/backend.ts";
import { webgpuBackend } from "../../backends/webgpu/backend.ts";
import { deviceErrorMessage, openDevice } from "../../backends/webgpu/discovery/discover.ts";
import { plainMatrices } from "./plain_matrices.ts";

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

/** A device that nothing fills: whatever can be split is. */
export const widest: Parallelism = { groups: 2 ** 20, lanes: 2 ** 30, launchCost: 0, gain: 0 };
/** The same device, as if it were that wide. */
export const webgpuInParts: Backend | undefined = E.isLeft(found)
  ? undefined
  : webgpuBackend({ ...found.right, parallelism: widest });

/** The same with the kernels that GPUs get. */
export const webgpuInPartsAsGpu: Backend | undefined = E.isLeft(found)
  ? undefined
  : webgpuBackend({ ...found.right, onCpu: false, parallelism: widest });

/** The same device, on which whatever may be rounded to f16 is; undefined where it has no f16. */
export const webgpuHalves: Backend | undefined = E.isLeft(found) || !found.right.features.shaderF16
  ? undefined
  : (() => {
    const backend = webgpuBackend({ ...found.right, halvesFrom: 1 });
    return {
      ...backend,
      open: (programs) =>
        backend.open(
          Object.fromEntries(
            Object.entries(programs).map(([name, of]) => [name, { ...of, precision: "f16" }]),
          ),
        ),
    };
  })();

/** The same device, on which products go the way of tensor cores, which plain loops stand for. */
export const webgpuByMatrices: Backend | undefined = E.isLeft(found) ? undefined : webgpuBackend({
  ...found.right,
  onCpu: false,
  matrices: [plainMatrices("f32", { rows: 16, columns: 8, over: 8 }, 32)],
});

/** WebAssembly as users get it: with all threads, and fused multiply-add where there is some. */
export const wasm: Backend = wasmBackend();

/** WebAssembly on one thread, without fused multiply-add. */
export const wasmPlain: Backend = wasmBackend({ threads: 1, relaxed: false });

/** WebAssembly with vectors in pairs. */
export const wasmWide: Backend = wasmBackend({ threads: 1, wide: true });

/** WebAssembly, on which hardly any product is stored. */
export const wasmInLoops: Backend = wasmBackend({ threads: 1, storedLimit: 2 ** 12 });

/** What tables of cases run on; undefined where this machine has no such device. */
export const devices: readonly (readonly [string, Backend | undefined])[] = [
  ["WebGPU", webgpu],
  ["WebAssembly", wasm],
  ["WebAssembly with plain SIMD", wasmPlain],
  ["WebAssembly with vectors in pairs", wasmWide],
];
