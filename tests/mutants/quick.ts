// What is changed, and the quick set of tests that should notice: stages of test files, run one after
// the other until one fails. The first stage takes a second or two and is chosen by the place of the
// change; most changes die there.

/** What is changed: files and folders, without those that print no code and compute no program. */
export const changedPlaces: readonly string[] = [
  "backends/codegen/",
  "backends/lower/",
  "backends/wasm/",
  "backends/webgpu/",
  "dsl/fuse_scans.ts",
  "dsl/grad.ts",
  "dsl/vjp.ts",
  "dsl/scan.ts",
];

/** Files in those folders that are left alone, and why. */
export const leftAlone: Readonly<Record<string, string>> = {
  "backends/codegen/traffic.ts": "measures what fusion saves",
  "backends/wasm/backend.ts": "a machine, no generator",
  "backends/wasm/threads/work_queue.ts": "threads, no generator",
  "backends/wasm/peaks.ts": "measures what the processor reaches",
  "backends/wasm/threads/pool.ts": "threads, no generator",
  "backends/wasm/assembler/disassemble.ts": "text for people",
  "backends/wasm/threads/worker.ts": "threads, no generator",
  "backends/webgpu/backend.ts": "a machine, no generator",
  "backends/webgpu/discovery/adapter.ts": "opens devices",
  "backends/webgpu/discovery/dawn.ts": "finds drivers",
  "backends/webgpu/discovery/discover.ts": "finds devices",
  "backends/webgpu/discovery/swiftshader.ts": "installs a driver",
  "backends/webgpu/device/timing.ts": "measures what the device reaches",
  "backends/webgpu/device/settle.ts": "waits for the device",
  "backends/webgpu/device/precompile.ts": "compiles ahead, for speed alone",
};

/** Test files that run in one process, maybe only the tests whose names fit a filter. */
export interface Stage {
  readonly files: readonly string[];
  readonly filter?: string;
}

const backends = (...names: readonly string[]): readonly string[] =>
  names.map((name) => `tests/backends/${name}_test.ts`);

const expressions: Stage = {
  files: ["tests/dsl/grad_test.ts", "tests/dsl/scan_test.ts", "tests/dsl/closed_forms_test.ts"],
};
/** Passes by themselves: nothing is compiled as a whole, or it is small. */
const passes: Stage = {
  files: backends(
    "lower/cost_model",
    "lower/verify",
    "lower/fusion/cuts",
    "lower/graph/stages",
    "lower/scans/plan",
    "lower/passes",
    "lower/graph/stream_forms",
    "lower/scans/chunk",
    "codegen/index_math",
  ),
};
/** Numbers of compiled programs: quick, since nothing runs. */
const costs: Stage = {
  files: backends(
    "lower/costs",
    "webgpu/wgsl/hide_bounds",
    "lower/block_kernels",
    "lower/fusion/horizontal",
  ),
};
const shapes: Stage = {
  files: backends("lower/scans/scan_kernels", "lower/graph/split_reductions"),
  filter:
    "/cell of|leaves a|lane holds|lanes alone|are split|is split|a scan |a sum|a long|parts of/",
};
const matrices: Stage = {
  files: backends("webgpu/wgsl/subgroup_contraction", "lower/storage/half_precision"),
};
const limits: Stage = { files: backends("webgpu/limits") };
const loops: Stage = { files: backends("lower/graph/stream_products") };
/** Functions, tiles and copies by themselves. */
const tiles: Stage = {
  files: backends("wasm/simd/math", "wasm/simd/micro_kernel", "wasm/simd/transposed"),
};
const wasm: Stage = {
  files: backends("wasm/backend", "wasm/simd/strided_matrix", "wasm/simd/scan"),
};
const products: Stage = { files: backends("wasm/simd/contraction") };
const structureOn = (device: string): Stage => ({
  files: backends("structure", "lower/scans/scan_kernels", "table"),
  filter: `/^${device} agrees|agree with the reference on ${device},/`,
});
const structureWasm = structureOn("WebAssembly");
const structureGpu = structureOn("WebGPU");
const texts: Stage = { files: backends("webgpu/schedules", "webgpu/wgsl/wgsl") };
const randomOn = (devices: string): Stage => ({
  files: backends("random_programs"),
  filter: `/random programs on (${devices})$/`,
});
const randomWasm = randomOn("WebAssembly with plain SIMD|WebAssembly in loops");
const randomGpu = randomOn("WebGPU with a GPU's kernels|WebGPU in parts|WebGPU by matrices");
const split: Stage = { files: backends("lower/graph/split_reductions"), filter: "/GPU's kernels/" };

/** The stages for a change in a place, the most telling first; the first place that fits counts. */
const table: readonly (readonly [string, readonly Stage[]])[] = [
  ["dsl/", [expressions, passes, structureWasm, costs, shapes, loops, randomWasm]],
  ["backends/wasm/", [tiles, wasm, structureWasm, costs, products, randomWasm]],
  ["backends/webgpu/", [texts, costs, structureGpu, matrices, randomGpu, shapes, split, limits]],
  ["", [passes, costs, structureWasm, shapes, loops, wasm, tiles, randomWasm, split, matrices]],
];

/** What runs for a change in a file. */
export const stagesOf = (file: string): readonly Stage[] =>
  table.find(([place]) => file.startsWith(place))![1];

/** All stages. */
export const allStages: readonly Stage[] = [...new Set(table.flatMap(([, stages]) => stages))];
