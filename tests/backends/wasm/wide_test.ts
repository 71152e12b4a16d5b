// Vectors in pairs: the same bits as one by one, whether V8 makes 256 bits of them or not.
import { assert, assertEquals, assertGreater, assertMatch } from "@std/assert";
import { wideFlags } from "../../../backends/wasm/engine.ts";
import { type Results, results } from "./wide_results.ts";

const alone = results(false);

Deno.test("vectors in pairs compute the same bits as one by one", async () => {
  const found = await alone;
  assertGreater(Object.keys(found).length, 100);
  assertGreater(new Set(Object.values(found)).size, 90);
  assertEquals(await results(true), found);
});

Deno.test({
  name: "V8 makes 256 bits of pairs, and they compute the same bits",
  // V8 has the flag for these processors alone.
  ignore: Deno.build.arch !== "x86_64",
  fn: async () => {
    const flags = [...wideFlags, "--trace-wasm-revectorize", "--no-liftoff"].join(",");
    const { stdout, success } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", new URL("./wide_results.ts", import.meta.url).pathname],
      env: { DENO_V8_FLAGS: flags },
      stderr: "inherit",
    }).output();
    assert(success);
    const lines = new TextDecoder().decode(stdout).trim().split("\n");
    const { device, found }: { device: string; found: Results } = JSON.parse(lines.at(-1)!);
    assertMatch(device, /256 bits/);
    assertEquals(found, await alone);
    const looked = lines.filter((line) => line.startsWith("Begin revec")).length;
    // Only processors with AVX2 have such vectors.
    if (looked === 0) {
      return console.log("skipped in part: no vectors of 256 bits on this processor");
    }
    const done = lines.filter((line) => /Decided to vectorize, [1-9]/.test(line)).length;
    assertGreater(done, 150, `${done} of ${looked} functions have vectors of 256 bits`);
  },
});
