// `deno task doctor`: opens every kind of device, runs a small program on it, and reports what works,
// what `auto` would choose and why, and what to install.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import { wasmBackend } from "../../backends/wasm/backend.ts";
import { webgpuBackend } from "../../backends/webgpu/backend.ts";
import { type DeviceFeatures, NEEDED_LIMITS } from "../../backends/webgpu/discovery/adapter.ts";
import {
  ADVICE,
  deviceErrorMessage,
  type DeviceKind,
  KINDS,
  openDevice,
  refusalMessage,
} from "../../backends/webgpu/discovery/discover.ts";
import { input, mul } from "../../dsl/ops.ts";
import { commandOf, noWords } from "./command.ts";
import { reasonOf } from "../io/reason.ts";

/** The result of trying one kind of device. */
export type Finding =
  | {
    readonly _tag: "Works";
    readonly kind: DeviceKind;
    readonly name: string;
    readonly features: DeviceFeatures;
    readonly limits: Readonly<Record<string, number>>;
  }
  | { readonly _tag: "Fails"; readonly kind: DeviceKind; readonly why: string };

const SHOWN_LIMITS: readonly string[] = [
  ...Object.keys(NEEDED_LIMITS),
  "maxStorageBufferBindingSize",
  "maxComputeWorkgroupsPerDimension",
];

/** Squares a few numbers; throws if a result is wrong. */
const squares = async (backend: Backend): Promise<void> => {
  const x = input("x", { time: 3 });
  const machine = await backend.open({
    squares: { outputs: { y: { of: mul(x, x), order: ["time"] } } },
  });
  const { y } = await machine.run("squares", { x: Float32Array.of(1, 2, 3) });
  machine.close();
  if (y.join() !== "1,4,9") throw new Error(`the squares of 1, 2, 3 came out as ${y.join(", ")}`);
};

const examine = async (kind: DeviceKind): Promise<Finding> => {
  const found = await openDevice(kind)();
  if (E.isLeft(found)) {
    const error = found.left;
    const why = error._tag === "NoDevice"
      ? error.refusals.map(refusalMessage).join("; ")
      : deviceErrorMessage(error);
    return { _tag: "Fails", kind, why };
  }
  const { device, name, features, close } = found.right;
  try {
    await squares(webgpuBackend(found.right)).finally(close);
    const limits = Object.fromEntries(
      SHOWN_LIMITS.map((limit) => [limit, Number(Reflect.get(device.limits, limit))]),
    );
    return { _tag: "Works", kind, name, features, limits };
  } catch (cause) {
    const why = reasonOf(cause);
    return { _tag: "Fails", kind, why: `${name}: it opens, but does not compute: ${why}` };
  }
};

/** A description of WebAssembly on this machine; on the left, why it does not work. */
const examineWasm = async (): Promise<E.Either<string, string>> => {
  try {
    const backend = wasmBackend();
    await squares(backend).finally(backend.close);
    return E.right(`wasm: works (${backend.device})`);
  } catch (cause) {
    return E.left(reasonOf(cause));
  }
};

const yesNo = (value: boolean): string => value ? "yes" : "no";

const describe = (finding: Finding): readonly string[] =>
  finding._tag === "Fails" ? [`${finding.kind}: no (${finding.why})`] : [
    `${finding.kind}: works (${finding.name})`,
    `    shader-f16 ${yesNo(finding.features.shaderF16)}`,
    `    subgroups ${yesNo(finding.features.subgroups)}`,
    `    timestamp-query ${yesNo(finding.features.timestampQuery)}`,
    `    subgroup-matrix ${yesNo(finding.features.subgroupMatrix)}`,
    ...Object.entries(finding.limits).map(([limit, value]) =>
      `    ${limit} ${value}${limit in NEEDED_LIMITS ? ` (needed: ${NEEDED_LIMITS[limit]})` : ""}`
    ),
  ];

/** The report as lines of text. */
export const doctorReport = (
  findings: readonly Finding[],
  wasm: E.Either<string, string>,
): readonly string[] => {
  const hasGpu = findings.some(({ _tag, kind }) => _tag === "Works" && kind === "gpu");
  return [
    ...findings.flatMap(describe),
    E.isRight(wasm) ? wasm.right : `wasm: no (${wasm.left})`,
    "reference: works (the float64 interpreter, slow)",
    hasGpu
      ? "auto picks gpu: a real GPU goes first"
      : "auto picks wasm: there is no GPU that works, and WebAssembly is faster than a software driver",
    ...(hasGpu ? [] : [`for more speed, ${ADVICE}`]),
  ];
};

/**
 * Prints which devices work on this machine. Gives the exit status: 0 if a GPU or WebAssembly works.
 */
export const doctor = async (): Promise<number> => {
  const { os, arch } = Deno.build;
  console.log(
    `deno ${Deno.version.deno}, ${os} ${arch}, ${navigator.hardwareConcurrency} processors`,
  );
  const findings: Finding[] = [];
  for (const kind of KINDS) findings.push(await examine(kind));
  const wasm = await examineWasm();
  for (const line of doctorReport(findings, wasm)) console.log(line);
  return E.isRight(wasm) || findings.some(({ _tag, kind }) => _tag === "Works" && kind === "gpu")
    ? 0
    : 1;
};

export const command = commandOf({
  summary: "says which devices there are, which one is used, what to install",
  notes: "Lists the devices of this machine, which one would be used, and what to install.",
  words: noWords,
  options: {},
  run: async () => E.right(await doctor()),
});
