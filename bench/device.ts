// What both sides of a comparison run on: one adapter of WebGPU, or this machine's processor as
// WebAssembly, where each side brings threads of its own and the other's sleep.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../backends/backend.ts";
import { wasmBackend } from "../backends/wasm/backend.ts";
import { webgpuBackend } from "../backends/webgpu/backend.ts";
import { openShared, type Settle } from "./dawn.ts";

/** The kind of device: what libraries call it. */
export type Target = "webgpu" | "wasm";

/** A device that both sides have. */
export interface Device {
  readonly target: Target;
  /** The device in words. */
  readonly name: string;
  /** Our side. */
  readonly backend: Backend;
  /** How both sides wait. */
  readonly settle: Settle;
}

/** Opens `wasm`, `webgpu` (the best that Dawn finds), `gpu` or `software`. On the left, why not. */
export const openDevice = async (asked: string): Promise<E.Either<string, Device>> => {
  if (asked === "wasm") {
    const backend = wasmBackend();
    return E.right({
      target: "wasm",
      name: backend.device,
      backend,
      settle: (promise) => promise,
    });
  }
  const opened = await openShared(asked);
  if (E.isLeft(opened)) return opened;
  const { name, settle } = opened.right;
  return E.right({ target: "webgpu", name, backend: webgpuBackend(opened.right), settle });
};
