// What the machine is, and what the Vulkan loader finds on it, asked without Dawn: where Dawn finds no
// device, this says which half is missing, the loader, the driver or what the driver needs.
import { cpus } from "node:os";

/** What nvidia-smi says; most machines have none. */
const nvidia = (): string => {
  try {
    const { stdout, stderr } = new Deno.Command("nvidia-smi").outputSync();
    return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  } catch {
    return "there is no nvidia-smi";
  }
};

const address = (of: Uint8Array<ArrayBuffer>): bigint =>
  Deno.UnsafePointer.value(Deno.UnsafePointer.of(of));

/** A VkInstanceCreateInfo for Vulkan 1.1 without layers and extensions, as 64-bit machines lay it out. */
const instanceInfo = (application: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> => {
  // Of the application only the version, its last word, is not 0.
  new DataView(application.buffer).setUint32(44, 1 << 22 | 1 << 12, true);
  const info = new Uint8Array(64), view = new DataView(info.buffer);
  view.setUint32(0, 1, true);
  view.setBigUint64(24, address(application), true);
  return info;
};

const version = (of: number): string => `${of >>> 22}.${of >>> 12 & 1023}.${of & 4095}`;

const devices = function* (): Generator<string> {
  let vulkan;
  try {
    vulkan = Deno.dlopen("libvulkan.so.1", {
      vkCreateInstance: { parameters: ["buffer", "pointer", "buffer"], result: "i32" },
      vkEnumeratePhysicalDevices: { parameters: ["pointer", "buffer", "buffer"], result: "i32" },
      vkGetPhysicalDeviceProperties: { parameters: ["pointer", "buffer"], result: "void" },
    });
  } catch (error) {
    return yield `no Vulkan loader: ${error instanceof Error ? error.message : error}`;
  }
  const { symbols } = vulkan;
  const application = new Uint8Array(48), instance = new BigUint64Array(1);
  const made = symbols.vkCreateInstance(instanceInfo(application), null, instance);
  // Only its address is passed on, so something must hold the buffer until the call is over.
  if (application.length === 0 || made !== 0) {
    return yield `no Vulkan instance: vkCreateInstance gives ${made}${
      made === -9 ? ", no driver that can be loaded" : ""
    }`;
  }
  const handle = Deno.UnsafePointer.create(instance[0]);
  const count = new Uint32Array(1);
  symbols.vkEnumeratePhysicalDevices(handle, count, null);
  const found = new BigUint64Array(Math.max(1, count[0]));
  symbols.vkEnumeratePhysicalDevices(handle, count, found);
  yield `Vulkan devices: ${count[0]}`;
  for (const one of found.subarray(0, count[0])) {
    // VkPhysicalDeviceProperties is less than a kilobyte: five words, 256 bytes of name, limits.
    const properties = new Uint8Array(4096), view = new DataView(properties.buffer);
    symbols.vkGetPhysicalDeviceProperties(Deno.UnsafePointer.create(one), properties);
    const [api, driver, vendor, , kind] = [0, 4, 8, 12, 16].map((at) => view.getUint32(at, true));
    const name = new TextDecoder().decode(properties.subarray(20, 276)).split("\0")[0];
    yield `Vulkan device: ${name}, Vulkan ${version(api)}, vendor 0x${
      vendor.toString(16)
    }, driver 0x${driver.toString(16)}, kind ${kind}`;
  }
};

const { total } = Deno.systemMemoryInfo();
const { os, arch } = Deno.build;
console.log(`Deno ${Deno.version.deno}, ${os} ${Deno.osRelease()}, ${arch}`);
console.log(`processors: ${cpus().length}, ${cpus()[0]?.model ?? "unknown"}`);
console.log(`memory: ${(total / 2 ** 30).toFixed(1)} GiB`);
console.log(nvidia());
console.log(`VK_DRIVER_FILES: ${Deno.env.get("VK_DRIVER_FILES") ?? "not set"}`);
for (const line of devices()) console.log(line);
// Drivers may crash when they are unloaded.
Deno.exit(0);
