// A WebGPU adapter and its device, wherever they come from: which limits and features are needed and
// asked for, what the adapter says of itself, and that no error of the device is lost. Nothing here
// knows a driver or a runtime.
import type { WebgpuDevice } from "../device/device.ts";
import { matricesOf, type MatrixConfig, soundMatrices } from "./subgroup_matrix.ts";

/** Optional features of a device. */
export interface DeviceFeatures {
  /** f16 in shaders. */
  readonly shaderF16: boolean;
  /** Sums and shuffles among the lanes of a subgroup. */
  readonly subgroups: boolean;
  /** Time stamps around a pass. */
  readonly timestampQuery: boolean;
  /** Multiplication of small matrices by subgroups: tensor cores. */
  readonly subgroupMatrix: boolean;
}

/** A limit that a device does not reach. */
export interface Shortfall {
  /** Its name in WebGPU, such as `maxBufferSize`. */
  readonly limit: string;
  /** The device's value. */
  readonly found: number;
  /** The value that kernels require. */
  readonly needed: number;
}

/** Limits that kernels require; the comment of each says which. */
export const NEEDED_LIMITS: Readonly<Record<string, number>> = {
  // WebGPU guarantees 8. All intermediate values can share one binding, but parameters and inputs
  // have a binding each, and a kernel of an optimiser or a norm has up to 9.
  maxStorageBuffersPerShaderStage: 10,
  // Tiles of a matrix product.
  maxComputeWorkgroupStorageSize: 16384,
  // One workgroup of 256.
  maxComputeInvocationsPerWorkgroup: 256,
  // The intermediate values of a training step, in bytes.
  maxBufferSize: 268435456,
};

/** Limits that are requested at the device's maximum. */
const RAISED_LIMITS: readonly string[] = [
  ...Object.keys(NEEDED_LIMITS),
  "maxStorageBufferBindingSize",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
];

const MATRICES = "chromium-experimental-subgroup-matrix" as GPUFeatureName;
const FEATURES = ["shader-f16", "subgroups", "timestamp-query", MATRICES] as const;

/** The required limits that a device does not reach; empty if it is usable. */
export const shortfalls = (limits: Readonly<Record<string, number>>): readonly Shortfall[] =>
  Object.entries(NEEDED_LIMITS)
    .map(([limit, needed]) => ({ limit, found: limits[limit] ?? 0, needed }))
    .filter(({ found, needed }) => !(found >= needed));

/** The fields that distinguish a real GPU from a driver that computes on the CPU. */
export interface AdapterWords {
  /** Its vendor: `nvidia`, `mesa`. */
  readonly vendor: string;
  /** Its family: `ampere`, `software`. */
  readonly architecture: string;
  /** Its model, if the driver reports it. */
  readonly device: string;
  /** Driver and version. */
  readonly description: string;
  /** Whether WebGPU calls it a fallback adapter. */
  readonly isFallbackAdapter?: boolean;
}

/** Whether an adapter computes on the CPU, by its own description. */
export const isSoftware = (info: AdapterWords): boolean =>
  info.isFallbackAdapter === true ||
  /llvmpipe|lavapipe|swiftshader|software|basic render|\bwarp\b/i.test(
    `${info.vendor} ${info.architecture} ${info.device} ${info.description}`,
  );

/** A usable adapter, not yet opened. */
export interface Candidate {
  readonly name: string;
  readonly adapter: GPUAdapter;
  readonly features: DeviceFeatures;
  readonly limits: Readonly<Record<string, number>>;
  /** The needed limits that it does not reach; with any, it is of no use. */
  readonly shortfalls: readonly Shortfall[];
}

// Dawn's objects must outlive everything made from them: if they are collected early, the process
// crashes.
const kept: unknown[] = [];
/** Keeps an object of WebGPU until the process ends. */
export const keep = <T>(object: T): T => {
  kept.push(object);
  return object;
};

/** What an adapter says of itself. */
export const words = ({ info }: GPUAdapter): AdapterWords => info as unknown as AdapterWords;

/** What an adapter offers; `fallback` is its name where it says none. */
export const candidateOf = (adapter: GPUAdapter, fallback: string): Candidate => {
  const limits = Object.fromEntries(
    RAISED_LIMITS.map((limit) => [limit, Number(Reflect.get(adapter.limits, limit))]),
  );
  const { description, vendor, architecture } = words(adapter);
  return {
    name: description || [vendor, architecture].filter((word) => word !== "").join(" ") || fallback,
    adapter,
    features: {
      shaderF16: adapter.features.has("shader-f16"),
      subgroups: adapter.features.has("subgroups"),
      timestampQuery: adapter.features.has("timestamp-query"),
      subgroupMatrix: adapter.features.has(MATRICES),
    },
    limits,
    shortfalls: shortfalls(limits),
  };
};

/** Takes the unreported errors of a device, oldest first. */
const watch = (device: GPUDevice): () => readonly string[] => {
  const errors: string[] = [];
  device.addEventListener("uncapturederror", (event) => {
    event.preventDefault();
    errors.push((event as GPUUncapturedErrorEvent).error.message);
  });
  device.lost.then(({ reason, message }) => {
    if (reason !== "destroyed") errors.push(`the device was lost: ${message}`);
  });
  return () => errors.splice(0);
};

/** What was thrown, in words. */
export const why = (cause: unknown): string =>
  cause instanceof Error ? cause.message : String(cause);

/** A device with its features, and sentences on what of it is not used. */
export interface Opened extends WebgpuDevice {
  /** Its optional features. */
  readonly features: DeviceFeatures;
  /** Sentences for the user. */
  readonly notes: readonly string[];
}

/** Opens the device of an adapter. `wait` is how the runtime waits for what the device promises. */
export const openAdapter = async (
  { name, adapter, features, limits }: Candidate,
  wait: <T>(promise: Promise<T>) => Promise<T> = (promise) => promise,
): Promise<Opened> => {
  const device = await adapter.requestDevice({
    requiredLimits: { ...limits },
    requiredFeatures: FEATURES.filter((feature) => adapter.features.has(feature)),
  });
  keep(device);
  const unheard = watch(device);
  // Errors that were not awaited are thrown by the next wait, or by closing: none is lost.
  const throwUnheard = () => {
    const errors = unheard();
    if (errors.length > 0) throw new Error(`${name}: ${errors.join("; ")}`);
  };
  const settle = async <T>(promise: Promise<T>): Promise<T> => {
    let value: T;
    try {
      value = await wait(promise);
    } catch (cause) {
      // The error that the caller awaited comes first; the device's own may say more.
      throw new Error([why(cause), ...unheard()].join("; "), { cause });
    }
    throwUnheard();
    return value;
  };
  const close = () => {
    device.destroy();
    throwUnheard();
  };
  const onCpu = isSoftware(words(adapter));
  const { subgroupMinSize: least, subgroupMaxSize: most } = adapter.info;
  const opened = {
    device,
    name,
    onCpu,
    unrolls: onCpu,
    ...(onCpu && features.subgroups && least === most ? { subgroup: least } : {}),
    settle,
    close,
    features,
    notes: [],
  };
  if (!features.subgroupMatrix || least !== most) return opened;
  const { subgroupMatrixConfigs: offered = [] } = adapter.info as GPUAdapterInfo & {
    readonly subgroupMatrixConfigs?: readonly MatrixConfig[];
  };
  const { matrices, refused } = await soundMatrices(opened, matricesOf(offered, most));
  return { ...opened, matrices, notes: refused };
};
