// What subgroups do with small matrices, spelled as loops of single invocations. No device of ours has
// units for matrices: this way all that surrounds them is run and compared - tiles, edges, turns, what
// stands before and after a product - and only the spelling of the units themselves is not.
import type { Matrices, MatrixSizes, MatrixSpelling } from "../../backends/webgpu/target.ts";

const spelling = (
  { rows, columns, over }: MatrixSizes,
  subgroup: number,
): MatrixSpelling => {
  // Each invocation of a subgroup has every so-many-th element of a sum. Of what is multiplied it knows
  // the place: the memory does not change before the sums have been made.
  const own = Math.ceil(rows * columns / subgroup);
  const element = `(i32(local) % ${subgroup} + n * ${subgroup})`;
  const each = (body: string) =>
    `for (var n = 0; n < ${own}; n++) { if (${element} < ${rows * columns}) { ${body} } }`;
  return {
    enables: [],
    builtins: [],
    begin: [`let subgroup = local / ${subgroup}u;`],
    zeros: (name) => `var ${name}: array<f32, ${own}>;`,
    load: (name, _side, { at, stride }) => `let ${name} = vec2<i32>(${at}, ${stride});`,
    multiplyAdd: (sum, left, right) => {
      const x = `f32(left[${left}.x + k * ${left}.y + ${element} / ${columns}])`;
      const y = `f32(right[${right}.x + k * ${right}.y + ${element} % ${columns}])`;
      return each(`for (var k = 0; k < ${over}; k++) { ${sum}[n] += ${x} * ${y}; }`);
    },
    store: (sum, { area, at, stride }) => {
      const to = `i32(${at}) + ${element} / ${columns} * ${stride} + ${element} % ${columns}`;
      return each(`${area}[${to}] = ${sum}[n];`);
    },
  };
};

/** Matrices of some sizes, for products of any size. */
export const plainMatrices = (
  component: "f16" | "f32",
  sizes: MatrixSizes,
  subgroup: number,
): Matrices => ({
  ...sizes,
  component,
  subgroup,
  least: 1,
  spelling: spelling(sizes, subgroup),
});
