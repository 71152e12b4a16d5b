// The layout of the tree, read from Deno's own module graph: no cycle of files or of folders, imports
// only downwards through the layers below, no file beside a folder of its name.
import { assert, assertEquals, assertGreater, assertStrictEquals } from "@std/assert";

const root = new URL("../", import.meta.url);

/**
 * Layers, the lowest first. A file imports from its own folder here and from the layers below; it is in
 * the layer of the longest path that fits.
 */
const layers: readonly (readonly string[])[] = [
  ["dsl"],
  ["backends", "models"],
  ["backends/runtime"],
  ["experiments/io"],
  ["experiments/formats", "experiments/plots"],
  ["experiments/data", "experiments/encoders", "experiments/machines"],
  ["experiments/specs"],
  ["experiments/evaluation", "experiments/training"],
  ["experiments/inspect"],
  ["experiments/runs"],
  ["experiments/commands"],
];

const inFolder = (folder: string): readonly string[] =>
  [...Deno.readDirSync(new URL(folder, root))].flatMap(({ name, isDirectory }) =>
    isDirectory ? inFolder(`${folder}/${name}`) : name.endsWith(".ts") ? [`${folder}/${name}`] : []
  );
const files = ["dsl", "backends", "models", "experiments"].flatMap(inFolder).sort();

interface Module {
  readonly specifier: string;
  readonly dependencies?: readonly {
    readonly code?: { readonly specifier?: string };
    readonly type?: { readonly specifier?: string };
  }[];
}

/** What each file imports, of the files of this tree; imports of types count. */
const readImports = async (): Promise<ReadonlyMap<string, readonly string[]>> => {
  const entry = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    const lines = files.map((file) => `import ${JSON.stringify(new URL(file, root).href)};\n`);
    await Deno.writeTextFile(entry, lines.join(""));
    const config = decodeURIComponent(new URL("deno.json", root).pathname);
    const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--config", config, entry],
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as {
      readonly modules: readonly Module[];
    };
    const known = new Map(files.map((file) => [new URL(file, root).href, file]));
    const fileOf = (specifier = "") => known.get(specifier) ?? [];
    return new Map(modules.flatMap(({ specifier, dependencies = [] }) => {
      const imported = dependencies.flatMap(({ code, type }) =>
        [code, type].flatMap((to) => fileOf(to?.specifier))
      );
      return [fileOf(specifier)].flat().map((file) => [file, imported] as const);
    }));
  } finally {
    await Deno.remove(entry);
  }
};
const imports = await readImports();

type Edges = ReadonlyMap<string, ReadonlySet<string>>;

/** Groups of two and more that reach each other (Tarjan's strongly connected components). */
const cyclesOf = (edges: Edges): readonly (readonly string[])[] => {
  const index = new Map<string, number>(), low = new Map<string, number>();
  const stack: string[] = [], found: string[][] = [];
  const visit = (from: string): void => {
    index.set(from, index.size);
    low.set(from, index.get(from)!);
    stack.push(from);
    for (const to of edges.get(from) ?? []) {
      if (!index.has(to)) visit(to);
      if (stack.includes(to)) low.set(from, Math.min(low.get(from)!, low.get(to)!));
    }
    if (low.get(from) !== index.get(from)) return;
    const group = stack.splice(stack.indexOf(from));
    if (group.length > 1) found.push(group.sort());
  };
  for (const from of edges.keys()) if (!index.has(from)) visit(from);
  return found;
};

/** The tree as it looks so many folders deep: files there, and folders with all that is in them. */
const at = (depth: number): Edges => {
  const place = (file: string) => file.split("/").slice(0, depth).join("/");
  const edges = new Map<string, Set<string>>();
  for (const [file, imported] of imports) {
    const own = edges.get(place(file)) ?? new Set();
    edges.set(place(file), own);
    for (const to of imported) if (place(to) !== place(file)) own.add(place(to));
  }
  return edges;
};

Deno.test("all files are in the graph, and most import another", () => {
  assertStrictEquals(imports.size, files.length);
  assertGreater([...imports.values()].filter((to) => to.length > 0).length, files.length / 2);
});

Deno.test("a cycle is found, of two and of more", () => {
  const edges = new Map(
    Object.entries({ a: ["b"], b: ["c"], c: ["a", "d"], d: ["e"], e: ["d"], f: ["a"] })
      .map(([from, to]) => [from, new Set(to)]),
  );
  assertEquals(cyclesOf(edges), [["d", "e"], ["a", "b", "c"]]);
});

for (const depth of [1, 2, 3, 4, 5]) {
  Deno.test(`no cycle of files or folders, ${depth} deep`, () => {
    assertEquals(cyclesOf(at(depth)), []);
  });
}

Deno.test("imports go downwards through the layers", () => {
  const layerOf = (file: string) =>
    layers.findLastIndex((folders) => folders.some((folder) => file.startsWith(`${folder}/`)));
  assertEquals(files.filter((file) => layerOf(file) < 0), []);
  const upward = [...imports].flatMap(([file, imported]) =>
    imported.filter((to) => layerOf(to) > layerOf(file)).map((to) => `${file} imports ${to}`)
  );
  assertEquals(upward, []);
});

Deno.test("a model imports no backend", () => {
  const backends = [...imports].flatMap(([file, imported]) =>
    file.startsWith("models/") ? imported.filter((to) => to.startsWith("backends/")) : []
  );
  assertEquals(backends, []);
});

Deno.test("no file stands beside a folder of its name", () => {
  const folders = new Set(files.map((file) => file.split("/").slice(0, -1).join("/")));
  assertEquals(files.filter((file) => folders.has(file.replace(/\.ts$/, ""))), []);
});
