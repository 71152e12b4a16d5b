// The published numbers, on the reference interpreter, on WebGPU and as WebAssembly.
import { assertEquals, assertGreater, assertMatch, assertRejects } from "@std/assert";
import { checkGolden, GoldenError } from "../experiments/commands/golden.ts";
import { referenceBackend } from "../backends/reference/backend.ts";
import type { Backend } from "../backends/backend.ts";
import { wasm, webgpu } from "./support/device.ts";

const folder = new URL("./golden/", import.meta.url);
const files = [...Deno.readDirSync(folder)].map((entry) => entry.name)
  .filter((name) => name.endsWith(".safetensors")).sort();
const path = (name: string) => decodeURIComponent(new URL(name, folder).pathname);

const holds = async (name: string, backend: Backend) => {
  const rows = await checkGolden(path(name), backend);
  assertGreater(rows.length, 0, `${name} has nothing to compare`);
  const bad = rows.filter((row) => !row.ok)
    .map((row) =>
      `${row.tensor}: rel ${row.rel.toExponential(1)}, abs ${row.abs.toExponential(1)}`
    );
  assertEquals(bad, []);
};

// The full-size model takes minutes in float64; it runs on devices only.
for (const name of files.filter((name) => !name.startsWith("tiny_"))) {
  Deno.test(`golden ${name} on the reference`, () => holds(name, referenceBackend()));
}
for (const name of files) {
  Deno.test({
    name: `golden ${name} on WebGPU`,
    ignore: webgpu === undefined,
    fn: () => holds(name, webgpu!),
  });
  Deno.test(`golden ${name} on WebAssembly`, () => holds(name, wasm));
}

Deno.test("a golden with one wrong number does not hold", async () => {
  const bytes = await Deno.readFile(path("prim_gelu.safetensors"));
  const folder = await Deno.makeTempDir();
  try {
    const header = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const { ["output.y"]: entry } = JSON.parse(
      new TextDecoder().decode(bytes.slice(8, 8 + header)),
    );
    new DataView(bytes.buffer).setFloat32(8 + header + entry.data_offsets[0], 5, true);
    await Deno.writeFile(`${folder}/prim_gelu.safetensors`, bytes);
    const rows = await checkGolden(`${folder}/prim_gelu.safetensors`, referenceBackend());
    assertEquals(rows.filter((row) => !row.ok).map((row) => row.tensor), ["output.y"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("what is no golden is refused with a sentence", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const whole = await Deno.readFile(path("prim_gelu.safetensors"));
    await Deno.writeFile(`${folder}/prim_unknown.safetensors`, whole);
    await Deno.writeFile(`${folder}/prim_gelu.safetensors`, whole.slice(0, whole.length - 9));
    const refused = async (name: string, pattern: RegExp) => {
      const error = await assertRejects(
        () => checkGolden(`${folder}/${name}`, referenceBackend()),
        GoldenError,
      );
      assertMatch(error.message, pattern);
    };
    await refused("prim_unknown.safetensors", /'prim_unknown' is no known golden; known are /);
    await refused("prim_gelu.safetensors", /is cut/);
    await refused("missing.safetensors", /can not be read/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
