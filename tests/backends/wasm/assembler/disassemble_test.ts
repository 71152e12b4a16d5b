// The text of functions: every kernel of a program can be printed, and a small one looks like this.
import { assert, assertGreaterOrEqual, assertStrictEquals, assertThrows } from "@std/assert";
import { wasmBackend } from "../../../../backends/wasm/backend.ts";
import { showFunc } from "../../../../backends/wasm/assembler/disassemble.ts";
import { helpers } from "../../../../backends/wasm/simd/micro_kernel.ts";
import { lower } from "../../../../backends/lower/pipeline.ts";
import type { ExpressionKernel } from "../../../../backends/lower/kernel_ir.ts";
import { printElements } from "../../../../backends/wasm/simd/rows.ts";
import * as d from "../../../../dsl/ops.ts";

const engine = { relaxed: true, wide: false };

Deno.test("a map of six elements is one vector of four, and one of two", () => {
  const x = d.input("x", { i: 6 });
  const lowered = lower({ outputs: { y: { of: d.mul(x, x), order: ["i"] } } });
  const kernel = lowered.kernels[0] as ExpressionKernel;
  const [{ func, units }] = printElements(kernel, lowered.stored, engine);
  assertStrictEquals(units, 1);
  assertStrictEquals(
    showFunc(func),
    `(func (param i32 i32 i32 i32) (local i32 i32 i32 i32 i32 v128 v128 i32 i32 i32 v128 v128 i32)
  local.get 0
  i32.load
  local.set 7
  local.get 0
  i32.load offset=4
  local.set 11
  local.get 7
  i32.const 16
  i32.add
  local.set 13
  local.get 13
  v128.load64_zero
  local.set 14
  local.get 14
  local.get 14
  f32x4.mul
  local.set 15
  local.get 11
  i32.const 16
  i32.add
  local.set 16
  local.get 1
  local.set 4
  local.get 4
  local.get 2
  i32.lt_s
  if
    loop
      i32.const 0
      local.set 5
      loop
        local.get 5
        i32.const 2
        i32.shl
        local.set 6
        local.get 7
        local.get 6
        i32.add
        local.set 8
        local.get 8
        v128.load
        local.set 9
        local.get 9
        local.get 9
        f32x4.mul
        local.set 10
        local.get 11
        local.get 6
        i32.add
        local.set 12
        local.get 12
        local.get 10
        v128.store
        local.get 5
        i32.const 4
        i32.add
        local.set 5
        local.get 5
        i32.const 4
        i32.lt_s
        br_if 0
      end
      local.get 16
      local.get 15
      v128.store64_lane 0
      local.get 4
      i32.const 1
      i32.add
      local.set 4
      local.get 4
      local.get 2
      i32.lt_s
      br_if 0
    end
  end
)`,
  );
});

Deno.test("every function of a program has a text", async () => {
  const x = d.input("x", { token: 37, channel: 24 });
  const y = d.contract(d.softmax(x, "channel"), d.input("w", { channel: 24, out: 30 }), "channel");
  const h = d.recurrence("token", d.sigmoid(y), d.tanh(y));
  const machine = await wasmBackend({ threads: 1 }).open({
    main: { outputs: { h: { of: h, order: ["token", "out"] } } },
  });
  const { kernels } = machine.report("main");
  assertGreaterOrEqual(kernels.length, 3);
  for (const { code } of kernels) assert(/^;; \d+ units[^]*\(func[^]*local\.get[^]*\)$/.test(code));
  for (const func of [true, false].flatMap((wide) => helpers({ relaxed: !wide, wide }))) {
    assert(showFunc(func).includes("loop"));
  }
});

Deno.test("bytes that are no instruction are refused", () => {
  assertThrows(
    () => showFunc({ params: 0, locals: [], body: [0x00] }),
    Error,
    "no known instruction",
  );
});
