// Compiling before the first dispatch. Mesa's software driver translates a shader when it is first
// dispatched, in the one thread of the device's queue, which for a training step is nearly all of a
// cold start. Another device in the same process has a thread of its own, and what it compiles the
// first one finds in Mesa's cache on disk; so new pipelines are shared among as many devices as there
// are processors. Each is dispatched over nothing: no buffer is touched. Where the cache is not
// written, the other devices' work is in vain and the first compiles what remains, as it would have.
import type { WebgpuDevice } from "./device.ts";

/** A pipeline with what it binds. */
export interface Cold {
  readonly code: string;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
}

/** Fewer pipelines than this for each device are not worth opening it. */
const WORTHWHILE = 6;
/** Most devices: each has its own threads and memory. */
const MOST = 8;

/** A function that dispatches pipelines of a device over no workgroup, which compiles them. */
const overNothing = ({ device, settle }: WebgpuDevice) => {
  // Buffers are zeros at first: so are the counts of workgroups.
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

type Worker = (cold: Cold) => Promise<void>;

const ownWorker = (own: WebgpuDevice): Worker => {
  const dispatch = overNothing(own);
  return ({ pipeline, bindGroup }) => dispatch(pipeline, bindGroup);
};

/** Compiles on another device, with pipelines and stand-ins for buffers of its own. */
const otherWorker = (other: WebgpuDevice): Worker => {
  const { device, settle } = other;
  const dispatch = overNothing(other);
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

/** Milliseconds after which a pipeline is taken to be compiled, and not found in the cache. */
const PATIENCE = 100;

/**
 * A function that compiles the pipelines of a device before they are used, where the driver would
 * not, in parallel. Gives how many devices compiled; the others are closed again.
 */
export const warmer = (own: WebgpuDevice): (colds: readonly Cold[]) => Promise<number> => {
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
    // As long as pipelines come one after the other they are found in the cache.
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
    // What fails elsewhere is left to the device itself, which says what is wrong.
    const helped = Array.from({ length: devices - 1 }, () => help().catch(() => {}));
    await Promise.all([finished, ...helped]);
    return devices;
  };
};
