// Pipeline precompilation. Mesa's software driver compiles a shader at its first dispatch, in the
// single thread of the device's queue, which is nearly all of a training step's cold start. A
// second device in the same process has its own thread, and the first one finds its results in
// Mesa's cache on disk; so new pipelines are divided among as many devices as there are processors.
// Each is dispatched with zero workgroups, which touches no buffer. Without a writable cache the
// other devices' work is lost, and the first compiles the rest as it would have.
import type { WebgpuDevice } from "./device.ts";

/** A pipeline and its bindings. */
export interface UncompiledPipeline {
  readonly code: string;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
}

/** Least pipelines for each further device to be worth opening it. */
const WORTHWHILE = 6;
/** Most devices: each has its own threads and memory. */
const MOST = 8;

/** A function that dispatches pipelines of a device with zero workgroups, which compiles them. */
const emptyDispatch = ({ device, settle }: WebgpuDevice) => {
  // New buffers are zero, and so are the counts of workgroups.
  const counts = device.createBuffer({ size: 12, usage: GPUBufferUsage.INDIRECT });
  return async (pipeline: GPUComputePipeline, bindGroup: GPUBindGroup): Promise<void> => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroupsIndirect(counts, 0);
    pass.end();
    device.queue.submit([encoder.finish()]);
    await settle(device.queue.onSubmittedWorkDone());
  };
};

type Worker = (cold: UncompiledPipeline) => Promise<void>;

const ownWorker = (own: WebgpuDevice): Worker => {
  const dispatch = emptyDispatch(own);
  return ({ pipeline, bindGroup }) => dispatch(pipeline, bindGroup);
};

/** Compiles on another device, with pipelines and stand-ins for buffers of its own. */
const otherWorker = (other: WebgpuDevice): Worker => {
  const { device, settle } = other;
  const dispatch = emptyDispatch(other);
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.UNIFORM;
  const buffers: GPUBuffer[] = [];
  return async ({ code }) => {
    const module = device.createShaderModule({ code });
    const pipeline = await settle(
      device.createComputePipelineAsync({
        layout: "auto",
        compute: { module, entryPoint: "main" },
      }),
    );
    const bindings = code.match(/@binding\(/g)?.length ?? 0;
    while (buffers.length < bindings) buffers.push(device.createBuffer({ size: 4096, usage }));
    await dispatch(
      pipeline,
      device.createBindGroup({
        layout: pipeline.getBindGroupLayout(0),
        entries: buffers.slice(0, bindings).map((buffer, binding) => ({
          binding,
          resource: { buffer },
        })),
      }),
    );
  };
};

/** Milliseconds above which a pipeline was compiled and not found in the cache. */
const PATIENCE = 100;

/**
 * A function that compiles a device's pipelines in parallel before they are used, for drivers that
 * would not. Returns how many devices took part; the others are closed again.
 */
export const warmer = (
  own: WebgpuDevice,
): (colds: readonly UncompiledPipeline[]) => Promise<number> => {
  const done = new WeakSet<GPUComputePipeline>();
  return async (colds) => {
    const { another } = own;
    // The longest first, so that no device is left with a long one at the end.
    const queue = [...new Map(colds.map((cold) => [cold.code, cold])).values()]
      .filter(({ pipeline }) => !done.has(pipeline))
      .sort((a, b) => b.code.length - a.code.length);
    if (another === undefined || queue.length < 2 * WORTHWHILE) return 1;
    queue.forEach(({ pipeline }) => done.add(pipeline));
    let next = 0;
    const work = async (worker: Worker) => {
      while (next < queue.length) await worker(queue[next++]);
    };
    const finished = work(ownWorker(own));
    // While each pipeline is quick, it comes from the cache.
    for (let seen = -1; seen < next && next < queue.length;) {
      seen = next;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const passed = new Promise((resolve) => timer = setTimeout(resolve, PATIENCE));
      await Promise.race([finished, passed]);
      clearTimeout(timer);
    }
    const worthwhile = Math.max(1, Math.floor((queue.length - next) / WORTHWHILE));
    const devices = Math.min(navigator.hardwareConcurrency, MOST, worthwhile);
    const help = async () => {
      const other = await another();
      if (other === undefined) return;
      await work(otherWorker(other)).finally(() => other.device.destroy());
    };
    // Failures on other devices are left to the device itself, which reports them.
    const helped = Array.from({ length: devices - 1 }, () => help().catch(() => {}));
    await Promise.all([finished, ...helped]);
    return devices;
  };
};
