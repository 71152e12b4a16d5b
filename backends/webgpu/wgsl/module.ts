// From printed bodies to a WGSL module: bindings, workgroup memory, and one entry point. Several
// independent bodies can be one module: each has workgroups of its own.
import { infinityBits } from "./scalar.ts";
import type { Storage } from "../../lower/kernel_ir.ts";
import { type Binder, type Binding, inArena, type Packed, sharedNames } from "./bindings.ts";
import { type Emitter, typeOf } from "./emit.ts";

/** The workgroups of a dispatch in each dimension. */
export type Grid = readonly [number, number, number];

/** Memory that the invocations of a workgroup share: an array. */
export interface Area {
  readonly name: string;
  /** The type of its elements. */
  readonly type: string;
  readonly length: number;
}

/** A kernel's statements, and the declarations that they need. */
export interface Body {
  readonly emit: Emitter;
  /** Invocations of a workgroup. */
  readonly workgroup: number;
  readonly areas: readonly Area[];
  readonly grid: Grid;
  readonly flops: number;
  /** Its key in tuning tables. */
  readonly tuned?: string;
  /** WGSL extensions that it needs besides those its values imply. */
  readonly enables?: readonly string[];
  /** Parameters of the entry point that it needs besides the usual ones. */
  readonly builtins?: readonly string[];
}

/** Code ready to become a pipeline and a dispatch. */
export interface Code {
  readonly wgsl: string;
  readonly bindings: readonly Binding[];
  /** Storages with shared bindings, after the others, and their offsets. */
  readonly packed: readonly Packed[];
  /** Invocations of a workgroup. */
  readonly workgroup: number;
  readonly grid: Grid;
  readonly flops: number;
  /** The tuning keys of its kernels. */
  readonly tuned: readonly string[];
}

/** Most workgroups in one dimension of a dispatch. */
export const gridLimit = 65535;

/** A dispatch of `groups` workgroups, folded into two dimensions where one does not hold them. */
export const fold = (groups: number): { readonly x: number; readonly y: number } => {
  if (groups <= gridLimit) return { x: groups, y: 1 };
  const y = Math.ceil(groups / gridLimit);
  return { x: Math.ceil(groups / y), y };
};

/** Workgroups of a grid. */
export const groupsIn = ([x, y, z]: Grid): number => x * y * z;

/**
 * Workgroup arrays of several bodies: of one name and type the largest, as a workgroup runs only
 * one body.
 */
export const sharedAreas = (bodies: readonly Body[]): readonly Area[] => {
  const areas = new Map<string, Area>();
  for (const area of bodies.flatMap((body) => body.areas)) {
    const key = `${area.name} ${area.type}`;
    if (area.length > (areas.get(key)?.length ?? 0)) areas.set(key, area);
  }
  return [...areas.values()];
};

const declarations = (binder: Binder): readonly string[] => {
  const own = binder.bindings(), packed = binder.packed();
  const places = Math.ceil(packed.length / 4);
  // If any storage of a shared buffer is written, the buffer is bound for writing.
  const isPlaced = (storage: Storage) => inArena(storage) || storage.role === "param";
  const writesParams = own.some(({ storage, written }) => written && storage.role === "param");
  const writable = ({ storage, written }: Binding) =>
    written || inArena(storage) || (writesParams && isPlaced(storage));
  return [
    ...own.map((binding) =>
      `var<storage, ${writable(binding) ? "read_write" : "read"}> ${binding.name}: array<${
        typeOf(binding.storage)
      }>;`
    ),
    ...sharedNames(packed).map((name) =>
      `var<storage, read_write> ${name}: array<${name.startsWith("halves") ? "f16" : "f32"}>;`
    ),
    ...(places === 0 ? [] : [`var<uniform> places: array<vec4<u32>, ${places}>;`]),
  ].map((text, k) => `@group(0) @binding(${k}) ${text}`);
};

const indented = (lines: readonly string[]): readonly string[] => lines.map((text) => `  ${text}`);

/** Bodies in parallel: the first workgroups run the first one, and so on. */
const sideBySide = (bodies: readonly Body[]): { grid: Grid; lines: readonly string[] } => {
  const total = bodies.reduce((n, body) => n + groupsIn(body.grid), 0);
  const { x, y } = fold(total);
  let from = 0;
  const branches = bodies.map(({ grid, emit }) => {
    const first = from;
    from += groupsIn(grid);
    const [across, down] = grid;
    return [
      `if (index < ${from}u) {`,
      `  let own = index - ${first}u;`,
      `  let group = vec3<u32>(own % ${across}u, (own / ${across}u) % ${down}u, own / ${
        across * down
      }u);`,
      ...indented(emit.lines()),
      "}",
    ];
  });
  const joined = branches.flatMap((lines, k) =>
    k === 0 ? lines : [`else ${lines[0]}`, ...lines.slice(1)]
  );
  return { grid: [x, y, 1], lines: [`let index = group.x + group.y * ${x}u;`, ...joined] };
};

/** The module of some bodies, all printed with `binder`. */
export const moduleOf = (bodies: readonly Body[], binder: Binder): Code => {
  const [first] = bodies;
  const { grid, lines } = bodies.length === 1
    ? { grid: first.grid, lines: first.emit.lines() }
    : sideBySide(bodies);
  const usesSubgroups = bodies.some((body) => body.emit.usesSubgroups());
  const areas = sharedAreas(bodies);
  const storages = [...binder.bindings(), ...binder.packed()].map(({ storage }) => storage);
  const usesHalves = storages.some((of) => of.half) || areas.some((area) => area.type === "f16");
  const enables = new Set([
    ...usesHalves ? ["f16"] : [],
    ...usesSubgroups ? ["subgroups"] : [],
    ...bodies.flatMap((body) => body.enables ?? []),
  ]);
  const parameters = new Set([
    "@builtin(workgroup_id) group: vec3<u32>",
    "@builtin(local_invocation_id) invocation: vec3<u32>",
    ...usesSubgroups ? ["@builtin(subgroup_invocation_id) sg: u32"] : [],
    ...bodies.flatMap((body) => body.builtins ?? []),
  ]);
  const helpers = [...new Set(bodies.flatMap((body) => body.emit.helpers()))];
  const hasSpecial = [...helpers, ...lines].some((text) => text.includes(infinityBits));
  const wgsl = [
    ...[...enables].map((name) => `enable ${name};`),
    ...declarations(binder),
    ...areas.map(({ name, type, length }) => `var<workgroup> ${name}: array<${type}, ${length}>;`),
    ...hasSpecial ? [`var<private> ${infinityBits}: u32;`] : [],
    ...helpers,
    `@compute @workgroup_size(${first.workgroup})`,
    `fn main(${[...parameters].join(", ")}) {`,
    // Workgroups have one dimension. Mesa's software driver reads memory twice as fast by this
    // index as by the invocation's, which it does not recognise as consecutive.
    "  let local = invocation.x;",
    // No dispatch has 2^24 workgroups, but compilers cannot know that, so they must handle
    // infinity.
    ...hasSpecial ? [`  ${infinityBits} = 0x7f800000u | (group.x >> 24u);`] : [],
    ...indented(lines),
    "}",
    "",
  ].join("\n");
  return {
    wgsl,
    bindings: binder.bindings(),
    packed: binder.packed(),
    workgroup: first.workgroup,
    grid,
    flops: bodies.reduce((n, body) => n + body.flops, 0),
    tuned: bodies.flatMap((body) => body.tuned ?? []),
  };
};
