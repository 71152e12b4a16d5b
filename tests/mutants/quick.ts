// What is changed, and the quick set of tests that should notice: stages of test files, run one after
// the other until one fails. The first stage takes a second or two and is chosen by the place of the
// change; most changes die there.

/** What is changed: files and folders, without those that print no code and compute no program. */
export const changedPlaces: readonly string[] = [
  "backends/lower/",
  "backends/wasm/",
  "backends/webgpu/",
  "dsl/absorb.ts",
  "dsl/grad.ts",
  "dsl/pull.ts",
  "dsl/scan.ts",
];

/** Files in those folders that are left alone, and why. */
export const leftAlone: Readonly<Record<string, string>> = {
  "backends/wasm/backend.ts": "a machine, no generator",
  "backends/wasm/calls.ts": "threads, no generator",
  "backends/wasm/peaks.ts": "measures what the processor reaches",
  "backends/wasm/pool.ts": "threads, no generator",
  "backends/wasm/print.ts": "text for people",
  "backends/wasm/worker.ts": "threads, no generator",
  "backends/webgpu/backend.ts": "a machine, no generator",
  "backends/webgpu/discover.ts": "finds devices",
  "backends/webgpu/swiftshader.ts": "installs a driver",
  "backends/webgpu/timing.ts": "measures what the device reaches",
  "backends/webgpu/wait.ts": "waits for the device",
  "backends/webgpu/warm.ts": "compiles ahead, for speed alone",
};

/** Test files that run in one process, maybe only the tests whose names fit a filter. */
export interface Stage {
  readonly files: readonly string[];
  readonly filter?: string;
}

const expressions: Stage = {
  files: ["tests/dsl/grad_test.ts", "tests/dsl/scan_test.ts", "tests/dsl/closed_forms_test.ts"],
};
const shapes: Stage = {
  files: [
    "tests/backends/affine_test.ts",
    "tests/backends/structure_test.ts",
    "tests/backends/scan_kernels_test.ts",
    "tests/backends/block_kernels_test.ts",
    "tests/backends/beside_test.ts",
  ],
};
const wasm: Stage = {
  files: [
    "tests/wasm/backend_test.ts",
    "tests/wasm/math_test.ts",
    "tests/wasm/matrix_test.ts",
    "tests/wasm/scans_test.ts",
    "tests/wasm/turned_test.ts",
    "tests/wasm/products_test.ts",
  ],
};
const gpu: Stage = {
  files: [
    "tests/backends/wgsl_test.ts",
    "tests/backends/matrices_test.ts",
    "tests/backends/halves_test.ts",
    "tests/backends/late_test.ts",
    "tests/backends/limits_test.ts",
  ],
};
const forms: Stage = {
  files: [
    "tests/backends/loops_test.ts",
    "tests/backends/splits_test.ts",
    "tests/backends/training_kernels_test.ts",
    "tests/backends/tuning_test.ts",
  ],
};
/** Kernels and bytes of training steps; not how much memory a process takes. */
const training: Stage = {
  files: ["tests/wasm/training_test.ts"],
  filter: "kernels, functions and bytes",
};
const randomOn = (devices: string): Stage => ({
  files: ["tests/backends/random_programs_test.ts"],
  filter: `/random programs on (${devices}) agree/`,
});
const rewrites: Stage = { files: ["tests/dsl/random_programs_test.ts"] };
const randomWasm = randomOn("WebAssembly|WebAssembly in loops");
const randomGpu = randomOn("WebGPU with a GPU's kernels|WebGPU in parts");

/** The stages for a change in a place, the most telling first; the first place that fits counts. */
const table: readonly (readonly [string, readonly Stage[]])[] = [
  ["dsl/", [expressions, rewrites, wasm, shapes, randomWasm, forms, training]],
  ["backends/wasm/", [wasm, randomWasm, training]],
  ["backends/webgpu/", [gpu, shapes, forms, randomGpu]],
  ["", [wasm, shapes, forms, gpu, randomWasm, training, randomGpu]],
];

/** What runs for a change in a file. */
export const stagesOf = (file: string): readonly Stage[] =>
  table.find(([place]) => file.startsWith(place))![1];

/** All stages. */
export const allStages: readonly Stage[] = [...new Set(table.flatMap(([, stages]) => stages))];
