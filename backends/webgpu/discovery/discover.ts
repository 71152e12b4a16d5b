// Finds a WebGPU device: a real GPU through Dawn, then an installed software driver, then
// SwiftShader, then the runtime's own `navigator.gpu`. Every obstacle is a value with a sentence.
import * as E from "fp-ts/Either.js";
import type * as TE from "fp-ts/TaskEither.js";
import type { WebgpuDevice } from "../device/device.ts";
import {
  type Candidate,
  candidateOf,
  openAdapter,
  type Opened,
  type Shortfall,
  why,
} from "./adapter.ts";
import { dawnAdapter, dawnWait, requestFrom, sharesCode } from "./dawn.ts";

/** The kinds of devices, in the order in which "auto" tries them. */
export const KINDS = ["gpu", "software", "swiftshader", "navigator"] as const;

/** The source of a device. */
export type DeviceKind = typeof KINDS[number];

/** A device request: a kind, or "auto". */
export type DeviceRequest = "auto" | DeviceKind;

/** An open device: the fields that the WebGPU backend needs, and its description. */
export interface OpenDevice extends Opened {
  /** Its source. */
  readonly kind: DeviceKind;
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

const adapterOf = async (kind: DeviceKind): Promise<GPUAdapter | string> => {
  if (kind !== "navigator") return await dawnAdapter(kind);
  const gpu = globalThis.navigator?.gpu;
  if (gpu === undefined) return "this runtime has none";
  return await requestFrom(gpu) ?? "it offers no adapter";
};

/**
 * Searches for one kind of device without opening it. On the left, why there is none, or the limits
 * that it does not reach.
 */
const candidate = (kind: DeviceKind): TE.TaskEither<Refusal, Candidate> => async () => {
  try {
    const adapter = await adapterOf(kind);
    if (typeof adapter === "string") return E.left({ _tag: "NoAdapter", kind, why: adapter });
    const found = candidateOf(adapter, WORDS[kind]);
    const { name, shortfalls } = found;
    return shortfalls.length > 0
      ? E.left({ _tag: "TooSmall", kind, name, shortfalls })
      : E.right(found);
  } catch (cause) {
    return E.left({ _tag: "NoAdapter", kind, why: why(cause) });
  }
};

const open = async (
  kind: DeviceKind,
  found: Candidate,
  skipped: readonly string[],
): Promise<OpenDevice> => {
  const opened = await openAdapter(found, kind === "navigator" ? undefined : dawnWait);
  const another = async (): Promise<WebgpuDevice | undefined> => {
    const again = await candidate(kind)();
    return E.isLeft(again) ? undefined : await open(kind, again.right, []);
  };
  return {
    ...opened,
    kind,
    notes: [...skipped, ...opened.notes],
    ...(sharesCode(found.adapter) ? { another } : {}),
  };
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
        return E.right(await open(kind, found.right, refusals.map(refusalMessage)));
      } catch (cause) {
        refusals.push({ _tag: "NoAdapter", kind, why: `it does not open: ${why(cause)}` });
      }
    }
    return E.left({ _tag: "NoDevice", request, refusals });
  };
