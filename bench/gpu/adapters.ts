// What Dawn says of the adapters here, with the toggles that the backend sets and with one more, without
// which it offers no f16 on NVIDIA's driver; then whether the device that is asked for opens: the name
// of the device, or status 1 and a sentence.
import * as E from "fp-ts/Either.js";
import { create } from "webgpu";
import { openBackend } from "../../experiments/machines/device.ts";

// Dawn's objects must outlive what is made from them.
const kept: unknown[] = [];

const describe = async (toggles: string, withLimits: boolean): Promise<void> => {
  console.log(`toggles: ${toggles}`);
  const gpu = create([`enable-dawn-features=${toggles}`]) as unknown as GPU;
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  kept.push(gpu, adapter);
  if (adapter === null) return console.log("adapter: none");
  const info = adapter.info as unknown as Readonly<Record<string, unknown>>;
  const words = ["vendor", "architecture", "device", "description"].map((key) => info[key]);
  const { subgroupMinSize, subgroupMaxSize } = info;
  console.log(
    `adapter: ${words.join(", ")}; subgroups of ${subgroupMinSize} to ${subgroupMaxSize}`,
  );
  const features = [...adapter.features].map(String).sort();
  // The summary cuts long lines.
  for (let k = 0; k < features.length; k += 5) {
    console.log(`features: ${features.slice(k, k + 5).join(" ")}`);
  }
  const matrices = (info.subgroupMatrixConfigs ?? []) as readonly Record<string, unknown>[];
  for (const { M, N, K, componentType, resultComponentType } of matrices) {
    console.log(`matrix: ${M} x ${N} x ${K}, ${componentType} to ${resultComponentType}`);
  }
  console.log(`matrices: ${matrices.length}`);
  if (!withLimits) return;
  const limits = adapter.limits as unknown as Readonly<Record<string, number>>;
  for (const key in limits) {
    if (/^(max|min)(Storage|Buffer|Compute|BindGroups)/.test(key)) {
      console.log(`limit: ${key} ${limits[key]}`);
    }
  }
};

const [device = "gpu"] = Deno.args;
const usual = "disable_robustness,disable_polyfills_on_integer_div_and_mod,allow_unsafe_apis";
await describe(usual, true);
await describe(`${usual},vulkan_enable_f16_on_nvidia`, false);
const opened = await openBackend(device);
if (E.isLeft(opened)) {
  console.log(`no device: ${opened.left}`);
  Deno.exit(1);
}
const { backend, notes } = opened.right;
notes.forEach((note) => console.log(`note: ${note}`));
console.log(`device: ${backend.device}`);
Deno.exit(0);
