// Finds a WebGPU device: a real GPU through Dawn, then an installed software driver, then
// SwiftShader, then the runtime's own `navigator.gpu`. A device's limits and features are checked
// here, and every obstacle is a value with a sentence.
import * as E from "fp-ts/Either.js";
import type * as TE from "fp-ts/TaskEither.js";
import type { WebgpuDevice } from "../device/device.ts";
import { matricesOf, type MatrixConfig, soundMatrices } from "./subgroup_matrix.ts";
import { swiftshader } from "./swiftshader.ts";
import { settler } from "../device/settle.ts";

/** The kinds of devices, in the order in which "auto" tries them. */
export const KINDS = ["gpu", "software", "swiftshader", "navigator"] as const;

/** The source of a device. */
export type DeviceKind = typeof KINDS[number];

/** A device request: a kind, or "auto". */
export type DeviceRequest = "auto" | DeviceKind;

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

/** An open device: the fields that the WebGPU backend needs, and its description. */
export interface OpenDevice extends WebgpuDevice {
  /** Its source. */
  readonly kind: DeviceKind;
  /** Its optional features. */
  readonly features: DeviceFeatures;
  /** Sentences for the user: which kinds were skipped, and why. */
  readonly notes: readonly string[];
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

/** Why one kind of device is not available. */
export type Refusal =
  | { readonly _tag: "NoAdapter"; readonly kind: DeviceKind; readonly why: string }
  | {
    readonly _tag: "TooSmall";
    readonly kind: DeviceKind;
    readonly name: string;
    readonly shortfalls: readonly Shortfall[];
  };

/** Why no device was opened. */
export type DeviceError =
  | { readonly _tag: "UnknownDevice"; readonly asked: string; readonly known: readonly string[] }
  | {
    readonly _tag: "NoDevice";
    readonly request: DeviceRequest;
    readonly refusals: readonly Refusal[];
  };

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

/** Parses a request as the user wrote it. */
export const deviceRequest = (asked: string): E.Either<DeviceError, DeviceRequest> => {
  const known: readonly DeviceRequest[] = ["auto", ...KINDS];
  const found = known.find((one) => one === asked);
  return found === undefined ? E.left({ _tag: "UnknownDevice", asked, known }) : E.right(found);
};

const WORDS: Readonly<Record<DeviceKind, string>> = {
  gpu: "a GPU through Dawn",
  software: "an installed software Vulkan driver",
  swiftshader: "SwiftShader",
  navigator: "the runtime's own navigator.gpu",
};

/** Advice for a machine on which no device was found. */
export const ADVICE: string =
  "install a Vulkan driver of your GPU, or Mesa 25 or newer (Debian 12: mesa-vulkan-drivers and" +
  " libvulkan1 from bookworm-backports)";

/** One sentence on a kind that is not available. */
export const refusalMessage = (refusal: Refusal): string =>
  refusal._tag === "NoAdapter"
    ? `${WORDS[refusal.kind]}: ${refusal.why}`
    : `${WORDS[refusal.kind]}: ${refusal.name} is too small: ${
      refusal.shortfalls.map(({ limit, found, needed }) =>
        `${limit} is ${found}, needed are ${needed}`
      ).join("; ")
    }`;

/** One sentence: what was wrong, what was expected, what to do. */
export const deviceErrorMessage = (error: DeviceError): string =>
  error._tag === "UnknownDevice"
    ? `there is no device '${error.asked}'; known are ${error.known.join(", ")}`
    : `no WebGPU device was found (asked for: ${error.request}); tried ${
      error.refusals.map(refusalMessage).join(" | ")
    }; to get one, ${ADVICE}`;

/** A usable adapter, not yet opened. */
interface Candidate {
  readonly kind: DeviceKind;
  readonly name: string;
  readonly adapter: GPUAdapter;
  readonly features: DeviceFeatures;
  readonly limits: Readonly<Record<string, number>>;
}

// Dawn's objects must outlive everything made from them: if they are collected early, the process
// crashes.
const kept: unknown[] = [];

const why = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause);

const dawn = (): Promise<{ readonly create: (options: string[]) => GPU }> => import("webgpu");

const hasVulkanLoader = (): boolean => {
  try {
    kept.push(Deno.dlopen("libvulkan.so.1", {}));
    return true;
  } catch {
    return false;
  }
};

/** Dawn reads the driver's variable while it searches for adapters, before it returns. */
const withDriver = <A>(driver: string, action: () => A): A => {
  const before = Deno.env.get("VK_DRIVER_FILES");
  Deno.env.set("VK_DRIVER_FILES", driver);
  try {
    return action();
  } finally {
    if (before === undefined) Deno.env.delete("VK_DRIVER_FILES");
    else Deno.env.set("VK_DRIVER_FILES", before);
  }
};

const requestFrom = async (gpu: GPU): Promise<GPUAdapter | null> => {
  kept.push(gpu);
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  kept.push(adapter);
  return adapter;
};

// Generated code reads and divides within bounds by construction (codegen/verify_addresses.ts), so
// Dawn need not check again: a step on a software driver takes 0.6 of the time. Timestamps are not
// rounded to 0.1 ms: that protects against untrusted pages. Subgroup matrices count as unsafe
// because they are new.
const toggles = [
  "enable-dawn-features=disable_robustness,disable_polyfills_on_integer_div_and_mod,allow_unsafe_apis",
  "disable-dawn-features=timestamp_quantization",
];

// One loop of immediates serves every open device.
const dawnWait = settler();

// Dawn with the machine's own drivers, looked up once.
let installed: GPU | undefined;

const requestInstalled = async (): Promise<GPUAdapter | null> => {
  installed ??= (await dawn()).create(toggles);
  return await requestFrom(installed);
};

const words = ({ info }: GPUAdapter): AdapterWords => info as unknown as AdapterWords;

const adapterOf = async (kind: DeviceKind): Promise<GPUAdapter | string> => {
  switch (kind) {
    case "gpu": {
      const found = await requestInstalled();
      if (found === null) return "Dawn found no adapter";
      return isSoftware(words(found)) ? "the machine has none that Dawn can use" : found;
    }
    case "software": {
      const found = await requestInstalled();
      if (found === null) return "none is installed, or it is too old for Dawn";
      if (isSoftware(words(found))) return found;
      // A GPU goes first in Dawn's list, and asking for a fallback finds nothing but SwiftShader.
      return await requestFrom((await dawn()).create([...toggles, "adapter=llvmpipe"])) ??
        "none is installed";
    }
    case "swiftshader": {
      const unpacked = await swiftshader()();
      if (E.isLeft(unpacked)) return unpacked.left;
      const { driver, loader } = unpacked.right;
      const { create } = await dawn();
      if (!hasVulkanLoader()) kept.push(Deno.dlopen(loader, {}));
      const found = await withDriver(driver, () => requestFrom(create(toggles)));
      return found ?? "Dawn refused it";
    }
    case "navigator": {
      const gpu = globalThis.navigator?.gpu;
      if (gpu === undefined) return "this runtime has none";
      return await requestFrom(gpu) ?? "it offers no adapter";
    }
  }
};

/**
 * Searches for one kind of device without opening it. On the left, why there is none, or the limits
 * that it does not reach.
 */
const candidate = (kind: DeviceKind): TE.TaskEither<Refusal, Candidate> => async () => {
  try {
    const adapter = await adapterOf(kind);
    if (typeof adapter === "string") return E.left({ _tag: "NoAdapter", kind, why: adapter });
    const limits = Object.fromEntries(
      RAISED_LIMITS.map((limit) => [limit, Number(Reflect.get(adapter.limits, limit))]),
    );
    const { description, vendor, architecture } = words(adapter);
    const name = description || [vendor, architecture].filter((word) => word !== "").join(" ") ||
      WORDS[kind];
    const lacking = shortfalls(limits);
    if (lacking.length > 0) {
      return E.left({ _tag: "TooSmall", kind, name, shortfalls: lacking });
    }
    const features = {
      shaderF16: adapter.features.has("shader-f16"),
      subgroups: adapter.features.has("subgroups"),
      timestampQuery: adapter.features.has("timestamp-query"),
      subgroupMatrix: adapter.features.has(MATRICES),
    };
    return E.right({ kind, name, adapter, features, limits });
  } catch (cause) {
    return E.left({ _tag: "NoAdapter", kind, why: why(cause) });
  }
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

/**
 * Whether Mesa compiles for this device at the first dispatch and caches the result on disk: then a
 * second device in the same process can compile for it.
 */
const sharesCode = (adapter: GPUAdapter): boolean =>
  /llvmpipe/i.test(words(adapter).description) &&
  !/^(1|true|yes|y)$/i.test(Deno.env.get("MESA_SHADER_CACHE_DISABLE") ?? "");

const open = async (
  { kind, name, adapter, features, limits }: Candidate,
  notes: readonly string[],
): Promise<OpenDevice> => {
  const device = await adapter.requestDevice({
    requiredLimits: { ...limits },
    requiredFeatures: FEATURES.filter((feature) => adapter.features.has(feature)),
  });
  kept.push(device);
  const unheard = watch(device);
  // Errors that were not awaited are thrown by the next wait, or by closing: none is lost.
  const throwUnheard = () => {
    const errors = unheard();
    if (errors.length > 0) throw new Error(`${name}: ${errors.join("; ")}`);
  };
  const wait = kind === "navigator" ? <T>(promise: Promise<T>) => promise : dawnWait;
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
  const another = async (): Promise<WebgpuDevice | undefined> => {
    const found = await candidate(kind)();
    return E.isLeft(found) ? undefined : await open(found.right, []);
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
    kind,
    features,
    notes,
    ...(sharesCode(adapter) ? { another } : {}),
  };
  if (!features.subgroupMatrix || least !== most) return opened;
  const { subgroupMatrixConfigs: offered = [] } = adapter.info as GPUAdapterInfo & {
    readonly subgroupMatrixConfigs?: readonly MatrixConfig[];
  };
  const { matrices, refused } = await soundMatrices(opened, matricesOf(offered, most));
  return { ...opened, matrices, notes: [...notes, ...refused] };
};

/**
 * Opens a device: of the kind asked for, or with "auto" the first kind of {@linkcode KINDS} that
 * works. On the left, everything that was tried and why it was refused; the caller may then turn to
 * the reference interpreter, with a warning made of {@linkcode deviceErrorMessage}.
 */
export const openDevice =
  (request: DeviceRequest): TE.TaskEither<DeviceError, OpenDevice> => async () => {
    const refusals: Refusal[] = [];
    for (const kind of request === "auto" ? KINDS : [request]) {
      const found = await candidate(kind)();
      if (E.isLeft(found)) {
        refusals.push(found.left);
        continue;
      }
      try {
        return E.right(await open(found.right, refusals.map(refusalMessage)));
      } catch (cause) {
        refusals.push({ _tag: "NoAdapter", kind, why: `it does not open: ${why(cause)}` });
      }
    }
    return E.left({ _tag: "NoDevice", request, refusals });
  };
