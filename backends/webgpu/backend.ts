// The WebGPU backend: programs become pipelines once, buffers are planned before anything runs, and
// a run is one submission in which nothing is read back but what was asked for.
import type { Backend, KernelReport, Machine, Program, Values } from "../backend.ts";
import { plan } from "../lower/memory.ts";
import { axesOf, type Kernel, type Lowered, size, type Storage } from "../lower/program.ts";
import { lower } from "../lower/schedule.ts";
import { inArena } from "./emit.ts";
import { type Code, printExpression, type Target } from "./kernels.ts";
import { printScan } from "./scan.ts";

/** A device and how to wait for it. */
export interface WebgpuDevice {
  readonly device: GPUDevice;
  /** The device in words. */
  readonly name: string;
  /** True when a software driver runs the shaders. */
  readonly onCpu: boolean;
  /** Settles a promise of the device without stalling. */
  readonly settle: <T>(promise: Promise<T>) => Promise<T>;
  readonly close: () => void;
}

interface Compiled {
  readonly lowered: Lowered;
  readonly codes: readonly Code[];
  readonly offsets: ReadonlyMap<number, number>;
  readonly arenaBytes: number;
}

const byteLength = (storage: Storage): number => Math.max(4 * size(storage.dims), 4);

const describe = (storage: Storage): string =>
  storage.dims.length === 0
    ? "1 element"
    : `${storage.dims.map((dim) => `${dim.axis} ${dim.size}`).join(" x ")} = ${
      size(storage.dims)
    } elements`;

const compile = (program: Program, limits: GPUSupportedLimits, target: Target): Compiled => {
  const lowered = lower(program);
  const codes = lowered.kernels.map((kernel) => {
    const print = (pack: boolean) =>
      kernel.shape === "scan"
        ? printScan(kernel, lowered.stored, pack)
        : printExpression(kernel, lowered.stored, target, pack);
    const code = print(false);
    return code.bindings.length <= limits.maxStorageBuffersPerShaderStage ? code : print(true);
  });
  const uses = codes.map(storagesOf);
  const kept = [...Object.values(lowered.outputs), ...lowered.copies.map((copy) => copy.from)];
  const arena = plan(uses, kept, limits.minStorageBufferOffsetAlignment);
  return { lowered, codes, offsets: arena.offsets, arenaBytes: arena.bytes };
};

const storagesOf = (code: Code): readonly Storage[] => [
  ...code.bindings.map((binding) => binding.storage),
  ...code.packed,
];

const writesOf = (kernel: Kernel): readonly Storage[] => [
  ...kernel.roots.map((root) => root.storage),
  ...(kernel.shape === "scan" ? Object.values(kernel.checkpoints?.storage ?? {}) : []),
];

const report = (kernel: Kernel, code: Code): KernelReport => {
  const roots = new Set(writesOf(kernel));
  const written = storagesOf(code).filter((storage) => roots.has(storage));
  const read = storagesOf(code).filter((storage) =>
    !roots.has(storage) || storage.role === "param"
  );
  const total = (list: readonly Storage[]) => list.reduce((n, of) => n + byteLength(of), 0);
  return {
    path: kernel.path,
    shape: kernel.shape,
    grid: code.grid,
    flops: code.flops,
    bytesRead: total(read),
    bytesWritten: total(written),
    code: code.wgsl,
    writes: written.map((storage) => axesOf(storage.dims)),
  };
};

/** The backend on an open device. */
export const webgpuBackend = ({ device, name, onCpu, settle, close }: WebgpuDevice): Backend => {
  const modules = new Map<string, Promise<GPUComputePipeline>>();
  const pipeline = (code: string, path: string): Promise<GPUComputePipeline> => {
    const found = modules.get(code);
    if (found !== undefined) return found;
    const module = device.createShaderModule({ code, label: path });
    const made = device.createComputePipelineAsync({
      layout: "auto",
      compute: { module, entryPoint: "main" },
      label: path,
    }).catch((cause) => {
      throw new Error(
        `the kernel '${path}' does not compile on ${name}: ${cause.message}\n${code}`,
      );
    });
    modules.set(code, made);
    return made;
  };

  const open = async (programs: Readonly<Record<string, Program>>): Promise<Machine> => {
    const { limits } = device;
    const compiled = new Map(
      Object.entries(programs).map(([key, program]) =>
        [key, compile(program, limits, { onCpu })] as const
      ),
    );
    const arenaBytes = Math.max(4, ...[...compiled.values()].map((one) => one.arenaBytes));
    if (arenaBytes > limits.maxBufferSize) {
      throw new RangeError(
        `the program needs ${arenaBytes} bytes for intermediate values, but ${name} allows buffers of` +
          ` ${limits.maxBufferSize} (maxBufferSize); use a smaller batch`,
      );
    }
    for (const { codes, lowered } of compiled.values()) {
      codes.forEach((code, k) => {
        const large = storagesOf(code).find((of) =>
          byteLength(of) > limits.maxStorageBufferBindingSize
        );
        if (large !== undefined) {
          throw new RangeError(
            `the kernel '${lowered.kernels[k].path}' needs a value of ${
              describe(large)
            }, which is ${
              byteLength(large)
            } bytes, but ${name} binds at most ${limits.maxStorageBufferBindingSize}` +
              ` (maxStorageBufferBindingSize); use a smaller batch`,
          );
        }
        if (code.bindings.length > limits.maxStorageBuffersPerShaderStage) {
          throw new RangeError(
            `the kernel '${
              lowered.kernels[k].path
            }' needs ${code.bindings.length} buffers, but ${name}` +
              ` allows ${limits.maxStorageBuffersPerShaderStage} (maxStorageBuffersPerShaderStage)`,
          );
        }
      });
    }
    const buffers: GPUBuffer[] = [];
    const buffer = (bytes: number, usage: number, label: string): GPUBuffer => {
      const made = device.createBuffer({ size: Math.ceil(bytes / 4) * 4, usage, label });
      buffers.push(made);
      return made;
    };
    const inOut = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
    const arena = buffer(arenaBytes, inOut, "arena");
    const params = new Map<string, { readonly storage: Storage; readonly buffer: GPUBuffer }>();
    const written = new Set<string>();
    const given = new Map<
      string,
      Map<string, { readonly storage: Storage; readonly buffer: GPUBuffer }>
    >();
    const held = new Map<Storage, GPUBuffer>();
    const literals = new Map<Float32Array | Uint32Array, GPUBuffer>();
    for (const [key, { lowered }] of compiled) {
      for (const storage of lowered.params) {
        const known = params.get(storage.name!);
        if (known === undefined) {
          const made = buffer(byteLength(storage), inOut, storage.name!);
          params.set(storage.name!, { storage, buffer: made });
          held.set(storage, made);
        } else {
          if (describe(known.storage) !== describe(storage)) {
            throw new RangeError(
              `the parameter '${storage.name}' is ${describe(known.storage)} in one program and ${
                describe(storage)
              } in another`,
            );
          }
          held.set(storage, known.buffer);
        }
      }
      const inputs = new Map<string, { readonly storage: Storage; readonly buffer: GPUBuffer }>();
      for (const storage of lowered.inputs) {
        const made = buffer(byteLength(storage), inOut, storage.name!);
        inputs.set(storage.name!, { storage, buffer: made });
        held.set(storage, made);
      }
      given.set(key, inputs);
      for (const storage of lowered.literals) {
        const data = storage.data!;
        const made = literals.get(data) ?? buffer(byteLength(storage), inOut, "literal");
        if (!literals.has(data)) {
          device.queue.writeBuffer(
            made,
            0,
            data.buffer as ArrayBuffer,
            data.byteOffset,
            data.byteLength,
          );
        }
        literals.set(data, made);
        held.set(storage, made);
      }
    }
    const place = (one: Compiled, storage: Storage): GPUBufferBinding =>
      inArena(storage)
        ? { buffer: arena, offset: one.offsets.get(storage.id)!, size: byteLength(storage) }
        : { buffer: held.get(storage)! };

    /** The stretch of the arena that holds all that a kernel packs, and where in it each value is. */
    const packedPlaces = (one: Compiled, code: Code, path: string): readonly GPUBufferBinding[] => {
      if (code.packed.length === 0) return [];
      const starts = code.packed.map((storage) => one.offsets.get(storage.id)!);
      const start = Math.min(...starts);
      const end = Math.max(...code.packed.map((storage, k) => starts[k] + byteLength(storage)));
      if (end - start > limits.maxStorageBufferBindingSize) {
        throw new RangeError(
          `the kernel '${path}' needs ${end - start} bytes in one binding, but ${name} allows` +
            ` ${limits.maxStorageBufferBindingSize} (maxStorageBufferBindingSize); use a smaller batch`,
        );
      }
      const places = new Uint32Array(Math.ceil(starts.length / 4) * 4);
      starts.forEach((at, k) => places[k] = (at - start) / 4);
      const made = buffer(
        places.byteLength,
        GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
        `${path} places`,
      );
      device.queue.writeBuffer(made, 0, places);
      return [{ buffer: arena, offset: start, size: end - start }, { buffer: made }];
    };

    // All pipelines are asked for before any is awaited: compilers run in parallel.
    const ready = [...compiled].map(async ([key, one]) => {
      const dispatches = await Promise.all(one.codes.map(async (code, k) => {
        const made = await settle(pipeline(code.wgsl, one.lowered.kernels[k].path));
        const resources = [
          ...code.bindings.map(({ storage }) => place(one, storage)),
          ...packedPlaces(one, code, one.lowered.kernels[k].path),
        ];
        const bindGroup = device.createBindGroup({
          layout: made.getBindGroupLayout(0),
          entries: resources.map((resource, binding) => ({ binding, resource })),
        });
        return { pipeline: made, bindGroup, grid: code.grid };
      }));
      const outputBytes = Object.values(one.lowered.outputs).reduce(
        (n, of) => n + byteLength(of),
        0,
      );
      const staging = buffer(
        Math.max(4, outputBytes),
        GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
        `${key} outputs`,
      );
      return [key, { one, dispatches, staging, outputBytes }] as const;
    });
    const executables = new Map(await Promise.all(ready));

    const fill = (
      target: { readonly storage: Storage; readonly buffer: GPUBuffer },
      data: Float32Array | Uint32Array,
      what: string,
    ) => {
      const { storage, buffer } = target;
      const wanted = storage.dtype === "f32" ? Float32Array : Uint32Array;
      if (!(data instanceof wanted)) {
        throw new TypeError(
          `${what} holds ${storage.dtype} and takes a ${wanted.name}, not a ${data.constructor.name}`,
        );
      }
      if (data.length !== size(storage.dims)) {
        throw new RangeError(`${what} has ${describe(storage)}, but got ${data.length}`);
      }
      device.queue.writeBuffer(
        buffer,
        0,
        data.buffer as ArrayBuffer,
        data.byteOffset,
        data.byteLength,
      );
    };

    const take = (
      bytes: ArrayBuffer,
      storage: Storage,
      offset: number,
    ): Float32Array | Uint32Array => {
      const Kind = storage.dtype === "f32" ? Float32Array : Uint32Array;
      return new Kind(bytes.slice(offset, offset + 4 * size(storage.dims)));
    };

    return {
      write: (values) => {
        for (const [key, data] of Object.entries(values)) {
          const target = params.get(key);
          if (target === undefined) continue;
          fill(target, data, `the parameter '${key}'`);
          written.add(key);
        }
      },
      run: async (key, inputs) => {
        const found = executables.get(key);
        if (found === undefined) {
          throw new RangeError(
            `there is no program '${key}'; there is ${[...executables.keys()].join(", ")}`,
          );
        }
        const { one, dispatches, staging, outputBytes } = found;
        const missing = one.lowered.params.find((storage) => !written.has(storage.name!));
        if (missing !== undefined) {
          throw new RangeError(`the parameter '${missing.name}' has not been set`);
        }
        for (const [name, target] of given.get(key)!) {
          const data = inputs[name];
          if (data === undefined) throw new RangeError(`the input '${name}' is missing`);
          fill(target, data, `the input '${name}'`);
        }
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        for (const { pipeline, bindGroup, grid } of dispatches) {
          pass.setPipeline(pipeline);
          pass.setBindGroup(0, bindGroup);
          pass.dispatchWorkgroups(...grid);
        }
        pass.end();
        for (const { from, to } of one.lowered.copies) {
          encoder.copyBufferToBuffer(
            arena,
            one.offsets.get(from.id)!,
            held.get(to)!,
            0,
            byteLength(from),
          );
        }
        let offset = 0;
        for (const storage of Object.values(one.lowered.outputs)) {
          encoder.copyBufferToBuffer(
            arena,
            one.offsets.get(storage.id)!,
            staging,
            offset,
            byteLength(storage),
          );
          offset += byteLength(storage);
        }
        device.queue.submit([encoder.finish()]);
        if (outputBytes === 0) {
          await settle(device.queue.onSubmittedWorkDone());
          return {};
        }
        await settle(staging.mapAsync(GPUMapMode.READ, 0, outputBytes));
        const bytes = staging.getMappedRange(0, outputBytes).slice(0);
        staging.unmap();
        const values: Record<string, Float32Array | Uint32Array> = {};
        offset = 0;
        for (const [name, storage] of Object.entries(one.lowered.outputs)) {
          values[name] = take(bytes, storage, offset);
          offset += byteLength(storage);
        }
        return values;
      },
      read: async (names): Promise<Values> => {
        const list = names.map((key) => {
          const found = params.get(key);
          if (found === undefined) throw new RangeError(`there is no parameter '${key}'`);
          return { key, ...found };
        });
        const total = list.reduce((n, { storage }) => n + byteLength(storage), 0);
        if (total === 0) return {};
        const staging = device.createBuffer({
          size: total,
          usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
        });
        const encoder = device.createCommandEncoder();
        let offset = 0;
        for (const { storage, buffer } of list) {
          encoder.copyBufferToBuffer(buffer, 0, staging, offset, byteLength(storage));
          offset += byteLength(storage);
        }
        device.queue.submit([encoder.finish()]);
        await settle(staging.mapAsync(GPUMapMode.READ));
        const bytes = staging.getMappedRange().slice(0);
        staging.destroy();
        offset = 0;
        return Object.fromEntries(list.map(({ key, storage }) => {
          const value = take(bytes, storage, offset);
          offset += byteLength(storage);
          return [key, value];
        }));
      },
      report: (key) => {
        const { one } = executables.get(key)!;
        return {
          kernels: one.lowered.kernels.map((kernel, k) => report(kernel, one.codes[k])),
          pipelines: new Set(one.codes.map((code) => code.wgsl)).size,
          peakBytes: one.arenaBytes,
        };
      },
      close: () => buffers.forEach((made) => made.destroy()),
    };
  };
  return { name: "webgpu", device: name, open, close };
};
