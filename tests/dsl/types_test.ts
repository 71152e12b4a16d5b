// The promises of the types: good programs check, bad ones are refused with the sentence that says
// what is wrong, the same mistake throws the same sentence at run time, and a large model checks
// quickly. Programs are small generated files in a temporary folder.
import { assert, assertLess, assertStrictEquals, assertThrows } from "@std/assert";
import ts from "typescript";
import * as ops from "../../dsl/ops.ts";
import { AxisError } from "../../dsl/axes.ts";

const face = new URL("../../dsl/ops.ts", import.meta.url).href;
const config = new URL("../../deno.json", import.meta.url).pathname;

const imports = `import { add, contract, expand, flip, gather, input, mul, on, pick, recurrence,
  rename, scalarOf, scan, select, softmax, split, sum } from "${face}";
`;
const leaves = `
const x = input("x", { batch: 8, time: 250, channel: 192 });
const longer = input("longer", { time: 251, channel: 192 });
const unbound = input("unbound", { time: "T", channel: 192 });
const other = input("other", { time: "U" });
const weight = input("weight", { channel: 192, out: 64 });
const words = input("words", { time: 250 }, "u32");
`;

/** What `deno check` says of files by name, each at its own position in the output. */
const check = async (files: Readonly<Record<string, string>>) => {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries(files)) {
      await Deno.writeTextFile(`${folder}/${name}.ts`, text);
    }
    const start = performance.now();
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "check",
        "--quiet",
        "--config",
        config,
        ...Object.keys(files).map((name) => `${folder}/${name}.ts`),
      ],
      env: { NO_COLOR: "1" },
    }).output();
    const seconds = (performance.now() - start) / 1000;
    const text = new TextDecoder().decode(stderr);
    // Each error ends with the place where it is.
    const errors = text.split(/(?=^TS\d+ )/m).filter((one) => one.startsWith("TS"));
    const of = (name: string) => errors.filter((one) => one.includes(`/${name}.ts:`));
    return { success, text, of, seconds };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};

const good = `
const centred = on.sub(x, on(x, sum(x, "channel")));
const y: ReturnType<typeof input<{ batch: 8; time: 250; out: 64 }>> = contract(centred, weight, "channel");
const outer = mul(sum(x, ["batch", "time"]), input("v", { feature: 3 }));
const heads = split(outer, "channel", { head: 4, part: 48 });
const attention = softmax(contract(heads, rename(heads, "head", "key"), ["part", "feature"]), "key");
const symbolic = add(unbound, sum(unbound, "channel"));
const h = recurrence("time", flip(x, "time"), x, { reverse: true });
const { out, final } = scan({ over: "time", from: { h: scalarOf(0) }, each: { x: pick(pick(x, "batch", 0), "channel", 1) } },
  ({ h }, { x }) => ({ next: { h: add(h, x) }, out: { y: mul(h, x) } }));
const back = add(out.y, final.h);
const rows = gather(weight, "out", words);
export const all = [y, attention, symbolic, h, back, rows];
`;

/** A mistake: its code, what the checker says of it, and what a program does that was not checked. */
interface Mistake {
  readonly code: string;
  readonly says: string;
  /** The sentence at run time, where it is not the checker's. */
  readonly throws: string;
}

const mistakes: Readonly<Record<string, Mistake>> = {
  sizes: {
    code: `add(x, longer);`,
    says: `"axis 'time' is 250 on the left but 251 on the right"`,
    throws: "axis 'time' is 250 on the left but 251 on the right",
  },
  symbols: {
    code: `mul(unbound, other);`,
    says: `"axis 'time' is T on the left but U on the right"`,
    throws: "axis 'time' is T on the left but U on the right",
  },
  symbolAndNumber: {
    code: `mul(x, unbound);`,
    says: `"axis 'time' is 250 on the left but T on the right"`,
    throws: "axis 'time' is 250 on the left but T on the right",
  },
  // However the right side was made, the message shows the axes that it has.
  computed: {
    code: `add(x, add(longer, sum(longer, "time")));`,
    says:
      `Argument of type 'Tensor<{ time: 251; channel: 192; }>' is not assignable to parameter of type '"axis 'time' is 250 on the left but 251 on the right"'.`,
    throws: "axis 'time' is 250 on the left but 251 on the right",
  },
  misspelt: {
    code: `sum(x, "chanel");`,
    says:
      `'"chanel"' is not assignable to parameter of type '"batch" | "time" | "channel" | readonly`,
    throws: "axis 'chanel' does not exist here; there is 'batch', 'time', 'channel'",
  },
  renamed: {
    code: `rename(x, "time", "channel");`,
    says: `"axis 'channel' already exists"`,
    throws: "axis 'channel' already exists",
  },
  contracted: {
    code: `contract(x, weight, "out");`,
    says: `'"out"' is not assignable to parameter of type '"channel"`,
    throws: "axis 'out' does not exist here; there is 'batch', 'time', 'channel'",
  },
  contractedSizes: {
    code: `contract(x, longer, "channel");`,
    says: `"axis 'time' is 250 on the left but 251 on the right"`,
    throws: "axis 'time' is 250 on the left but 251 on the right",
  },
  recurrent: {
    code: `recurrence("time", x, longer);`,
    says: `"axis 'time' is 250 on the left but 251 on the right"`,
    throws: "axis 'time' is 250 on the left but 251 on the right",
  },
  lifted: {
    code: `on.add(longer, x);`,
    says: `is not assignable to parameter of type 'Tensor<{`,
    throws: "axis 'batch' does not exist here; there is 'time', 'channel'",
  },
  lookedUp: {
    code: `gather(x, "batch", input("w", { time: 9 }, "u32"));`,
    says: `"axis 'time' is 250 on the left but 9 on the right"`,
    throws: "axis 'time' is 250 on the left but 9 on the right",
  },
  chosen: {
    code: `select(x, longer, longer);`,
    says: `"axis 'time' is 250 on the left but 251 on the right"`,
    throws: "axis 'time' is 250 on the left but 251 on the right",
  },
  carried: {
    code: `scan({ over: "time", from: { h: scalarOf(0) }, each: { x: longer } },
      ({ h }, { x }) => ({ next: { h: add(h, x) }, out: {} }));`,
    says: `is not assignable to type`,
    throws: "the carry 'h' starts as f32 {} but the step makes it f32 { channel: 192 }",
  },
  forgotten: {
    code: `const loss: ReturnType<typeof scalarOf> = sum(x, "time"); on(loss, loss);`,
    says: `is missing the following properties`,
    throws: "",
  },
};

Deno.test("good programs check, and mistakes are refused with the sentence that says what is wrong", async () => {
  const files = Object.entries(mistakes).map(([name, { code }]) =>
    [name, `${imports}${leaves}\n${code}\n`] as const
  );
  const said = await check({ good: imports + leaves + good, ...Object.fromEntries(files) });
  assert(!said.success);
  assertStrictEquals(said.of("good").join("\n"), "");
  for (const [name, { says }] of Object.entries(mistakes)) {
    const errors = said.of(name);
    assertStrictEquals(errors.length, 1, `${name}: ${errors.length} errors\n${errors.join("\n")}`);
    assert(errors[0].includes(says), `${name}: expected ${says}, but it says\n${errors[0]}`);
  }
});

Deno.test("the same mistakes throw the same sentences at run time", () => {
  for (const [name, { code, throws: sentence }] of Object.entries(mistakes)) {
    if (sentence === "") continue;
    const names = Object.keys(ops);
    const run = new Function(...names, `${leaves}\n${code}`);
    const error = assertThrows(() => run(...Object.values(ops)), AxisError, "", name);
    assertStrictEquals(error.message.split("\n")[0], sentence, name);
  }
});

/** A Transformer of twelve blocks written out, so that the checker sees every operation. */
const encoder = () => {
  const block = (k: number) => `
const norm${k} = on.mul(x${k}, input("n${k}", { channel: 192 }));
const q${k} = split(rename(contract(norm${k}, input("q${k}", { channel: 192, o: 192 }), "channel"), "o", "channel"), "channel", { head: 3, feature: 64 });
const k${k} = rename(split(rename(contract(norm${k}, input("k${k}", { channel: 192, o: 192 }), "channel"), "o", "channel"), "channel", { head: 3, feature: 64 }), "time", "key");
const v${k} = rename(split(rename(contract(norm${k}, input("v${k}", { channel: 192, o: 192 }), "channel"), "o", "channel"), "channel", { head: 3, feature: 64 }), "time", "key");
const a${k} = contract(softmax(contract(q${k}, k${k}, "feature"), "key"), v${k}, "key");
const p${k} = contract(a${k}, input("p${k}", { head: 3, feature: 64, channel: 192 }), ["head", "feature"]);
const y${k} = add(x${k}, p${k});
const up${k} = contract(y${k}, input("u${k}", { channel: 192, hidden: 768 }), "channel");
const x${
    k + 1
  } = add(y${k}, contract(up${k}, input("d${k}", { hidden: 768, channel: 192 }), "hidden"));
`;
  const blocks = Array.from({ length: 12 }, (_, k) => block(k));
  return `${imports}
const x0 = input("x", { batch: 8, time: 250, channel: 192 });
${blocks.join("")}
export const result: ReturnType<typeof input<{ batch: 8; time: 250; channel: 192 }>> = x12;
`;
};

Deno.test("an encoder of twelve blocks checks in less than 3 s more than an empty file", async () => {
  const before = await check({ empty: `${imports}export const nothing = input;\n` });
  const after = await check({ encoder: encoder() });
  assert(after.success, after.text);
  const more = after.seconds - before.seconds;
  assertLess(more, 3, `checking takes ${more.toFixed(1)} s more`);
});

Deno.test("an encoder of twelve blocks stays within a budget of type instantiations", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = `${folder}/encoder.ts`;
    await Deno.writeTextFile(file, encoder().replaceAll("file://", ""));
    const program = ts.createProgram([file], {
      strict: true,
      noEmit: true,
      allowImportingTsExtensions: true,
      target: ts.ScriptTarget.ESNext,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      lib: ["lib.esnext.d.ts"],
      types: [],
    });
    const said = program.getSemanticDiagnostics(program.getSourceFile(file))
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
    assertStrictEquals(said.join("\n"), "");
    // 163,000 with TypeScript 5.9: a count, so it does not depend on what else the machine does.
    const count = program.getInstantiationCount();
    assert(count > 10_000 && count < 250_000, `${count} instantiations`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
