// Which device is taken: WebAssembly when it is asked for, and when there is no GPU, saying why.
import { assert, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { openBackend } from "../../../experiments/machines/device.ts";
import { openDevice } from "../../../backends/webgpu/discovery/discover.ts";

Deno.test("wasm is a device, and what auto takes where no GPU works", async () => {
  const asked = await openBackend("wasm");
  assert(E.isRight(asked));
  assertStrictEquals(asked.right.backend.name, "wasm");
  assertMatch(
    asked.right.backend.device,
    /^WebAssembly \((relaxed )?SIMD( of 256 bits)?, \d+ threads?\)$/,
  );
  asked.right.backend.close();

  const gpu = await openDevice("gpu")();
  if (E.isRight(gpu)) gpu.right.close();
  const auto = await openBackend("auto");
  assert(E.isRight(auto));
  const { backend, notes } = auto.right;
  assertStrictEquals(backend.name, E.isRight(gpu) ? "webgpu" : "wasm");
  if (backend.name === "wasm") assertMatch(notes.join("\n"), /GPU.*so this runs as WebAssembly/);
  backend.close();
});
