// Finding a device: the rules as functions, then whatever this machine really has. With
// FORMANT_REQUIRE_WEBGPU=1 a machine without WebGPU fails instead of skipping.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { setImmediate } from "node:timers";
import * as E from "fp-ts/Either.js";
import { webgpuBackend } from "../../../../backends/webgpu/backend.ts";
import {
  isSoftware,
  NEEDED_LIMITS,
  shortfalls,
} from "../../../../backends/webgpu/discovery/adapter.ts";
import {
  type DeviceError,
  deviceErrorMessage,
  deviceRequest,
  type OpenDevice,
  openDevice,
} from "../../../../backends/webgpu/discovery/discover.ts";
import { untar } from "../../../../backends/webgpu/discovery/swiftshader.ts";
import { timeDispatches } from "../../../../backends/webgpu/device/timing.ts";
import { napAfter } from "../../../../backends/webgpu/device/settle.ts";
import { add, constant, contract, input, mul, named, on, sum } from "../../../../dsl/ops.ts";
import { assertSameNumbers } from "../../../support/same_numbers.ts";

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
        line: { of: add(mul(x, constant(2)), constant(1)), order: ["time"] },
        total: { of: sum(x, "time"), order: [] },
      },
    },
  });
  const values = Float32Array.from({ length: 300 }, (_, k) => k);
  const { line, total } = await machine.run("both", { x: values });
  machine.close();
  assertSameNumbers(line, values.map((value) => 2 * value + 1));
  assertSameNumbers(total, Float32Array.of(300 * 299 / 2));
};

Deno.test("an unknown device is refused with the names that are known", () => {
  const asked = deviceRequest("gpx");
  assert(E.isLeft(asked));
  assertStrictEquals(
    deviceErrorMessage(asked.left),
    "there is no device 'gpx'; known are auto, gpu, software, swiftshader, navigator",
  );
  assertEquals(deviceRequest("swiftshader"), E.right("swiftshader"));
});

Deno.test("a device that is too small is refused by the name of its limit", () => {
  assertEquals(shortfalls(NEEDED_LIMITS), []);
  for (const [limit, needed] of Object.entries(NEEDED_LIMITS)) {
    assertEquals(shortfalls({ ...NEEDED_LIMITS, [limit]: needed - 1 }), [
      { limit, found: needed - 1, needed },
    ]);
    assertEquals(shortfalls({ ...NEEDED_LIMITS, [limit]: NaN }).map((one) => one.limit), [
      limit,
    ]);
  }
  assertMatch(
    deviceErrorMessage({
      _tag: "NoDevice",
      request: "gpu",
      refusals: [{
        _tag: "TooSmall",
        kind: "gpu",
        name: "Small 1",
        shortfalls: shortfalls({ ...NEEDED_LIMITS, maxStorageBuffersPerShaderStage: 9 }),
      }],
    }),
    /Small 1 is too small: maxStorageBuffersPerShaderStage is 9, needed are 10; .*install/,
  );
});

Deno.test("drivers that compute on the processor are told from GPUs", () => {
  const words = { vendor: "", architecture: "", device: "", description: "" };
  assert(isSoftware({ ...words, description: "llvmpipe: Mesa 25.0.7 (LLVM 15.0.6) 0.0.1" }));
  assert(isSoftware({ ...words, vendor: "google", architecture: "swiftshader" }));
  assert(isSoftware({ ...words, isFallbackAdapter: true }));
  assert(!isSoftware({ ...words, vendor: "nvidia", description: "NVIDIA: 560.35.03" }));
  assert(!isSoftware({ ...words, vendor: "intel", architecture: "gen-12lp" }));
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
  assertEquals(untar(archive).map(({ name, bytes }) => [name, [...bytes]]), [
    ["a.json", [...text("{}")]],
    ["b.so", [...long]],
  ]);
  let message = "";
  try {
    untar(archive.subarray(0, 1800));
  } catch (cause) {
    message = String(cause);
  }
  assertStrictEquals(message, "RangeError: the archive ends inside 'b.so'");
});

Deno.test("a nap is a small part of the time waited, and never long", () => {
  assertStrictEquals(napAfter(0), 0);
  for (const waited of [0.1, 1, 10, 39]) assertLessOrEqual(napAfter(waited), waited / 20 + 1e-9);
  assertLessOrEqual(napAfter(1e6), 2);
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
    assertMatch((await assertRejects(wait, Error)).message, /MAP|Map/);
    await settle(device.queue.onSubmittedWorkDone());
  });
});

Deno.test("what is awaited comes first, with the device's own words after it", async () => {
  await use(await openDevice("auto")(), async ({ device, settle }) => {
    device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
    assertMatch(
      String(await assertRejects(() => settle(Promise.reject(new Error("the reason"))), Error)),
      /^Error: the reason; .*Map/,
    );
    await settle(device.queue.onSubmittedWorkDone());
  });
});

Deno.test("an error after the last wait is thrown by closing", async () => {
  const found = await openDevice("auto")();
  if (E.isLeft(found)) return await use(found, () => Promise.resolve());
  const { device, close } = found.right;
  device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
  assertThrows(() => webgpuBackend(found.right).close(), Error, "Map");
  close();
});

/** The same device with some properties replaced. */
const withChanges = (device: GPUDevice, changes: Partial<GPUDevice>): GPUDevice =>
  new Proxy(device, {
    get: (target, key) => {
      if (key in changes) return Reflect.get(changes, key);
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });

Deno.test("a kernel that does not compile is named, and its neighbours are not", async () => {
  await use(await openDevice("auto")(), async (opened) => {
    const { device } = opened;
    const broken = withChanges(device, {
      createShaderModule: (module) =>
        device.createShaderModule(
          module.label?.includes("second")
            ? { ...module, code: module.code.replace("fn main(", "fn main(oops ") }
            : module,
        ),
    });
    const x = input("x", { time: 3 });
    const first = named("first", () => sum(x, "time"));
    const second = named("second", () => add(mul(x, on(x, first)), x));
    const opening = webgpuBackend({ ...opened, device: broken }).open({
      both: { outputs: { y: { of: second, order: ["time"] } } },
    });
    assertMatch(
      String(await assertRejects(() => opening, Error)),
      /^Error: the kernel 'second > add' does not compile on .*: .*WGSL[^]*oops/,
    );
    await opened.settle(device.queue.onSubmittedWorkDone());
  });
});

Deno.test("kernels with more values than the device binds reach them through one binding", async () => {
  await use(await openDevice("auto")(), async (opened) => {
    const x = input("x", { row: 8, column: 8 });
    const products = Array.from({ length: 10 }, (_, k) => {
      const w = input(`w${k}`, { column: 8, other: 8 });
      return contract(x, w, "column");
    });
    // All products are outputs, so all are stored and then read by one kernel.
    const order = ["row", "other"];
    const stored = Object.fromEntries(products.map((of, k) => [`p${k}`, { of, order }]));
    const y = products.reduce((a, b) => mul(a, b));
    const program = { outputs: { ...stored, y: { of: y, order } } };
    const values = Object.fromEntries(
      ["x", ...products.map((_, k) => `w${k}`)].map((name, n) => [
        name,
        Float32Array.from({ length: 64 }, (_, k) => Math.sin(n + k) / 3),
      ]),
    );
    const compute = async (told: Readonly<Record<string, number>>, onCpu = opened.onCpu) => {
      const { limits } = opened.device;
      const device = withChanges(opened.device, {
        limits: new Proxy(limits, {
          get: (target, key) => told[key as string] ?? Reflect.get(target, key, target),
        }),
      });
      const machine = await webgpuBackend({ ...opened, onCpu, device }).open({ program });
      const { y } = await machine.run("program", values);
      assert(y.some((value) => value !== 0));
      const codes = machine.report("program").kernels.map(({ code }) => code);
      machine.close();
      const mostOf = (what: RegExp) => Math.max(...codes.map((code) => code.match(what)!.length));
      // A value has a binding of its own, or a place in one that others share.
      const held = mostOf(/> b\d+:|= i32\(places/g);
      return { y, held, most: mostOf(/var<storage/g), text: codes.join("\n") };
    };
    const plain = await compute({});
    assertGreater(plain.held, 10, `no kernel reaches many values: ${plain.held}`);
    if (plain.held <= opened.device.limits.maxStorageBuffersPerShaderStage) {
      assertStrictEquals(plain.most, plain.held, "values share bindings where there are enough");
    }
    for (const onCpu of [true, false]) {
      const packed = await compute({ maxStorageBuffersPerShaderStage: 8 }, onCpu);
      assertLessOrEqual(packed.most, 8, `a kernel still binds ${packed.most}`);
      assertSameNumbers(packed.y, plain.y);
      // Two values fit into a binding: the eleven of the last kernel take six.
      const windows = await compute({
        maxStorageBuffersPerShaderStage: 10,
        maxStorageBufferBindingSize: 512,
      }, onCpu);
      assertLessOrEqual(windows.most, 10, `a kernel still binds ${windows.most}`);
      assertMatch(windows.text, /> arena5: /);
      assertSameNumbers(windows.y, plain.y);
    }
  });
});

/** Awaits as soon as can be, at the price of a processor. */
const spinning = async <T>(promise: Promise<T>): Promise<T> => {
  let waiting = true;
  const turn = () => {
    if (waiting) setImmediate(turn);
  };
  turn();
  try {
    return await promise;
  } finally {
    waiting = false;
  }
};

// Kernels of 0.2 s: a stalled event loop shows as hundreds of milliseconds. Under load both ways of
// waiting are late, so they are compared with each other, in turn.
Deno.test("a wait is hardly longer than one that spins", async () => {
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
    const { STORAGE, COPY_DST } = GPUBufferUsage;
    const x = device.createBuffer({ size: 4 * 65537, usage: STORAGE | COPY_DST });
    const bindGroup = device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer: x } }],
    });
    /** How late one wait is, as a share of the device's own time. */
    const late = async (steps: number, wait: typeof settle) => {
      device.queue.writeBuffer(x, 4 * 65536, Float32Array.of(steps));
      let wall = 0;
      const timed = async <T>(promise: Promise<T>) => {
        const start = performance.now();
        const value = await wait(promise);
        wall = performance.now() - start;
        return value;
      };
      const [own] = await timeDispatches(
        { device, settle: timed },
        [{ pipeline, bindGroup, grid: [1024, 1, 1] }],
      );
      return { own, share: wall / own - 1 };
    };
    let steps = 100;
    while ((await late(steps, settle)).own < 200 && steps < 1e7) steps *= 2;
    const ours: number[] = [], fastest: number[] = [];
    for (let k = 0; k < 5; k++) {
      ours.push((await late(steps, settle)).share);
      fastest.push((await late(steps, spinning)).share);
    }
    const median = (list: readonly number[]) => [...list].sort((a, b) => a - b)[2];
    assertLess(
      median(ours),
      median(fastest) + 0.1,
      `late by shares of the device's time: ${ours} against ${fastest}`,
    );
  });
});

/** What `auto` finds where no driver is installed, and the squares that it computes. */
const withoutDrivers = async (env: Readonly<Record<string, string>>): Promise<string> => {
  const code = `
    import { openDevice, deviceErrorMessage } from "./backends/webgpu/discovery/discover.ts";
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
    cwd: new URL("../../../..", import.meta.url),
    env: { VK_DRIVER_FILES: "no-such-driver.json", ...env },
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim();
};

Deno.test("without installed drivers, SwiftShader is found and computes", async () => {
  const said = await withoutDrivers({});
  if (said.startsWith("none") && !required) console.log(`skipped: ${said}`);
  else if (Deno.build.os === "linux") assertStrictEquals(said, "swiftshader 1 4 9");
});

Deno.test("a cache folder that can not be written does not stop SwiftShader", async () => {
  const taken = await Deno.makeTempFile(), temporary = await Deno.makeTempDir();
  const told = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  const { denoDir } = JSON.parse(new TextDecoder().decode(told.stdout));
  const env = { XDG_CACHE_HOME: taken, TMPDIR: temporary, DENO_DIR: denoDir };
  try {
    const said = await withoutDrivers(env);
    if (said.startsWith("none") && !required) console.log(`skipped: ${said}`);
    else if (Deno.build.os === "linux") assertStrictEquals(said, "swiftshader 1 4 9");
    assertEquals([...Deno.readDirSync(temporary)], [], "the temporary folder is left behind");
  } finally {
    await Deno.remove(taken);
    await Deno.remove(temporary, { recursive: true });
  }
});
