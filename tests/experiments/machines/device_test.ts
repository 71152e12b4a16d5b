// Which device is taken: WebAssembly when it is asked for, and when there is no GPU, saying why.
import { match, ok, strictEqual } from "assert";
import * as E from "fp-ts/Either.js";
import { openBackend } from "../../../experiments/machines/device.ts";
import { openDevice } from "../../../backends/webgpu/discovery/discover.ts";

Deno.test("wasm is a device, and what auto takes where no GPU works", async () => {
  const asked = await openBackend("wasm");
  ok(E.isRight(asked));
  strictEqual(asked.right.backend.name, "wasm");
  match(
    asked.right.backend.device,
    /^WebAssembly \((relaxed )?SIMD( of 256 bits)?, \d+ threads?\)$/,
  );
  asked.right.backend.close();

  const gpu = await openDevice("gpu")();
  if (E.isRight(gpu)) gpu.right.close();
  const auto = await openBackend("auto");
  ok(E.isRight(auto));
  const { backend, notes } = auto.right;
  strictEqual(backend.name, E.isRight(gpu) ? "webgpu" : "wasm");
  if (backend.name === "wasm") match(notes.join("\n"), /GPU.*so this runs as WebAssembly/);
  backend.close();
});
