// Puts Dawn in place of the runtime's own WebGPU, so that libraries that look for `navigator.gpu` find
// the very adapter that we run on, with the same toggles.
import * as E from "fp-ts/Either.js";
import {
  deviceErrorMessage,
  deviceRequest,
  type OpenDevice,
  openDevice,
} from "../backends/webgpu/discovery/discover.ts";

/** Settles a promise of the device: how all sides wait. */
export type Settle = <T>(promise: Promise<T>) => Promise<T>;

// As in backends/webgpu/discovery/discover.ts: peers get what we get.
const toggles = [
  "enable-dawn-features=disable_robustness,disable_polyfills_on_integer_div_and_mod",
  "disable-dawn-features=timestamp_quantization",
];

// Dawn's objects must outlive everything made from them.
const kept: unknown[] = [];

/**
 * Opens a device and shows its adapter to libraries. `webgpu` is the best that Dawn finds. On the left,
 * why there is none to compare on, in words.
 */
export const openShared = async (asked: string): Promise<E.Either<string, OpenDevice>> => {
  const request = deviceRequest(asked === "webgpu" ? "auto" : asked);
  if (E.isLeft(request)) return E.left(deviceErrorMessage(request.left));
  const opened = await openDevice(request.right)();
  if (E.isLeft(opened)) return E.left(deviceErrorMessage(opened.left));
  const { kind, name } = opened.right;
  if (kind === "navigator") return opened;
  if (kind === "swiftshader") {
    return E.left(
      "peers cannot be given SwiftShader, which Dawn finds only while we open it; install Mesa's" +
        " Vulkan drivers (deno task doctor says how)",
    );
  }
  const { create, globals } = await import("webgpu");
  const gpu = create(kind === "software" ? [...toggles, "adapter=llvmpipe"] : toggles) as GPU;
  kept.push(gpu);
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null || adapter.info.description !== name && adapter.info.vendor !== name) {
    const other = adapter === null ? "none" : adapter.info.description;
    return E.left(`we run on ${name}, but peers would be given another adapter: ${other}`);
  }
  kept.push(adapter);
  Object.assign(globalThis, globals);
  Object.defineProperty(globalThis.navigator, "gpu", { value: gpu, configurable: true });
  return opened;
};
