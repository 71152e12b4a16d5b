// The WebGPU backend. Programs become pipelines once and memory is planned before anything runs; a
// run is one submission, and only requested values are read back.
import type { Backend, Machine, Program, Values } from "../backend.ts";
import { worthHalving } from "../lower/storage/half_precision.ts";
import { inTurn } from "../in_turn.ts";
import { byteLength } from "../lower/storage/plan_memory.ts";
import { debugLevel, showNotFinite, showProgram } from "../debug.ts";
import { axesOf, type Storage } from "../lower/kernel_ir.ts";
import { allocate, fill, paramPlaces, take } from "./buffers.ts";
import { compile, type Compiled, pathOf, programReport, writesOf } from "./compile.ts";
import type { WebgpuDevice } from "./device/device.ts";
import type { Target } from "./target.ts";
import { type Dispatch, measurePeaks, timeDispatches } from "./device/timing.ts";
import { warmer } from "./device/precompile.ts";

interface Executable {
  readonly one: Compiled;
  readonly dispatches: readonly Dispatch[];
  /** The staging buffer for outputs; undefined if there are none. */
  readonly staging: GPUBuffer | undefined;
}

/**
 * The results of promises, or the first rejection, once all have settled and use nothing any more.
 */
const allEnded = async <T>(promises: readonly Promise<T>[]): Promise<readonly T[]> => {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
};

/** Most pipelines that are cached for later programs. */
const mostPipelines = 4096;

/** The backend on an open device. */
export const webgpuBackend = (webgpu: WebgpuDevice): Backend => {
  const { device, name, onCpu, unrolls, storedLimit, subgroup, settle } = webgpu;
  const { halvesFrom = worthHalving, tuning, apart, parallelism, matrices = [] } = webgpu;
  const warm = warmer(webgpu);
  const level = debugLevel();
  const timed = device.features.has("timestamp-query");
  const hasHalves = device.features.has("shader-f16");

  const made = new Map<string, Promise<GPUComputePipeline>>();
  const compilePipeline = async (code: string, path: string): Promise<GPUComputePipeline> => {
    // The error scope keeps an error of this module out of another caller's wait.
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ code, label: path });
    const [wrong, pipeline] = await Promise.allSettled([
      settle(device.popErrorScope()),
      settle(device.createComputePipelineAsync({
        layout: "auto",
        compute: { module, entryPoint: "main" },
        label: path,
      })),
    ]);
    if (pipeline.status === "fulfilled") return pipeline.value;
    const reason = wrong.status === "fulfilled" && wrong.value !== null
      ? wrong.value.message
      : pipeline.reason.message;
    throw new Error(`the kernel '${path}' does not compile on ${name}: ${reason}\n${code}`);
  };
  const pipelineOf = (code: string, path: string): Promise<GPUComputePipeline> => {
    const found = made.get(code) ?? compilePipeline(code, path);
    // Moved to the end, so that the least recently used come first.
    made.delete(code);
    made.set(code, found);
    found.catch(() => made.delete(code));
    if (made.size > mostPipelines) made.delete(made.keys().next().value!);
    return found;
  };

  const open = async (programs: Readonly<Record<string, Program>>): Promise<Machine> => {
    const together = paramPlaces(Object.values(programs), device.limits);
    const place = {
      name,
      limits: device.limits,
      oneForParams: together !== undefined,
    };
    const targetOf = ({ precision = "f32" }: Program): Target => {
      const halves = precision === "f16" && hasHalves;
      const of = (type: "f16" | "f32") => matrices.find(({ component }) => component === type);
      return {
        onCpu,
        unrolls,
        storedLimit,
        subgroup: onCpu ? subgroup : undefined,
        matrices: (halves ? of("f16") : undefined) ?? of("f32"),
        tuning,
        apart,
        parallelism,
        halvesFrom: halves ? halvesFrom : undefined,
      };
    };
    const compiled = new Map(
      Object.entries(programs).map(([key, program]) =>
        [key, compile(program, { ...place, target: targetOf(program) })] as const
      ),
    );
    const buffers = allocate(device, compiled, together);
    const began = performance.now();
    // All pipelines are created before any is awaited, so that compilers run in parallel.
    const ready = [...compiled].map(async ([key, one]) => {
      const dispatches = await allEnded(one.steps.map(async (step): Promise<Dispatch> => {
        const { code } = step, path = pathOf(step);
        const pipeline = await pipelineOf(code.wgsl, path);
        const bindGroup = device.createBindGroup({
          layout: pipeline.getBindGroupLayout(0),
          entries: buffers.bindings(one, code, path).map((resource, binding) => ({
            binding,
            resource,
          })),
        });
        return { pipeline, bindGroup, grid: code.grid };
      }));
      const outputs = Object.values(one.lowered.outputs);
      const outputBytes = outputs.reduce((n, of) => n + byteLength(of), 0);
      const { MAP_READ, COPY_DST } = GPUBufferUsage;
      const staging = outputs.length === 0
        ? undefined
        : buffers.buffer(outputBytes, MAP_READ | COPY_DST, `${key} outputs`);
      return [key, { one, dispatches, staging }] as const;
    });
    const opened = async () => {
      const executables = new Map<string, Executable>(await allEnded(ready));
      const devices = await warm(
        [...executables.values()].flatMap(({ one, dispatches }) =>
          one.steps.map(({ code }, k) => ({ code: code.wgsl, ...dispatches[k] }))
        ),
      );
      return { executables, devices };
    };
    const { executables, devices } = await opened().catch((error) => {
      buffers.destroy();
      throw error;
    });
    const compiling = performance.now() - began;

    const executable = (key: string): Executable => executables.get(key)!;
    const report = (key: string) => programReport(executable(key).one);
    if (level >= 1) {
      for (const [key, { took }] of compiled) {
        showProgram(level, key, report(key), { ...took, pieces: "pipelines", compiling, devices });
      }
    }

    /** A program whose inputs are on the device. */
    const prepared = (key: string, inputs: Values): Executable => {
      buffers.inputs.get(key)!.forEach((target, name) => fill(device, target, inputs[name]));
      return executable(key);
    };

    const dispatch = (encoder: GPUCommandEncoder, list: readonly Dispatch[]) => {
      const pass = encoder.beginComputePass();
      for (const { pipeline, bindGroup, grid } of list) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, bindGroup);
        pass.dispatchWorkgroups(...grid);
      }
      pass.end();
    };

    /** Copies the new values of parameters that could not be computed in place. */
    const update = (encoder: GPUCommandEncoder, one: Compiled) => {
      for (const { from, to } of one.lowered.copies) {
        const source = buffers.place(one, from), target = buffers.place(one, to);
        encoder.copyBufferToBuffer(
          source.buffer,
          source.offset,
          target.buffer,
          target.offset,
          source.size,
        );
      }
    };

    /**
     * Copies storages one after the other to `staging`, submits the recorded commands, and reads
     * them.
     */
    const readBack = async (
      encoder: GPUCommandEncoder,
      from: readonly (readonly [Storage, Required<GPUBufferBinding>])[],
      staging: GPUBuffer,
    ): Promise<readonly (Float32Array | Uint32Array)[]> => {
      let end = 0;
      for (const [, { buffer, offset, size }] of from) {
        encoder.copyBufferToBuffer(buffer, offset, staging, end, size);
        end += size;
      }
      device.queue.submit([encoder.finish()]);
      await settle(staging.mapAsync(GPUMapMode.READ, 0, end));
      const bytes = staging.getMappedRange(0, end).slice(0);
      staging.unmap();
      let at = 0;
      return from.map(([storage, { size }]) => {
        at += size;
        return take(bytes, storage, at - size);
      });
    };

    /** As {@linkcode readBack}, with a temporary buffer. */
    const readOnce = async (
      encoder: GPUCommandEncoder,
      from: readonly (readonly [Storage, Required<GPUBufferBinding>])[],
    ) => {
      const size = from.reduce((n, [, place]) => n + place.size, 0);
      const { MAP_READ, COPY_DST } = GPUBufferUsage;
      const staging = device.createBuffer({ size, usage: MAP_READ | COPY_DST });
      try {
        return await readBack(encoder, from, staging);
      } finally {
        staging.destroy();
      }
    };

    /** Runs kernels one at a time, and reports the first that writes a value that is not finite. */
    const runChecked = async (key: string, { one, dispatches }: Executable) => {
      let sound = true;
      for (const [k, each] of dispatches.entries()) {
        const encoder = device.createCommandEncoder();
        dispatch(encoder, [each]);
        const step = one.steps[k];
        const from = step.kernels.flatMap(writesOf).filter((storage) => storage.dtype === "f32")
          .map((storage) => [storage, buffers.place(one, storage)] as const);
        if (!sound || from.length === 0) {
          device.queue.submit([encoder.finish()]);
          continue;
        }
        const values = await readOnce(encoder, from);
        sound = !values.some((data, n) =>
          showNotFinite(key, pathOf(step), axesOf(from[n][0].dims), data as Float32Array)
        );
      }
    };

    return {
      write: (values) => {
        for (const [key, data] of Object.entries(values)) {
          const target = buffers.params.get(key);
          if (target !== undefined) fill(device, target, data);
        }
      },
      run: async (key, inputs) => {
        const found = prepared(key, inputs);
        const { one, dispatches, staging } = found;
        const checked = level >= 4;
        if (checked) await runChecked(key, found);
        const encoder = device.createCommandEncoder();
        if (!checked) dispatch(encoder, dispatches);
        update(encoder, one);
        if (staging === undefined) {
          device.queue.submit([encoder.finish()]);
          await settle(device.queue.onSubmittedWorkDone());
          return {};
        }
        const outputs = Object.entries(one.lowered.outputs);
        const values = await readBack(
          encoder,
          outputs.map(([, storage]) => [storage, buffers.place(one, storage)]),
          staging,
        );
        return Object.fromEntries(outputs.map(([name], k) => [name, values[k]]));
      },
      read: async (names): Promise<Values> => {
        if (names.length === 0) return {};
        const from = names.map((key) => {
          const { storage, buffer, offset } = buffers.params.get(key)!;
          return [storage, { buffer, offset, size: byteLength(storage) }] as const;
        });
        const values = await readOnce(device.createCommandEncoder(), from);
        return Object.fromEntries(names.map((key, k) => [key, values[k]]));
      },
      report,
      ...(timed
        ? {
          time: async (key, inputs) => {
            const { one, dispatches } = prepared(key, inputs);
            const times = await timeDispatches(webgpu, dispatches);
            const encoder = device.createCommandEncoder();
            update(encoder, one);
            device.queue.submit([encoder.finish()]);
            return times;
          },
        }
        : {}),
      close: buffers.destroy,
    };
  };
  return inTurn({
    name: "webgpu",
    device: name,
    open,
    ...(timed ? { peaks: () => measurePeaks(webgpu) } : {}),
    close: webgpu.close,
  });
};
