// The changes that `deno task mutants` makes: of code and not of text, kept where they type-check, the
// same for a seed; and a wrong derivative is noticed.
import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { copyTree, failureOf } from "./copies.ts";
import { draw } from "./draw.ts";
import { excused } from "./excused.ts";
import { changed, mutationsOf, shown } from "./mutations.ts";
import { stagesOf } from "./quick.ts";
import { typeChecker } from "./types.ts";

const root = new URL("../../", import.meta.url).pathname;

const after = (source: string): readonly string[] =>
  mutationsOf("a.ts", source).map((one) => changed(source, one));

Deno.test("each kind of change is made where its syntax stands", () => {
  assertEquals(after("a < b;"), [";", "a <= b;"]);
  assertEquals(after("const x = a && b;"), ["a || b", "a", "b"].map((x) => `const x = ${x};`));
  assertEquals(
    after("const x = f(3, y);"),
    ["f(y, 3)", "f(4, y)", "f(2, y)"].map(
      (x) => `const x = ${x};`,
    ),
  );
  assertEquals(
    after("const x = y ? 1000 : 0;"),
    [
      "(1000)",
      "(0)",
      ...["y ? 2000 : 0", "y ? 500 : 0", "y ? 1000 : 1"],
    ].map((x) => `const x = ${x};`),
  );
  assertEquals(after("if (!x) return;"), [
    ...["true as boolean", "false as boolean", "x"].map((x) => `if (${x}) return;`),
  ]);
  assertEquals(after("const x = list.some(f);"), ["const x = list.every(f);"]);
  assertEquals(after("const x = list.filter(f);"), ["const x = list;"]);
  assertEquals(after("const x = -1;"), ["1", "-2", "-0"].map((x) => `const x = ${x};`));
});

Deno.test("what is only text, or changes nothing, is left alone", () => {
  for (
    const source of [
      "throw new AxisError(`${a + 1} is too large`);",
      'import { a } from "./b.ts";',
      "interface A { readonly b: 1 }",
      "type A = 1 | 2;",
      'const x = "1 < 2";',
      'const x = apply("add", a, b);',
      'const x = make.op("i32x4.add", a, b);',
      'const x = op("f32x4.mul", a, b);',
      'const x = op("i32x4.min_u", a, b);',
      "const x = sameAxes(a, b);",
      "const x = describe(a - 1);",
      "const describe = (x: Axes) => `${x.length - 1}`;",
      "const x = withScope(`${a - 1} parts`, f);",
    ]
  ) assertEquals(after(source), [], source);
  // The other function, but not the arguments swapped.
  assertEquals(after("const x = Math.max(a, b);"), ["const x = Math.min(a, b);"]);
  assertEquals(after("const x = madd(a, b, c);"), ["const x = madd(a, c, b);"]);
  assertStrictEquals(after('const x = apply("sub", a, b);').length, 1);
  assertStrictEquals(after('const x = op("f32x4.sub", a, b);').length, 1);
  // Of NaN and a number this is the first.
  assertStrictEquals(after('const x = op("f32x4.pmax", a, b);').length, 1);
  assertStrictEquals(after('const x = op("f32x4.relaxed_madd", a, b, c);').length, 1);
  // A function that is one such instruction, and one that is another.
  const add = 'const add = (a: V, b: V) => op("f32x4.add", a, b);';
  assertEquals(after(`${add} const x = add(y, z);`), []);
  const sub = 'const sub = (a: V, b: V) => op("f32x4.sub", a, b);';
  assertStrictEquals(after(`${sub} const x = sub(y, z);`).length, 2);
  assertStrictEquals(after("const x = withScope(`${a - 1} parts`, () => a - b);").length, 1);
});

Deno.test("a change is shown with the lines that it touches", () => {
  const source = "const x =\n  a < b;\nconst y = 1;\n";
  const [first] = mutationsOf("a.ts", source);
  assertEquals(shown(source, first), { line: 2, before: "a < b;", after: "a <= b;" });
});

Deno.test("the same seed draws the same changes, kinds in turn; another seed others", () => {
  const source = Deno.readTextFileSync(`${root}dsl/grad.ts`);
  const all = mutationsOf("dsl/grad.ts", source);
  const first = draw(all, 1);
  assertEquals(draw(all, 1), first);
  assertStrictEquals(new Set(first).size, all.length);
  const kinds = new Set(all.map(({ kind }) => kind)).size;
  assertStrictEquals(new Set(first.slice(0, kinds).map(({ kind }) => kind)).size, kinds);
  assert(draw(all, 2).some((one, k) => one !== first[k]));
});

Deno.test("only changes that type-check are kept, one at a time", async () => {
  const file = "backends/lower/storage/plan_memory.ts", source = Deno.readTextFileSync(root + file);
  const check = await typeChecker(root, [file]);
  assert(check(file, source));
  assert(!check(file, `${source}\nconst n: number = "";\n`), "a wrong type");
  assert(!check(file, `${source}\nconst n = ;\n`), "wrong syntax");
  assert(check(file, `${source}\nexport const words = new Uint32Array(3);\n`));
  const kept = mutationsOf(file, source).filter((one) => check(file, changed(source, one)));
  assert(kept.length > 20 && kept.length < mutationsOf(file, source).length, `${kept.length}`);
});

Deno.test("a wrong derivative and a hang are noticed in a copy, and nothing else changes", async () => {
  const copy = copyTree(root);
  try {
    const [stage] = stagesOf("dsl/grad.ts"), quick = { files: stage.files.slice(0, 1) };
    assertStrictEquals(await failureOf(copy, quick, 60_000), undefined);
    const file = "dsl/primitives.ts", source = Deno.readTextFileSync(root + file);
    const wrong = source.replace('apply("cos"', 'apply("sin"');
    assert(wrong !== source);
    Deno.writeTextFileSync(`${copy}/${file}`, wrong);
    assert(await failureOf(copy, quick, 60_000) !== undefined);
    Deno.writeTextFileSync(`${copy}/${file}`, `for (;;);\n${source}`);
    const said = await failureOf(copy, quick, 3000);
    assertStrictEquals(said, `hangs in ${quick.files[0]}`);
    assertStrictEquals(Deno.readTextFileSync(root + file), source);
  } finally {
    Deno.removeSync(copy, { recursive: true });
  }
});

Deno.test("each change that is excused is one that could be drawn", () => {
  for (const { file, before, after } of excused) {
    const source = Deno.readTextFileSync(root + file);
    const found = mutationsOf(file, source).map((one) => shown(source, one));
    assert(
      found.some((one) => one.before === before && one.after === after),
      `${file} has no such change any more: ${before}`,
    );
  }
});
