// Finding a device: the rules as functions, then whatever this machine really has. With
// FORMANT_REQUIRE_WEBGPU=1 a machine without WebGPU fails instead of skipping.
import { deepStrictEqual, match, ok, rejects, strictEqual } from "assert";
import * as E from "fp-ts/Either.js";
import { webgpuBackend } from "../../backends/webgpu/backend.ts";
import {
  type DeviceError,
  deviceErrorMessage,
  deviceRequest,
  isSoftware,
  NEEDED_LIMITS,
  type OpenDevice,
  openDevice,
  shortfalls,
} from "../../backends/webgpu/discover.ts";
import { untar } from "../../backends/webgpu/swiftshader.ts";
import { napAfter } from "../../backends/webgpu/wait.ts";
import { add, input, mul, scalarOf, sum } from "../../dsl/ops.ts";

const required = Deno.env.get("FORMANT_REQUIRE_WEBGPU") === "1";

const use = async (
  found: E.Either<DeviceError, OpenDevice>,
  then: (device: OpenDevice) => Promise<void>,
): Promise<void> => {
  if (E.isLeft(found)) {
    if (required) throw new Error(deviceErrorMessage(found.left));
    console.log(`skipped: ${deviceErrorMessage(found.left)}`);
    return;
  }
  try {
    await then(found.right);
  } finally {
    found.right.close();
  }
};

/** Two times x plus one, and the sum of x, through the backend. */
const computes = async (device: OpenDevice): Promise<void> => {
  const x = input("x", { time: 300 });
  const machine = await webgpuBackend(device).open({
    both: {
      outputs: {
        line: { of: add(mul(x, scalarOf(2)), scalarOf(1)), order: ["time"] },
        total: { of: sum(x, "time"), order: [] },
      },
    },
  });
  const values = Float32Array.from({ length: 300 }, (_, k) => k);
  const { line, total } = await machine.run("both", { x: values });
  machine.close();
  deepStrictEqual(line, values.map((value) => 2 * value + 1));
  deepStrictEqual(total, Float32Array.of(300 * 299 / 2));
};

Deno.test("an unknown device is refused with the names that are known", () => {
  const asked = deviceRequest("gpx");
  ok(E.isLeft(asked));
  strictEqual(
    deviceErrorMessage(asked.left),
    "there is no device 'gpx'; known are auto, gpu, software, swiftshader, navigator",
  );
  deepStrictEqual(deviceRequest("swiftshader"), E.right("swiftshader"));
});

Deno.test("a device that is too small is refused by the name of its limit", () => {
  deepStrictEqual(shortfalls(NEEDED_LIMITS), []);
  for (const [limit, needed] of Object.entries(NEEDED_LIMITS)) {
    deepStrictEqual(shortfalls({ ...NEEDED_LIMITS, [limit]: needed - 1 }), [
      { limit, found: needed - 1, needed },
    ]);
    deepStrictEqual(shortfalls({ ...NEEDED_LIMITS, [limit]: NaN }).map((one) => one.limit), [
      limit,
    ]);
  }
  match(
    deviceErrorMessage({
      _tag: "NoDevice",
      request: "gpu",
      refusals: [{
        _tag: "TooSmall",
        kind: "gpu",
        name: "Small 1",
        shortfalls: shortfalls({ ...NEEDED_LIMITS, maxStorageBuffersPerShaderStage: 8 }),
      }],
    }),
    /Small 1 is too small: maxStorageBuffersPerShaderStage is 8, needed are 10; .*install/,
  );
});

Deno.test("drivers that compute on the processor are told from GPUs", () => {
  const words = { vendor: "", architecture: "", device: "", description: "" };
  ok(isSoftware({ ...words, description: "llvmpipe: Mesa 25.0.7 (LLVM 15.0.6) 0.0.1" }));
  ok(isSoftware({ ...words, vendor: "google", architecture: "swiftshader" }));
  ok(isSoftware({ ...words, isFallbackAdapter: true }));
  ok(!isSoftware({ ...words, vendor: "nvidia", description: "NVIDIA: 560.35.03" }));
  ok(!isSoftware({ ...words, vendor: "intel", architecture: "gen-12lp" }));
});

Deno.test("an archive gives its files back, and one cut short is refused", () => {
  const text = (words: string) => new TextEncoder().encode(words);
  const file = (name: string, bytes: Uint8Array) => {
    const out = new Uint8Array(512 + 512 * Math.ceil(bytes.length / 512));
    out.set(text(name));
    out.set(text(bytes.length.toString(8).padStart(11, "0")), 124);
    out[156] = 0x30;
    out.set(bytes, 512);
    return out;
  };
  const long = Uint8Array.from({ length: 700 }, (_, k) => k % 251);
  const parts = [file("a.json", text("{}")), file("b.so", long), new Uint8Array(1024)];
  const archive = new Uint8Array(parts.flatMap((part) => [...part]));
  deepStrictEqual(untar(archive).map(({ name, bytes }) => [name, [...bytes]]), [
    ["a.json", [...text("{}")]],
    ["b.so", [...long]],
  ]);
  let message = "";
  try {
    untar(archive.subarray(0, 1800));
  } catch (cause) {
    message = String(cause);
  }
  strictEqual(message, "RangeError: the archive ends inside 'b.so'");
});

Deno.test("a nap is a small part of the time waited, and never long", () => {
  strictEqual(napAfter(0), 0);
  for (const waited of [0.1, 1, 10, 39]) ok(napAfter(waited) <= waited / 20 + 1e-9);
  ok(napAfter(1e6) <= 2);
});

for (const request of ["auto", "swiftshader"] as const) {
  Deno.test(`the device '${request}' computes`, async () => {
    await use(await openDevice(request)(), computes);
  });
}

Deno.test("an error of the device that nobody awaited is thrown by the next wait", async () => {
  await use(await openDevice("auto")(), async ({ device, settle }) => {
    device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
    const wait = async () => {
      await settle(device.queue.onSubmittedWorkDone());
      await settle(device.queue.onSubmittedWorkDone());
    };
    await rejects(wait, /MAP|Map/);
    await settle(device.queue.onSubmittedWorkDone());
  });
});

Deno.test("a wait is about as long as the device's own time", async () => {
  await use(await openDevice("auto")(), async ({ device, settle, features }) => {
    if (!features.timestampQuery) {
      console.log("skipped: the device has no timestamps");
      return;
    }
    const module = device.createShaderModule({
      code: `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) at: vec3u) {
  var v = x[at.x];
  for (var k = 0u; k < u32(x[65536]); k++) { v = v * 0.9999 + sin(v) * 0.001; }
  x[at.x] = v;
}`,
    });
    const pipeline = await settle(device.createComputePipelineAsync({
      layout: "auto",
      compute: { module, entryPoint: "main" },
    }));
    const { STORAGE, COPY_SRC, COPY_DST, MAP_READ, QUERY_RESOLVE } = GPUBufferUsage;
    const x = device.createBuffer({ size: 4 * 65537, usage: STORAGE | COPY_DST });
    const marks = device.createQuerySet({ type: "timestamp", count: 2 });
    const resolved = device.createBuffer({ size: 16, usage: QUERY_RESOLVE | COPY_SRC });
    const staging = device.createBuffer({ size: 16, usage: MAP_READ | COPY_DST });
    const bindGroup = device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer: x } }],
    });
    const measure = async (steps: number) => {
      device.queue.writeBuffer(x, 4 * 65536, Float32Array.of(steps));
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass({
        timestampWrites: { querySet: marks, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
      });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(1024);
      pass.end();
      encoder.resolveQuerySet(marks, 0, 2, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
      const start = performance.now();
      device.queue.submit([encoder.finish()]);
      await settle(staging.mapAsync(GPUMapMode.READ));
      const wall = performance.now() - start;
      const [begin, end] = new BigUint64Array(staging.getMappedRange().slice(0));
      staging.unmap();
      return { wall, device: Number(end - begin) / 1e6 };
    };
    let steps = 100;
    while ((await measure(steps)).device < 60 && steps < 1e7) steps *= 2;
    const runs = [];
    for (let k = 0; k < 5; k++) runs.push(await measure(steps));
    const best = Math.min(...runs.map((run) => run.wall / run.device));
    ok(best < 1.1, `wall over device time is ${best.toFixed(2)}: ${JSON.stringify(runs)}`);
  });
});

Deno.test("without installed drivers, SwiftShader is found and computes", async () => {
  const code = `
    import { openDevice, deviceErrorMessage } from "./backends/webgpu/discover.ts";
    import { webgpuBackend } from "./backends/webgpu/backend.ts";
    import { input, mul } from "./dsl/ops.ts";
    const found = await openDevice("auto")();
    if (found._tag === "Left") {
      console.log("none: " + deviceErrorMessage(found.left));
    } else {
      const x = input("x", { time: 3 });
      const machine = await webgpuBackend(found.right).open({
        square: { outputs: { y: { of: mul(x, x), order: ["time"] } } },
      });
      const { y } = await machine.run("square", { x: Float32Array.of(1, 2, 3) });
      console.log(found.right.kind, ...y);
    }`;
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", code],
    cwd: new URL("../..", import.meta.url),
    env: { VK_DRIVER_FILES: "no-such-driver.json" },
  }).output();
  const said = new TextDecoder().decode(stdout).trim();
  ok(success, new TextDecoder().decode(stderr));
  if (said.startsWith("none") && !required) console.log(`skipped: ${said}`);
  else if (Deno.build.os === "linux") strictEqual(said, "swiftshader 1 4 9");
});
