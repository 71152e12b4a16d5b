// The layout of the tree, read from Deno's own module graph: no cycle of files or of folders, imports
// only downwards through the layers below, no file beside a folder of its name.
import { deepStrictEqual, ok } from "assert";

const root = new URL("../", import.meta.url);

/** Layers, the lowest first; what stands in one may import what stands in lower ones, and in itself. */
const layers: readonly (readonly string[])[] = [
  ["dsl"],
  ["backends", "models"],
  ["experiments/io", "experiments/formats", "experiments/plots"],
  ["experiments/machines", "experiments/encoders", "experiments/data"],
  ["experiments/specs"],
  ["experiments/training", "experiments/evaluation"],
  ["experiments/inspect"],
  ["experiments/runs"],
  ["experiments/commands"],
];

const inTree = (folder: string): readonly string[] =>
  [...Deno.readDirSync(new URL(folder, root))].flatMap(({ name, isDirectory }) =>
    isDirectory ? inTree(`${folder}/${name}`) : name.endsWith(".ts") ? [`${folder}/${name}`] : []
  );
const top = ["dsl", "backends", "models", "experiments"];
const files = top.flatMap(inTree);

/** What each file imports, of the files of this tree; imports of types count. */
const graph = async (): Promise<ReadonlyMap<string, readonly string[]>> => {
  const entry = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    const text = files.map((file) => `import ${JSON.stringify(new URL(file, root).href)};\n`);
    await Deno.writeTextFile(entry, text.join(""));
    const { stdout, success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--config", new URL("deno.json", root).pathname, entry],
    }).output();
    ok(success, new TextDecoder().decode(stderr));
    const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as {
      modules: { specifier: string; dependencies?: Record<string, { specifier?: string }>[] }[];
    };
    const of = (specifier = "") => specifier.startsWith(root.href) ? specifier.slice(root.href.length) : "";
    return new Map(modules.filter(({ specifier }) => files.includes(of(specifier))).map((one) => [
      of(one.specifier),
      (one.dependencies ?? []).flatMap(({ code, type }: any) => [of(code?.specifier), of(type?.specifier)]).filter((x) => files.includes(x)),
    ]));
  } finally {
    await Deno.remove(entry);
  }
};
const imports = await graph();

/** Groups of what reach each other. */
const cyclesOf = (edges: ReadonlyMap<string, ReadonlySet<string>>): readonly (readonly string[])[] => {
  const index = new Map<string, number>(), low = new Map<string, number>();
  const stack: string[] = [], found: string[][] = [];
  const visit = (of: string): void => {
    index.set(of, index.size);
    low.set(of, index.get(of)!);
    stack.push(of);
    for (const to of edges.get(of) ?? []) {
      if (!index.has(to)) {
        visit(to);
        low.set(of, Math.min(low.get(of)!, low.get(to)!));
      } else if (stack.includes(to)) low.set(of, Math.min(low.get(of)!, index.get(to)!));
    }
    if (low.get(of) !== index.get(of)) return;
    const group = stack.splice(stack.indexOf(of));
    if (group.length > 1) found.push(group.sort());
  };
  for (const of of edges.keys()) if (!index.has(of)) visit(of);
  return found;
};
const folderAt = (file: string, depth: number): string => file.split("/").slice(0, depth).join("/");
const between = (name: (file: string) => string): ReadonlyMap<string, ReadonlySet<string>> => {
  const edges = new Map<string, Set<string>>();
  for (const [file, list] of imports) {
    const own = edges.get(name(file)) ?? new Set();
    edges.set(name(file), own);
    for (const to of list) if (name(to) !== name(file)) own.add(name(to));
  }
  return edges;
};

Deno.test("no cycle of files", () => {
  ok(imports.size === files.length, `${imports.size} of ${files.length}`);
  deepStrictEqual(cyclesOf(between((file) => file)), []);
});
for (const depth of [1, 2, 3, 4]) {
  Deno.test(`no cycle of folders, ${depth} deep`, () => deepStrictEqual(cyclesOf(between((file) => folderAt(file, depth))), []));
}
Deno.test("imports go downwards", () => {
  const layerOf = (file: string) => layers.findIndex((list) => list.some((name) => file.startsWith(`${name}/`)));
  const up = [...imports].flatMap(([file, list]) => list.filter((to) => layerOf(to) > layerOf(file)).map((to) => `${file} -> ${to}`));
  deepStrictEqual(up, []);
});
Deno.test("no file beside a folder of its name", () => {
  const folders = new Set(files.map((file) => file.split("/").slice(0, -1).join("/")));
  deepStrictEqual(files.filter((file) => folders.has(file.replace(/\.ts$/, ""))), []);
});
