// Loops that are not unrolled: the text changes only where it must, and only for software drivers.
import { assert, assertMatch, assertStrictEquals } from "@std/assert";
import { withHiddenBounds } from "../../../../backends/webgpu/wgsl/hide_bounds.ts";
import { compile } from "../../../../backends/webgpu/compile.ts";
import { input, sum } from "../../../../dsl/ops.ts";

const head = `@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
`;

Deno.test("constant bounds of loops become sums with a zero known when the shader runs", () => {
  assertStrictEquals(
    withHiddenBounds(`${head}  for (var k = 0; k < 16; k++) {
    for (var r = lane; r < 100; r += 64) { x[r] = 0.0; }
    for (var h = 32; h > 0; h = h / 2) { workgroupBarrier(); }
    for (var j = 0; j < n; j++) { x[j] = 1.0; }
  }
}
`),
    `${head}  let zero = i32(group.x >> 31u);
  for (var k = 0; k < 16 + zero; k++) {
    for (var r = lane; r < 100 + zero; r += 64) { x[r] = 0.0; }
    for (var h = 32; h > 0; h = h / 2) { workgroupBarrier(); }
    for (var j = 0; j < n; j++) { x[j] = 1.0; }
  }
}
`,
  );
  const straight = `${head}  x[0] = 1.0;\n}\n`;
  assertStrictEquals(withHiddenBounds(straight), straight);
});

Deno.test("drivers that unroll loops get hidden bounds, GPUs get constants", () => {
  const x = input("x", { row: 5000, column: 16 });
  const program = { outputs: { y: { of: sum(x, "column"), order: ["row"] } } };
  const codeFor = (unrolls: boolean): string => {
    const limits = {
      maxStorageBuffersPerShaderStage: 8,
      maxBufferSize: 1 << 28,
      maxStorageBufferBindingSize: 1 << 27,
      minStorageBufferOffsetAlignment: 256,
    } as GPUSupportedLimits;
    const target = { onCpu: unrolls, unrolls };
    return compile(program, { name: "a device", limits, target }).steps[0].code.wgsl;
  };
  assertMatch(codeFor(true), /< 16 \+ zero;/);
  assert(!codeFor(false).includes("zero"));
});
