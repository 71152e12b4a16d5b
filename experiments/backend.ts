// From a device's name on the command line to a backend, with what a user should know about it.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../backends/backend.ts";
import { referenceBackend } from "../backends/reference/backend.ts";
import { webgpuBackend } from "../backends/webgpu/backend.ts";
import {
  ADVICE,
  deviceErrorMessage,
  deviceRequest,
  openDevice,
} from "../backends/webgpu/discover.ts";

/** An open backend and remarks on how it came to be chosen. */
export interface Chosen {
  readonly backend: Backend;
  readonly notes: readonly string[];
}

/** Opens `auto`, one kind of device, or `reference`. On the left, why not, in words. */
export const openBackend = async (name: string): Promise<E.Either<string, Chosen>> => {
  if (name === "reference") return E.right({ backend: referenceBackend(), notes: [] });
  const request = deviceRequest(name);
  if (E.isLeft(request)) return E.left(deviceErrorMessage(request.left));
  const opened = await openDevice(request.right)();
  if (E.isRight(opened)) {
    return E.right({ backend: webgpuBackend(opened.right), notes: opened.right.notes });
  }
  if (name !== "auto") return E.left(deviceErrorMessage(opened.left));
  const warning =
    `warning: no WebGPU device was found, so this runs on the reference interpreter, which is very slow; ${ADVICE}`;
  return E.right({
    backend: referenceBackend(),
    notes: [...deviceErrorMessage(opened.left).split("\n"), warning],
  });
};
