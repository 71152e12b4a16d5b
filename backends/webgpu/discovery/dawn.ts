// Adapters through Dawn and the machine's Vulkan drivers: a real GPU, an installed software driver, or
// SwiftShader.
import * as E from "fp-ts/Either.js";
import { settler } from "../device/settle.ts";
import { isSoftware, keep, words } from "./adapter.ts";
import { swiftshader } from "./swiftshader.ts";

const dawn = (): Promise<{ readonly create: (options: string[]) => GPU }> => import("webgpu");

const hasVulkanLoader = (): boolean => {
  try {
    keep(Deno.dlopen("libvulkan.so.1", {}));
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

/** The adapter of a WebGPU implementation that is likely the fastest. */
export const requestFrom = async (gpu: GPU): Promise<GPUAdapter | null> => {
  keep(gpu);
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  return keep(adapter);
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
export const dawnWait = settler();

// Dawn with the machine's own drivers, looked up once.
let installed: GPU | undefined;

const requestInstalled = async (): Promise<GPUAdapter | null> => {
  installed ??= (await dawn()).create(toggles);
  return await requestFrom(installed);
};

/** The adapter of a kind of device through Dawn; or why there is none. */
export const dawnAdapter = async (
  kind: "gpu" | "software" | "swiftshader",
): Promise<GPUAdapter | string> => {
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
      if (!hasVulkanLoader()) keep(Deno.dlopen(loader, {}));
      const found = await withDriver(driver, () => requestFrom(create(toggles)));
      return found ?? "Dawn refused it";
    }
  }
};

/**
 * Whether Mesa compiles for this device at the first dispatch and caches the result on disk: then a
 * second device in the same process can compile for it.
 */
export const sharesCode = (adapter: GPUAdapter): boolean =>
  /llvmpipe/i.test(words(adapter).description) &&
  !/^(1|true|yes|y)$/i.test(Deno.env.get("MESA_SHADER_CACHE_DISABLE") ?? "");
