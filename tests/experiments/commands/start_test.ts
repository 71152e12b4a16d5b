// What starts the command line: an engine with vectors of 256 bits where there are some. That the process
// below is not noticed is seen in main_test.ts, which starts commands in this way.
import { assertMatch, assertNotMatch, assertStrictEquals } from "@std/assert";
import { inFolder } from "../../support/hear/made.ts";

const path = decodeURIComponent(
  new URL("../../../experiments/commands/start.ts", import.meta.url).pathname,
);

const hasWide = Deno.build.arch === "x86_64" &&
  (Deno.build.os !== "linux" || Deno.readTextFileSync("/proc/cpuinfo").includes("avx2"));

/** What a small command says of the device that it runs on. */
const said = async (folder: string, env: Readonly<Record<string, string>> = {}) => {
  const lengths = ["--tokens", "20", "--families", "mamba", "--depth", "1"];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", path, "scaling", ...lengths, "--device", "wasm"].concat(
      ["--out", `${folder}/out`],
    ),
    env: { NO_COLOR: "1", ...env },
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertStrictEquals(code, 0, err);
  return out + err;
};

Deno.test("a command computes with vectors of 256 bits where the processor has them", () =>
  inFolder(async (folder) => {
    assertStrictEquals(/SIMD of 256 bits/.test(await said(folder)), hasWide);
  }));

Deno.test("who sets V8's flags has them as they are set", () =>
  inFolder(async (folder) => {
    const device = await said(folder, { DENO_V8_FLAGS: "--wasm-bounds-checks" });
    assertMatch(device, /SIMD, /);
    assertNotMatch(device, /256 bits/);
  }));
