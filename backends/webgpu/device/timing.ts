// Device times by timestamp queries: of each dispatch of a program, and of two plain kernels that
// measure peak bandwidth and peak flops. `explain --time` prints shares of those peaks.
import type { Peaks } from "../../backend.ts";
import type { WebgpuDevice } from "./device.ts";

/** One kernel, ready to be recorded. */
export interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  readonly grid: readonly [number, number, number];
}

/** Most timestamps in one query set. */
const QUERIES = 4096;

/** Runs dispatches in order, each in a pass of its own, and gives the milliseconds of each. */
export const timeDispatches = async (
  { device, settle }: Pick<WebgpuDevice, "device" | "settle">,
  dispatches: readonly Dispatch[],
): Promise<readonly number[]> => {
  const times: number[] = [];
  for (let start = 0; start < dispatches.length; start += QUERIES / 2) {
    const part = dispatches.slice(start, start + QUERIES / 2);
    const count = 2 * part.length;
    const querySet = device.createQuerySet({ type: "timestamp", count });
    const { QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
    const resolved = device.createBuffer({ size: 8 * count, usage: QUERY_RESOLVE | COPY_SRC });
    const staging = device.createBuffer({ size: 8 * count, usage: MAP_READ | COPY_DST });
    const encoder = device.createCommandEncoder();
    part.forEach(({ pipeline, bindGroup, grid }, k) => {
      const pass = encoder.beginComputePass({
        timestampWrites: {
          querySet,
          beginningOfPassWriteIndex: 2 * k,
          endOfPassWriteIndex: 2 * k + 1,
        },
      });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(...grid);
      pass.end();
    });
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 8 * count);
    device.queue.submit([encoder.finish()]);
    await settle(staging.mapAsync(GPUMapMode.READ));
    const marks = new BigUint64Array(staging.getMappedRange().slice(0));
    part.forEach((_, k) => times.push(Number(marks[2 * k + 1] - marks[2 * k]) / 1e6));
    [querySet, resolved, staging].forEach((made) => made.destroy());
  }
  return times;
};

/** Bytes that the copy reads, and writes: more than any cache, less than any device's buffers. */
const COPIED = 1 << 27;
const copyCode = `@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@compute @workgroup_size(256) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
  y[at.x] = x[at.x];
}
`;

/** Chains of multiply-adds in an invocation: enough to hide their latency, few enough for registers. */
const CHAINS = 8;
/** Multiply-adds of each chain in one iteration, so that the loop itself does not count. */
const UNROLLED = 16;
const TURNS = 64;
const FLOP_GROUPS = 1 << 11;
const flopCode = (): string => {
  const chains = Array.from({ length: CHAINS }, (_, k) => `v${k}`);
  const body = Array.from(
    { length: UNROLLED },
    () => chains.map((v) => `    ${v} = fma(${v}, a, b);`).join("\n"),
  ).join("\n");
  return `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(256) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
  let a = x[0];
  let b = x[1];
${chains.map((v, k) => `  var ${v} = f32(at.x + ${k}u);`).join("\n")}
  for (var turn = 0; turn < ${TURNS}; turn++) {
${body}
  }
  x[at.x + 2] = ${chains.join(" + ")};
}
`;
};

/** The best of a few runs, which is the least disturbed one. */
const best = async (webgpu: WebgpuDevice, dispatch: Dispatch): Promise<number> => {
  const times = await timeDispatches(webgpu, Array.from({ length: 6 }, () => dispatch));
  return Math.min(...times.slice(1)) / 1000;
};

/** Measures a device's copy bandwidth and multiply-add rate with small kernels. */
export const measurePeaks = async (webgpu: WebgpuDevice): Promise<Peaks> => {
  const { device, settle } = webgpu;
  const measure = async (
    code: string,
    sizes: readonly number[],
    groups: number,
  ): Promise<number> => {
    const module = device.createShaderModule({ code });
    const pipeline = await settle(device.createComputePipelineAsync({
      layout: "auto",
      compute: { module, entryPoint: "main" },
    }));
    const usage = GPUBufferUsage.STORAGE;
    const buffers = sizes.map((size) => device.createBuffer({ size, usage }));
    const bindGroup = device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
    });
    const seconds = await best(webgpu, { pipeline, bindGroup, grid: [groups, 1, 1] });
    buffers.forEach((buffer) => buffer.destroy());
    return seconds;
  };
  const copy = await measure(copyCode, [COPIED, COPIED], COPIED / 16 / 256);
  const lanes = 256 * FLOP_GROUPS;
  const flops = await measure(flopCode(), [4 * (lanes + 2)], FLOP_GROUPS);
  return {
    bytesPerSecond: 2 * COPIED / copy,
    flopsPerSecond: 2 * CHAINS * UNROLLED * TURNS * lanes / flops,
  };
};
