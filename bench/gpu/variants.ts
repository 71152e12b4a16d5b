// The project with one thing changed, to see what the thing costs or brings: edits of a copy of the
// tree, as most of what is tried here is not to be an option of the backend.
import { copyTree } from "./tree.ts";

/** A text of a file, and what stands there instead. */
export interface Edit {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const dawn = "backends/webgpu/discovery/dawn.ts";
const toggle = (name: string): Edit => ({
  file: dawn,
  from: '"enable-dawn-features=',
  to: `"enable-dawn-features=${name},`,
});

/** What can be tried, by name. */
export const VARIANTS = {
  // Dawn offers no f16 on NVIDIA's driver, and so no products of halves by matrices, unless it is told to.
  "f16": [toggle("vulkan_enable_f16_on_nvidia")],
  "f16 without matrices": [
    toggle("vulkan_enable_f16_on_nvidia"),
    {
      file: "backends/webgpu/discovery/adapter.ts",
      from: "subgroupMatrix: adapter.features.has(MATRICES)",
      to: "subgroupMatrix: false",
    },
  ],
  "1024 workgroups fill it": [{
    file: "backends/webgpu/target.ts",
    from: "export const fewGroups = 128;",
    to: "export const fewGroups = 1024;",
  }],
  "a workgroup for each row": [{
    file: "backends/webgpu/schedules.ts",
    from: "export const manyRows = 1024;",
    to: "export const manyRows = 2 ** 30;",
  }],
  "workgroup memory not cleared": [toggle("disable_workgroup_init")],
  "with bounds checks": [{ file: dawn, from: "disable_robustness,", to: "" }],
} as const satisfies Readonly<Record<string, readonly Edit[]>>;

/** The name of a variant. */
export type Variant = keyof typeof VARIANTS;

/** A text after edits; an Error names the first that finds nothing to change. */
export const edited = (text: string, edits: readonly Edit[]): string =>
  edits.reduce((now, { file, from, to }) => {
    if (!now.includes(from)) throw new Error(`'${from}' does not stand in ${file}`);
    return now.replace(from, () => to);
  }, text);

/** Makes a copy of the tree at `from` with a variant's edits. */
export const makeVariant = async (from: string, to: string, variant: Variant): Promise<void> => {
  await copyTree(from, to);
  for (const file of new Set(VARIANTS[variant].map(({ file }) => file))) {
    const text = await Deno.readTextFile(`${to}/${file}`);
    const own = VARIANTS[variant].filter((edit) => edit.file === file);
    await Deno.writeTextFile(`${to}/${file}`, edited(text, own));
  }
};
